"""The cloud's own services at the cloud's broker: by certificate, as the deployment has them."""

from pathlib import Path

import pytest

from fedge_enrolment.authority import SERVICES
from fedge_fabric import Address, Envelope, MessageClass, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from tests.security.conftest import VICTIM, Node, System, until

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]


def url_of(system: System, certificate: Path, key: Path, authorities: Path) -> str:
    """Return the address of the broker as deploy/k8s gives it to a service."""
    host, port = system.stack.subnet.cloud_address, system.stack.ports["amqps"]
    files = f"cafile={authorities}&certfile={certificate}&keyfile={key}"
    return f"amqps://{host}:{port}/?auth=external&{files}"


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_logs_in_with_its_certificate_and_works(
    service: str, system: System
) -> None:
    folder = system.stack.kubeconfig.parent / "cloud" / "rabbitmq-tls"
    files = (folder / f"client-{service}.crt", folder / f"client-{service}.key", folder / "ca.crt")
    heard: list[Envelope] = []

    async def on_message(delivery: Delivery) -> None:
        heard.append(delivery.envelope)

    url = url_of(system, *files)
    fabric = Fabric(url, service=f"test-{service}", exchanges=t.CLOUD_EXCHANGES)
    queue = t.Queue(f"test.{service}", (t.Binding(t.CONTROL, "probe"),), exclusive=True)
    fabric.subscribe(queue, on_message)
    async with fabric.running():
        told = Envelope(type=kinds.RESYNC_ASKED, source="/cloud/test", data={"node": "none"})
        await fabric.publish(told, exchange=t.CONTROL, routing_key="probe")
        await until(lambda: heard, "the service hears what it said")

        async def is_seen() -> bool:
            found = await system.manage("GET", "connections")
            return f"urn:fedge:service:{service}" in {each["user"] for each in found}

        await until(is_seen, "the broker knows it by its certificate")


async def test_a_node_does_not_pass_for_a_service(system: System, mallory: Node) -> None:
    identity = mallory.identity
    url = url_of(system, identity.certificate, identity.key, identity.authorities)
    with pytest.raises(Exception, match=r"ACCESS_REFUSED|access to exchange"):
        await _command_a_node(url)


async def _command_a_node(url: str) -> None:
    fabric = Fabric(url, service="test", exchanges=t.CLOUD_EXCHANGES)
    to = Address(VICTIM, MessageClass.REQUEST, ("digest",))
    told = Envelope(type=kinds.DIGEST_ASKED, source="/cloud/hub", data={"prefixes": []})
    async with fabric.running():
        await fabric.publish(told, exchange=t.DOWN, routing_key=str(to))
