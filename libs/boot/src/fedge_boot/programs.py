"""What runs in the container: the broker, and the edge services in one process."""

import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedge_boot.settings import Settings
from fedge_enrolment.dialling import Address, proxy_for
from fedge_enrolment.identity import FOLDER as IDENTITY_FOLDER
from fedge_enrolment.identity import Identity, Joined
from fedge_enrolment.names import BROKER, BROKER_PORT
from fedge_fabric.definitions import Certificate, User, edge_definitions
from fedge_local.commands import environment as plain_environment
from fedge_local.processes import Machine
from fedge_local.rabbitmq import EDGE_PLUGINS, RabbitMQ
from fedge_sealing import write_private

SERVICES: Final = ("meta", "edged", "twin")
LOOPBACK: Final = "127.0.0.1"
INNER: Final = "127.70.101.100"
"""Of the loopback network too, but nobody dials it who is not told of it: where the broker listens
while a message that it confirms might be lost with its data (`fedge_boot.versions`)."""
FORWARD: Final = f"{LOOPBACK}:5670"
"""What the links dial where only a proxy leads to the cloud."""
ABOUT: Final = Path("/run/fedge-s6/about.json")
"""What `fedge_boot.health` and edged are told."""
READY_FD: Final = 3
"""Where the services tell s6 that all of them are ready."""
_FOR_NOBODY_ELSE: Final = frozenset({"FEDGE_JOIN_TOKEN", "FEDGE_JOIN_TOKEN_FILE"})
# Of what is freed glibc gives back what lies above this at the end of the heap, and it has one heap
# for all threads: after a burst the process is small again.
_SMALL: Final = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program that is kept running."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    tells_ready: bool = False
    """Whether it writes a line to `READY_FD` once it is ready."""
    grace_seconds: int = 20
    """So long it may take to end when it is asked to."""


def identity_of(settings: Settings, environment: Mapping[str, str]) -> Identity:
    """Return where what proves who this gateway is lies."""
    return Identity.of(settings.data / IDENTITY_FOLDER, environment)


async def prepare(
    settings: Settings,
    environment: Mapping[str, str],
    joined: Joined,
    *,
    is_closed: bool = False,
) -> tuple[Program, Program]:
    """Write what the broker reads, and return the broker and the services.

    Args:
        settings: of the container.
        environment: of the container.
        joined: as whom the gateway joined, and where its links lead.
        is_closed: whether devices and all others but the services are kept out.
    """
    address = INNER if is_closed else LOOPBACK
    identity = identity_of(settings, environment)
    admin = User(name="fedge", password=_kept_password(settings.data / "broker-password"))
    is_forwarded = proxy_for(Address.parse(joined.broker, BROKER_PORT)) is not None
    dialled = FORWARD if is_forwarded else joined.broker
    broker = RabbitMQ(
        name="rabbitmq",
        folder=settings.data / "rabbitmq",
        place=Machine(),
        definitions=edge_definitions(
            node=joined.node,
            admin=admin,
            link=Certificate(
                certificate=identity.certificate,
                key=identity.key,
                authorities=identity.authorities,
                server_name=BROKER,
            ),
            cloud=dialled,
        ),
        listen=[(address, settings.amqp_port)],
        dist_port=settings.dist_port,
        plugins=EDGE_PLUGINS,
        # devices come from the host's network
        mqtt=(address if is_closed else "0.0.0.0", settings.mqtt_port),  # noqa: S104
        mqtt_anonymous=settings.anonymous,
        memory_bytes=settings.broker_memory_bytes,
        is_small=True,
    )
    broker.folder.mkdir(exist_ok=True)
    await broker.prepare()
    account = f"{admin.name}:{admin.password}"
    given = {name: value for name, value in environment.items() if name not in _FOR_NOBODY_ELSE}
    return (
        Program(
            name="broker",
            command=broker.command(),
            environment=plain_environment(dict(broker.variables())),
        ),
        Program(
            name="services",
            command=[sys.executable, "-m", "fedge_service", *SERVICES],
            environment={
                **_SMALL,
                "FEDGE_EDGED_POD_LOG_DIR": str(settings.data / "pod-logs"),
                "FEDGE_EDGED_RUN_DIR": str(settings.in_memory / "edged"),
                "FEDGE_META_API_EDGED_SOCKET": str(settings.in_memory / "edged" / "edged.sock"),
                "FEDGE_EDGED_SECCOMP_PROFILE_DIR": str(settings.data / "seccomp"),
                **given,
                "FEDGE_SERVICE_READY_FD": str(READY_FD),
                "FEDGE_EDGED_BOOT_FILE": str(ABOUT),
                "FEDGE_EDGE_NODE_NAME": joined.node,
                "FEDGE_EDGE_DATA_DIR": str(settings.data),
                "FEDGE_EDGE_AMQP_URL": f"amqp://{account}@{address}:{settings.amqp_port}/",
                "FEDGE_EDGED_CRI_SOCKET": str(settings.socket),
                "FEDGE_META_BROKER_COMMAND": json.dumps(broker.asking("fedge-links")),
                "FEDGE_META_CLOUD_ADDRESS": dialled,
                "FEDGE_META_FORWARD_TO": joined.broker if is_forwarded else "",
                "FEDGE_TWIN_BROKER_COMMAND": json.dumps(broker.asking("fedge-accounts")),
                "FEDGE_TWIN_MQTT_URL": f"mqtt://{account}@{address}:{settings.mqtt_port}",
            },
            tells_ready=True,
        ),
    )


def _kept_password(path: Path) -> str:
    """Return the password of the services at their own broker, made once."""
    try:
        if kept := path.read_text():
            return kept
    except FileNotFoundError:
        pass
    made = secrets.token_urlsafe(24)
    write_private(path, made.encode())
    return made
