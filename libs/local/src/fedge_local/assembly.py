"""Which parts a stack has, and how they are told about each other."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from fedge_enrolment.authority import SERVICES
from fedge_enrolment.names import user_of_service
from fedge_fabric.definitions import User, cloud_definitions
from fedge_local import network
from fedge_local.edge import Edge
from fedge_local.processes import Machine
from fedge_local.programs import Program
from fedge_local.rabbitmq import TLS_PLUGINS, RabbitMQ, Tls
from fedge_local.redis import Redis
from fedge_local.servers import Server
from fedge_local.state import StackState

ADMIN = "fedge"
"""The user of the services, at every broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that a stack consists of."""

    subnet: network.Subnet
    rabbitmq: RabbitMQ
    redis: Redis
    apiserver: Program
    hub: Program
    controller: Program
    device: Program
    edges: Mapping[str, Edge]

    @property
    def listening(self) -> list[tuple[str, Server]]:
        """The servers with a port of the machine, by the port's name."""
        return [
            ("amqp", self.rabbitmq),
            ("amqp-dist", self.rabbitmq),
            ("amqps", self.rabbitmq),
            ("management", self.rabbitmq),
            ("redis", self.redis),
            ("apiserver", self.apiserver),
            ("hub", self.hub),
            ("enrolment", self.hub),
        ]

    def __iter__(self) -> Iterator[tuple[str, Server]]:
        """Return every server and where it runs."""
        cloud: list[Server] = [
            self.rabbitmq, self.redis, self.apiserver, self.hub, self.controller, self.device,
        ]  # fmt: skip
        yield from (("cloud", each) for each in cloud)
        for name, edge in self.edges.items():
            yield from ((name, each) for each in edge.servers)


def kubeconfig_of(folder: Path) -> Path:
    """Return the administrator's kubeconfig of the embedded Kubernetes API."""
    return folder / "kubeconfig"


def amqp_url_of(state: StackState) -> str:
    """Return the cloud's broker, with its administrator's password."""
    return f"amqp://{ADMIN}:{state.password}@127.0.0.1:{state.ports['amqp']}/"


def hub_url_of(state: StackState) -> str:
    """Return hub's web address."""
    return f"http://127.0.0.1:{state.ports['hub']}"


def assemble(folder: Path, state: StackState) -> Parts:
    """Return the parts of the stack in ``folder``; nothing is started."""
    subnet = network.Subnet(network=IPv4Network(state.network), tag=network.tag_of(folder))
    admin = User(name=ADMIN, password=state.password)
    machine = Machine()
    amqp = state.ports["amqp"]
    amqps = f"{subnet.cloud_address}:{state.ports['amqps']}"
    enrolment = f"{subnet.cloud_address}:{state.ports['enrolment']}"
    cloud = folder / "cloud"

    def program(name: str, settings: Mapping[str, str]) -> Program:
        return Program(
            name=name,
            services=(name,),
            folder=cloud / name,
            place=machine,
            settings={**settings, **state.settings},
        )

    return Parts(
        subnet=subnet,
        rabbitmq=RabbitMQ(
            name="rabbitmq",
            folder=cloud / "rabbitmq",
            place=machine,
            definitions=cloud_definitions(
                admin=admin,
                nodes={},
                admin_tags="administrator",
                services=[user_of_service(name) for name in SERVICES],
            ),
            listen=[("127.0.0.1", amqp)],
            dist_port=state.ports["amqp-dist"],
            plugins=TLS_PLUGINS,
            management=("127.0.0.1", state.ports["management"]),
            tls=Tls(
                address=subnet.cloud_address,
                port=state.ports["amqps"],
                folder=cloud / "rabbitmq-tls",
            ),
        ),
        redis=Redis(folder=cloud / "redis", place=machine, port=state.ports["redis"]),
        apiserver=program(
            "apiserver",
            {
                "FEDGE_APISERVER_DATA_DIR": str(cloud / "apiserver"),
                "FEDGE_APISERVER_HOST": "127.0.0.1",
                "FEDGE_APISERVER_PORT": str(state.ports["apiserver"]),
                "FEDGE_APISERVER_KUBECONFIG": str(kubeconfig_of(folder)),
                "FEDGE_APISERVER_HUB_URL": hub_url_of(state),
                "FEDGE_APISERVER_HUB_TOKEN": state.password,
            },
        ),
        hub=program(
            "hub",
            {
                "FEDGE_HUB_AMQP_URL": amqp_url_of(state),
                "FEDGE_HUB_REDIS_URL": f"redis://127.0.0.1:{state.ports['redis']}/0",
                "FEDGE_HUB_HTTP_HOST": "127.0.0.1",
                "FEDGE_HUB_HTTP_PORT": str(state.ports["hub"]),
                "FEDGE_HUB_HTTP_TOKEN": state.password,
                "FEDGE_HUB_ENROLMENT_RECORDS": "kubernetes",
                "FEDGE_HUB_ENROLMENT_KUBECONFIG": str(kubeconfig_of(folder)),
                "FEDGE_HUB_ENROLMENT_HOST": subnet.cloud_address,
                "FEDGE_HUB_ENROLMENT_PORT": str(state.ports["enrolment"]),
                "FEDGE_HUB_ENROLMENT_ADDRESS": enrolment,
                "FEDGE_HUB_ENROLMENT_BROKER_ADDRESS": amqps,
                "FEDGE_HUB_ENROLMENT_BROKER_FORWARD": amqps,
                "FEDGE_HUB_ENROLMENT_TLS_DIR": str(cloud / "rabbitmq-tls"),
                "FEDGE_HUB_ENROLMENT_SERVER_NAMES": json.dumps([subnet.cloud_address]),
                "FEDGE_HUB_ENROLMENT_MANAGEMENT_URL": (
                    f"http://{ADMIN}:{state.password}@127.0.0.1:{state.ports['management']}"
                ),
            },
        ),
        controller=program(
            "controller",
            {
                "FEDGE_CONTROLLER_AMQP_URL": amqp_url_of(state),
                "FEDGE_CONTROLLER_KUBECONFIG": str(kubeconfig_of(folder)),
            },
        ),
        device=program(
            "device",
            {
                "FEDGE_DEVICE_AMQP_URL": amqp_url_of(state),
                "FEDGE_DEVICE_KUBECONFIG": str(kubeconfig_of(folder)),
            },
        ),
        edges={
            name: _edge(
                state,
                name=name,
                folder=folder / "edges" / name,
                subnet=subnet,
                index=edge.index,
                admin=User(name=ADMIN, password=edge.password),
                cloud=amqps,
                kubeconfig=kubeconfig_of(folder),
                settings=state.settings,
                disk_bytes=state.edge_disk_bytes,
                fake_clock=state.fake_clock,
            )
            for name, edge in state.edges.items()
        },
    )


def _edge(state: StackState, **options: Any) -> Edge:
    """Return an edge, from the image if the stack's edges are."""
    if not state.edge_image:
        return Edge(**options)
    # most stacks have none
    from fedge_local.contained import ContainedEdge  # noqa: PLC0415

    return ContainedEdge(image=Path(state.edge_image), **options)
