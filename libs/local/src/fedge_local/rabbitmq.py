"""A RabbitMQ of our own: configured by a definitions file, found by nobody else.

The server's own start script runs it, from a folder that holds only what is needed: the script
looks for code beside itself, and an Erlang machine that has 60 folders to search for each module
starts three seconds later than one with 25. The node has an epmd of its own, so that it neither
meets nor names itself to another RabbitMQ of the machine
(https://www.rabbitmq.com/docs/networking#epmd).

The first start of the MQTT plugin takes 3 to 6 s longer: it waits for other members of a cluster.
"""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fedge_local.commands import program
from fedge_local.errors import MissingError
from fedge_local.ports import LOOPBACK
from fedge_local.processes import Machine, Place
from fedge_local.servers import Server

CLOUD_PLUGINS = ("rabbitmq_federation", "rabbitmq_shovel")
EDGE_PLUGINS = (*CLOUD_PLUGINS, "rabbitmq_mqtt")

_INSTALLED = Path("/usr/lib/rabbitmq/lib")
_SCRIPTS = ("rabbitmq-server", "rabbitmq-env", "rabbitmq-defaults")
_CORE = ("rabbit", "rabbitmq_prelaunch", "cuttlefish", "observer_cli", "systemd")
_APPLICATIONS = re.compile(r"\{\s*applications\s*,\s*\[([^\]]*)\]", re.DOTALL)
_STARTED = b"Server startup complete"
_LOG_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPorts:
    """The TCP ports of one broker."""

    amqp: int = 5672
    distribution: int = 25672
    epmd: int = 4369
    mqtt: int = 1883


class _Epmd(Server):
    """Erlang's port mapper; started by us, so that it also ends with us."""

    def __init__(self, *, folder: Path, place: Place, port: int) -> None:
        super().__init__(name="epmd", folder=folder, place=place)
        self._port = port

    def command(self) -> list[str]:
        """Return the command."""
        return [program("epmd"), "-port", str(self._port), "-address", LOOPBACK]

    async def answers(self) -> bool:
        """Say yes: who comes before it listens tries again by itself."""
        return True


class RabbitMQ(Server):
    """One broker, a node of its own."""

    grace_seconds: ClassVar[float] = 20.0

    def __init__(
        self,
        *,
        name: str,
        folder: Path,
        definitions: Mapping[str, Any],
        plugins: Iterable[str],
        ports: BrokerPorts,
        place: Place | None = None,
        addresses: Iterable[str] = (),
        cluster_name: str = "",
    ) -> None:
        """Describe a broker.

        Args:
            name: the name of its node and of its process.
            folder: configuration, data and log.
            definitions: users, queues and links that it loads at each start.
            plugins: what it has beyond AMQP.
            ports: where it listens.
            place: where it runs, this machine by default.
            addresses: addresses beside loopback on which it takes AMQP.
            cluster_name: under which name others see it, by default that of ``definitions``.
        """
        where = place or Machine()
        super().__init__(name=name, folder=folder, place=where)
        self.ports = ports
        self._definitions = definitions
        self._plugins = tuple(plugins)
        self._addresses = (LOOPBACK, *addresses)
        self._cluster_name = cluster_name
        self._epmd = _Epmd(folder=folder, place=where, port=ports.epmd)

    async def start(self) -> None:
        """Start it if it does not run."""
        await self._epmd.start()
        await super().start()

    async def stop(self) -> None:
        """Stop it as an operator would; what is durable is on disk then."""
        await super().stop()
        await self._epmd.kill()

    async def kill(self) -> None:
        """End it at once."""
        await super().kill()
        await self._epmd.kill()

    async def prepare(self) -> None:
        """Write its configuration."""
        await asyncio.to_thread(self._write_files)

    def command(self) -> list[str]:
        """Return the command."""
        return [str(self.folder / "home/bin/rabbitmq-server")]

    def variables(self) -> Mapping[str, str]:
        """Return its settings, each of which would else come from the system's RabbitMQ.

        https://www.rabbitmq.com/docs/configure#supported-environment-variables
        """
        folder = self.folder
        return {
            "ERL_EPMD_PORT": str(self.ports.epmd),
            "ERL_CRASH_DUMP_BYTES": "0",
            "HOME": str(folder),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "data/feature_flags"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_NODENAME": f"{self.name}@localhost",
            "RABBITMQ_PID_FILE": str(folder / "node.pid"),
            "RABBITMQ_PLUGINS_DIR": str(folder / "home/plugins"),
            "RABBITMQ_SCRIPTS_DIR": str(folder / "home/bin"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
                " -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            # the script then becomes the server instead of watching over it: one pid
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    async def answers(self) -> bool:
        """Say whether it has started: definitions loaded, plugins running, ports open."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
                return _STARTED in log.read()
        except FileNotFoundError:
            return False

    def _write_files(self) -> None:
        folder = self.folder
        (folder / "data").mkdir(exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        _private(folder / "definitions.json", json.dumps(self._definitions, indent=1))
        (folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        (folder / "rabbitmq.conf").write_text(self._configuration())
        _make_home(folder / "home", self._plugins)

    def _configuration(self) -> str:
        lines = [
            f"listeners.tcp.{index} = {address}:{self.ports.amqp}"
            for index, address in enumerate(self._addresses, start=1)
        ]
        lines += [
            f"load_definitions = {self.folder / 'definitions.json'}",
            "vm_memory_high_watermark.absolute = 256MiB",
            "disk_free_limit.absolute = 50MB",
            "log.console.level = info",
        ]
        if self._cluster_name:
            lines.append(f"cluster_name = {self._cluster_name}")
        if "rabbitmq_mqtt" in self._plugins:
            lines += [
                f"mqtt.listeners.tcp.1 = {LOOPBACK}:{self.ports.mqtt}",
                "mqtt.allow_anonymous = false",
            ]
        return "".join(f"{line}\n" for line in lines)


def _make_home(home: Path, plugins: Iterable[str]) -> None:
    """Make a folder like the one that RabbitMQ is installed in, with links to what is needed."""
    installed = _installed()
    if home.exists():
        shutil.rmtree(home)
    (home / "bin").mkdir(parents=True)
    for script in _SCRIPTS:
        (home / "bin" / script).symlink_to((installed / "sbin" / script).resolve())
    (home / "plugins").mkdir()
    for application in _needed(installed / "plugins", {*_CORE, *plugins}):
        (home / "plugins" / application.name).symlink_to(application)


def _installed() -> Path:
    found = sorted(_INSTALLED.glob("rabbitmq_server-*"))
    if not found:
        raise MissingError(
            "'rabbitmq-server' is not installed: run `apt-get install rabbitmq-server`"
        )
    return found[-1]


def _needed(installed: Path, wanted: set[str]) -> list[Path]:
    """Return the folders of these applications and of all that they start before themselves."""
    folders = {each.name.rpartition("-")[0]: each for each in installed.iterdir() if each.is_dir()}
    found: dict[str, Path] = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        folder = folders.get(name)
        if name in found or folder is None:
            continue  # Erlang's own
        found[name] = folder
        text = (folder / "ebin" / f"{name}.app").read_text()
        if match := _APPLICATIONS.search(text):
            waiting += [each.strip(" \t\n'") for each in match[1].split(",")]
    return sorted(found.values())


def _private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)
