from ipaddress import IPv4Network
from pathlib import Path

from fedge_local.network import Detour, Impairment, Subnet, _table, tag_of

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


def test_table_has_the_rules_of_each_edge_and_no_others() -> None:
    subnet = Subnet(network=IPv4Network("198.18.5.0/24"), tag="a1b2c3")
    text = _table(
        subnet,
        {
            0: Impairment(drops_up=True, loss_percent=0.5),
            3: Impairment(drops_down=True, detour=Detour(port=5672, to=4711)),
        },
    )
    assert text == (
        "table ip fedge_a1b2c3 {\n"
        "  chain detour { type nat hook prerouting priority -100;"
        " ip saddr 198.18.5.5 tcp dport 5672 redirect to :4711; }\n"
        "  chain input { type filter hook input priority 0; ip saddr 198.18.5.2 drop;"
        " ip saddr 198.18.5.2 numgen random mod 10000 < 50 drop;"
        " ip saddr 198.18.5.5 tcp dport 5672 reject with tcp reset; }\n"
        "  chain output { type filter hook output priority 0;"
        " ip daddr 198.18.5.2 numgen random mod 10000 < 50 drop; ip daddr 198.18.5.5 drop; }\n"
        "}\n"
    )
