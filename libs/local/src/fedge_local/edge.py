"""One edge of a stack: a host with its broker, its containerd and the edge services."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from fedge_enrolment.identity import FOLDER as IDENTITY_FOLDER
from fedge_enrolment.identity import Identity
from fedge_enrolment.names import BROKER
from fedge_fabric.definitions import Certificate, User, edge_definitions
from fedge_local import network
from fedge_local.commands import run
from fedge_local.containerd import SOCKET, Containerd
from fedge_local.disks import Disk
from fedge_local.fake_clock import FakeClock
from fedge_local.hosts import EdgeHost
from fedge_local.programs import Program
from fedge_local.rabbitmq import EDGE_PLUGINS, RabbitMQ
from fedge_local.servers import START_SECONDS, Server
from fedge_objects import NodeName
from fedge_sealing import write_private

AMQP_PORT = 5672
MQTT_PORT = 1883
_DIST_PORT = 25672
FORWARD_PORT = 5670
"""At which an edge's links are taken to be passed on through a proxy."""
_MEMORY_BYTES = 256_000_000
SERVICES = ("meta", "edged", "twin")
JOIN_SECONDS = 60.0
"""For so long a cloud that is still starting is waited for."""
_FEDGE = (sys.executable, "-m", "fedge_cli")


def _shown_by(identity: Identity) -> Certificate:
    return Certificate(
        certificate=identity.certificate,
        key=identity.key,
        authorities=identity.authorities,
        server_name=BROKER,
    )


class Edge:
    """An edge that can be started, cut off, and lose its power."""

    def __init__(
        self,
        *,
        name: str,
        folder: Path,
        subnet: network.Subnet,
        index: int,
        admin: User,
        cloud: str,
        kubeconfig: Path,
        settings: Mapping[str, str],
        disk_bytes: int = 0,
        fake_clock: bool = False,
    ) -> None:
        """Describe an edge.

        Args:
            name: of the node.
            folder: of all its files.
            subnet: the stack's.
            index: its number in the stack.
            admin: the user of its services at its broker, for MQTT too.
            cloud: the cloud's broker as ``host:port`` (AMQPS).
            kubeconfig: of the cloud's administrator, who makes it a join token.
            settings: more settings for its services. With ``HTTPS_PROXY`` the cloud is reached by
                that proxy alone.
            disk_bytes: size of a disk of its own, and of another for its broker; 0: its data lies
                on the machine's.
            fake_clock: whether the clock of its services can be set.
        """
        proxy = settings.get("HTTPS_PROXY", "")
        self._proxy = [f"HTTPS_PROXY={proxy}"] if proxy else []
        dialled = f"127.0.0.1:{FORWARD_PORT}" if proxy else cloud
        self.name = name
        self.folder = folder
        self.identity = Identity(folder / "data" / IDENTITY_FOLDER)
        self._kubeconfig = kubeconfig
        self.host = EdgeHost(
            name=name,
            folder=folder,
            subnet=subnet,
            index=index,
            cgroup_parent=f"/fedge-{subnet.tag}/{name}",
        )
        self.disk = self.broker_disk = None
        if disk_bytes:
            self.disk = Disk(
                host=self.host, name="disk", size_bytes=disk_bytes, folders=[folder / "data"]
            )
            self.broker_disk = Disk(
                host=self.host,
                name="broker-disk",
                size_bytes=disk_bytes,
                folders=[folder / "rabbitmq" / "mnesia"],
                is_reserved=True,
            )
        self.clock = FakeClock(folder / "clock") if fake_clock else None
        self.containerd = Containerd(host=self.host, folder=folder / "containerd")
        self.rabbitmq = RabbitMQ(
            name="rabbitmq",
            folder=folder / "rabbitmq",
            place=self.host,
            definitions=edge_definitions(
                node=NodeName(name), admin=admin, link=_shown_by(self.identity), cloud=dialled
            ),
            listen=[("127.0.0.1", AMQP_PORT)],
            dist_port=_DIST_PORT,
            plugins=EDGE_PLUGINS,
            mqtt=("0.0.0.0", MQTT_PORT),  # noqa: S104 - devices come from the host's own network
            mqtt_anonymous=True,
            reads=[self.identity.folder],
            memory_bytes=_MEMORY_BYTES,
            is_small=True,
        )
        self.settings = settings
        account = self._account = f"{admin.name}:{admin.password}"
        self.services = Program(
            name="edge",
            services=SERVICES,
            folder=folder / "services",
            place=self.host,
            settings={
                "FEDGE_EDGE_NODE_NAME": name,
                "FEDGE_EDGE_AMQP_URL": f"amqp://{account}@127.0.0.1:{AMQP_PORT}/",
                "FEDGE_EDGE_DATA_DIR": str(folder / "data"),
                "FEDGE_META_CLOUD_ADDRESS": dialled,
                "FEDGE_META_FORWARD_TO": cloud if proxy else "",
                "FEDGE_META_BROKER_COMMAND": json.dumps(self.rabbitmq.asking("fedge-links")),
                "FEDGE_EDGED_CRI_SOCKET": str(SOCKET),
                "FEDGE_EDGED_CGROUP_PARENT": self.host.cgroup_parent,
                "FEDGE_EDGED_POD_LOG_DIR": str(folder / "pod-logs"),
                # a developer's disk may be nearly full, and that is not the edge's concern
                "FEDGE_EDGED_EVICTION_HARD": '{"memory.available": "100Mi"}',
                "FEDGE_TWIN_BROKER_COMMAND": json.dumps(self.rabbitmq.asking("fedge-accounts")),
                "FEDGE_TWIN_MQTT_URL": f"mqtt://{account}@127.0.0.1:{MQTT_PORT}",
                **settings,
            },
            own_variables=None if self.clock is None else self.clock.variables(),
        )

    @property
    def servers(self) -> tuple[Server, ...]:
        """All its processes, containers apart."""
        return (self.rabbitmq, self.containerd, self.services)

    @property
    def account(self) -> str:
        """``user:password`` at its broker."""
        return self._account

    @property
    def edged_socket(self) -> Path:
        """The socket of edged, as this machine reaches it until the next power cut."""
        return self.host.seen_from_outside(Path("/run/fedge/edged/edged.sock"))

    @property
    def mqtt_address(self) -> tuple[str, int]:
        """Where this machine reaches the edge's MQTT, while the line is up."""
        return self.host.address, MQTT_PORT

    @property
    def is_on(self) -> bool:
        """Whether the host has power."""
        return self.host.is_on

    async def start(self, *, line_up: bool, disk_full: bool = False) -> None:
        """Boot the host and start everything in it; `ready` waits until all answers.

        The services are started as soon as containerd answers; they wait for nothing else.

        Args:
            line_up: whether the line to the cloud works from the start.
            disk_full: whether the disk of its services stays as full as it was made.
        """
        await self.host.boot(line_up=line_up)
        for folder in ("data", "pod-logs"):
            (self.folder / folder).mkdir(exist_ok=True)
        if self.disk is not None and self.broker_disk is not None:
            await self.disk.attach()
            await self.broker_disk.attach()
            if not disk_full:
                self.disk.empty()
        if self.clock is not None:
            self.clock.prepare()
        await self.containerd.start()
        await self.rabbitmq.start()
        # it may lie on a disk that only the host sees
        if not Identity(self.host.seen_from_outside(self.identity.folder)).has_joined:
            # meanwhile: the links dial when the broker is there, and again until they may
            await self.join()
        await self.containerd.ready()
        await self.services.start()

    async def join(self) -> None:
        """Have a token made for it and join with it, from inside; nothing if it has joined.

        Raises:
            CommandFailedError: it could not join; with the reason.
        """
        file = self.folder / "join-token"
        write_private(file, (await self.make_token()).encode())
        try:
            await self.host.run(
                "/usr/bin/env", *self._proxy, *_FEDGE,
                "join", f"--token-file={file}", f"--node={self.name}",
                f"--identity={self.identity.folder}", f"--wait={JOIN_SECONDS:.0f}", "--no-checks",
                timeout_seconds=JOIN_SECONDS + START_SECONDS,
            )  # fmt: skip
        finally:
            file.unlink()

    async def make_token(self) -> str:
        """Have the cloud make a token for it.

        Raises:
            CommandFailedError: it made none; with the reason.
        """
        return await run(
            [
                *_FEDGE, "token", "create", f"--node={self.name}",
                f"--kubeconfig={self._kubeconfig}", f"--wait={JOIN_SECONDS:.0f}",
            ],
            timeout_seconds=JOIN_SECONDS + START_SECONDS,
        )  # fmt: skip

    async def ready(self, *, timeout_seconds: float = START_SECONDS) -> None:
        """Wait until everything answers.

        Raises:
            NotReadyError: something ended or did not answer in time.
        """
        async with asyncio.TaskGroup() as tasks:
            for server in self.servers:
                tasks.create_task(server.ready(timeout_seconds=timeout_seconds), name=server.name)

    async def stop(self) -> None:
        """Shut it down in order, then switch the host off."""
        await self.services.stop()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.rabbitmq.stop(), name="stop rabbitmq")
            tasks.create_task(self.containerd.stop(), name="stop containerd")
        await self.host.power_cut()
