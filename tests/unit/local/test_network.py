from ipaddress import IPv4Network
from pathlib import Path

from fedge_local.network import Subnet, tag_of

KERNEL_NAME_LENGTH = 15


def test_names_of_devices_fit_the_kernel() -> None:
    subnet = Subnet(network=IPv4Network("198.18.5.0/24"), tag="a1b2c3")
    assert len(subnet.bridge) <= KERNEL_NAME_LENGTH
    assert len(subnet.cable(250)) <= KERNEL_NAME_LENGTH


def test_addresses_of_cloud_and_edges_differ() -> None:
    subnet = Subnet(network=IPv4Network("198.18.5.0/24"), tag="a1b2c3")
    addresses = [subnet.cloud_address, *(subnet.edge_address(index) for index in range(100))]
    assert len(set(addresses)) == len(addresses)
    assert subnet.cloud_address == "198.18.5.1"


def test_stacks_in_different_folders_have_different_names() -> None:
    assert tag_of(Path("/var/lib/one")) != tag_of(Path("/var/lib/two"))
