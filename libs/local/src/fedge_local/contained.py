"""An edge whose broker and services come from the edge's image, run by the edge's own containerd.

What a gateway has: a host with containerd, and on it one container. The host gives it containerd's
socket and one folder, and nothing else.
"""

import asyncio
import json
import secrets
import socket
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fedge_enrolment.identity import Identity
from fedge_local.commands import program
from fedge_local.containerd import SOCKET
from fedge_local.edge import Edge
from fedge_local.errors import CommandFailedError, LocalError, NotReadyError
from fedge_local.hosts import EdgeHost
from fedge_local.processes import Place, Process
from fedge_local.programs import Program
from fedge_local.rabbitmq import RabbitMQ
from fedge_local.servers import Server
from fedge_sealing import write_private

NAMESPACE: Final = "fedge"
"""Of containerd: apart from the pods', which the edge minds."""
CONTAINER: Final = "edge"
_TOKEN_FILE: Final = "join-token"  # noqa: S105 - a file's name
_STOP_SECONDS: Final = 60.0
_RUNNING: Final = "RUNNING"
"""How ``ctr tasks list`` says so."""
_FROM_THE_IMAGE: Final = frozenset(
    {
        "FEDGE_EDGE_AMQP_URL", "FEDGE_EDGE_DATA_DIR", "FEDGE_EDGED_CGROUP_PARENT",
        "FEDGE_EDGED_CRI_SOCKET", "FEDGE_EDGED_POD_LOG_DIR", "FEDGE_META_BROKER_COMMAND",
        "FEDGE_META_CLOUD_ADDRESS", "FEDGE_META_FORWARD_TO", "FEDGE_TWIN_BROKER_COMMAND",
        "FEDGE_TWIN_MQTT_URL",
    }
)  # fmt: skip
"""What it says itself."""
_IMPORT_SECONDS: Final = 120.0


class InContainer:
    """The container as a place where commands are run."""

    def __init__(self, host: EdgeHost) -> None:
        self._host = host

    async def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Process:
        """Refuse: the container's own supervisor starts what runs there.

        Raises:
            NotReadyError: always.
        """
        del env, log
        raise NotReadyError(f"{argv[0]} is started in {CONTAINER!r} by its supervisor")

    async def run(self, *argv: str, timeout_seconds: float = 30.0) -> str:
        """Run a command in the container to its end and return its output."""
        name = f"exec-{secrets.token_hex(4)}"
        return await self._host.run(
            *_ctr("tasks", "exec", f"--exec-id={name}", CONTAINER, *argv),
            timeout_seconds=timeout_seconds,
        )

    async def connect(self, address: str, port: int) -> socket.socket:
        """Return a connection to what listens there: its network is the host's."""
        return await self._host.connect(address, port)


class EdgeContainer(Program):
    """The container, as the process of ``ctr`` that hands signals and output on."""

    grace_seconds = _STOP_SECONDS

    def __init__(
        self,
        *,
        host: EdgeHost,
        folder: Path,
        data: Path,
        image: Path,
        services: Sequence[str],
        settings: Mapping[str, str],
    ) -> None:
        """Describe it.

        Args:
            host: where it runs.
            folder: of its log.
            data: its volume.
            image: archive in the OCI layout.
            services: that it runs.
            settings: of them.
        """
        super().__init__(
            name="edge", services=services, folder=folder, place=host, settings=settings
        )
        self._host = host
        self._data = data
        self._image = image

    async def prepare(self) -> None:
        """Give containerd the image, and remove what a power cut has left of the container."""
        name, digest = image_of(self._image)
        there = await self._host.run(*_ctr("images", "list"))
        if not any(line.split()[::2][:2] == [name, digest] for line in there.splitlines()):
            await self._host.run(
                *_ctr("images", "import", str(self._image)), timeout_seconds=_IMPORT_SECONDS
            )
        try:
            if await self._is_there():
                await self._end()  # `ctr run` dies with containerd, its container does not
                await self._host.run(*_ctr("containers", "delete", CONTAINER))
        except CommandFailedError:
            if await self._is_there():
                raise  # else `ctr run` that was ended has deleted it itself meanwhile

    async def _is_there(self) -> bool:
        return CONTAINER in (await self._host.run(*_ctr("containers", "list", "-q"))).split()

    def command(self) -> list[str]:
        """Return the command."""
        name, _ = image_of(self._image)
        bound = {
            str(self._data): "rbind:rshared",
            str(
                SOCKET.parent
            ): "rbind",  # the folder: a runtime that starts anew makes a new socket
        }
        return [
            program("ctr"), *_ctr()[1:], "run", "--rm", "--net-host",
            "--rootfs-propagation=rshared", "--cap-add=CAP_SYS_ADMIN",
            "--cap-add=CAP_NET_ADMIN",
            *(
                f"--mount=type=bind,src={each},dst={each},options={how}"
                for each, how in bound.items()
            ),
            *(f"--env={key}={value}" for key, value in super().variables().items()),
            name, CONTAINER,
        ]  # fmt: skip

    def variables(self) -> Mapping[str, str]:
        """Return nothing: the settings are the container's."""
        return {}

    async def kill(self) -> None:
        """End the container at once, all that runs in it; wait until it is gone."""
        if self.is_running:
            await self._end()
        await super().kill()

    async def _end(self) -> None:
        """End all that runs in the container, if it runs."""
        if _RUNNING not in await self._task():
            return
        await self._host.run(*_ctr("tasks", "kill", "--all", "--signal=KILL", CONTAINER))
        async with asyncio.timeout(_STOP_SECONDS):
            while _RUNNING in await self._task():  # noqa: ASYNC110 - `ctr` has to be asked
                await asyncio.sleep(0.05)

    async def _task(self) -> str:
        """Return the line that tells of the container's task; empty if there is none."""
        listed = await self._host.run(*_ctr("tasks", "list"))
        lines = (each for each in listed.splitlines() if each.split()[:1] == [CONTAINER])
        return next(lines, "")


class ContainedBroker(RabbitMQ):
    """The container's broker: it can be asked, and starts and ends with the container."""

    def __init__(self, *, container: EdgeContainer, **options: Any) -> None:
        super().__init__(**options)
        self._container = container

    @property
    def process(self) -> Process | None:
        """The container's."""
        return self._container.process

    async def start(self) -> None:
        """Leave it to the container."""

    async def stop(self) -> None:
        """Leave it to the container."""

    async def kill(self) -> None:
        """End the broker alone at once; its supervisor starts it again."""
        await self._place.run("/usr/bin/s6-svc", "-k", "/run/fedge-s6/scan/broker")


class ContainedEdge(Edge):
    """An edge from the image."""

    def __init__(self, *, image: Path, **options: Any) -> None:
        """Describe an edge.

        Args:
            image: archive of the edge's image in the OCI layout.
            options: as of any edge.

        Raises:
            LocalError: it cannot have what was wished.
        """
        if options.get("disk_bytes") or options.get("fake_clock"):
            raise LocalError(
                "an edge from the image has neither a disk nor a clock of its own: leave out "
                "edge_disk_bytes and fake_clock, or run the edge from the checkout"
            )
        super().__init__(**options)
        self._data = self.folder / "data"
        own = {
            name: value
            for name, value in self.settings.items()
            if name.endswith("_PROXY")
            or (name.startswith("FEDGE_") and name not in _FROM_THE_IMAGE)
        }
        container = EdgeContainer(
            host=self.host,
            folder=self.folder / "services",
            data=self._data,
            image=image,
            services=self.services.services,
            settings={
                **own,
                "FEDGE_EDGE_DATA_DIR": str(self._data),
                "FEDGE_JOIN_TOKEN_FILE": str(self._data / _TOKEN_FILE),
                "FEDGE_MQTT_ANONYMOUS": "true",
            },
        )
        place: Place = InContainer(self.host)
        self.services = container
        self.rabbitmq = ContainedBroker(
            container=container,
            name="rabbitmq",
            folder=self._data / "rabbitmq",
            place=place,
            definitions={},
            listen=self.rabbitmq.listen,
            dist_port=self.rabbitmq.dist_port,
            root=Path("/"),
        )

    @property
    def servers(self) -> tuple[Server, ...]:
        """All its processes, containers apart."""
        return (self.containerd, self.services)

    @property
    def account(self) -> str:
        """``user:password`` at its broker; the container makes it at its first start."""
        kept = self.host.seen_from_outside(self._data / "broker-password")
        return f"fedge:{kept.read_text().strip()}"

    @property
    def edged_socket(self) -> Path:
        """The socket of edged: in the volume."""
        return self.host.seen_from_outside(self._data / "run" / "edged" / "edged.sock")

    async def start(self, *, line_up: bool, disk_full: bool = False) -> None:
        """Boot the host, and start containerd and the container."""
        del disk_full  # it has no disk of its own
        await self.host.boot(line_up=line_up)
        await asyncio.to_thread(self._data.mkdir, exist_ok=True)
        await self.containerd.start()
        await self._share()
        if not Identity(self.host.seen_from_outside(self.identity.folder)).has_joined:
            await self.join()
        await self.containerd.ready()
        await self.services.start()

    async def join(self) -> None:
        """Have a token made for it, which the container joins with."""
        await asyncio.to_thread(
            write_private, self._data / _TOKEN_FILE, (await self.make_token()).encode()
        )

    async def stop(self) -> None:
        """Shut it down in order, then switch the host off."""
        await self.services.stop()
        await self.containerd.stop()
        await self.host.power_cut()

    async def _share(self) -> None:
        """Make the volume a mount that shares what is mounted below it, as systemd makes all."""
        mounted = await self.host.run("cat", "/proc/self/mountinfo")
        if f" {self._data} " not in mounted:
            await self.host.run("mount", "--bind", str(self._data), str(self._data))
            await self.host.run("mount", "--make-rshared", str(self._data))


def image_of(archive: Path) -> tuple[str, str]:
    """Return the name and the digest of the image in an archive.

    Raises:
        LocalError: it is not an archive of one named image.
    """
    try:
        with tarfile.open(archive) as opened:
            file = opened.extractfile("index.json")
            [described] = json.loads(b"" if file is None else file.read())["manifests"]
            name: str = described["annotations"]["io.containerd.image.name"]
            digest: str = described["digest"]
    except (OSError, KeyError, ValueError, tarfile.TarError) as exc:
        raise LocalError(
            f"{archive} is not the archive of an image ({exc}): make it with `make edge-image`"
        ) from exc
    return name, digest


def _ctr(*arguments: str) -> list[str]:
    return [program("ctr"), f"--address={SOCKET}", f"--namespace={NAMESPACE}", *arguments]
