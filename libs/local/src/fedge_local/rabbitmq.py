"""A RabbitMQ broker of our own: own node name, ports, cookie, data and plugins.

The node is started as a distributed Erlang node from the first moment, with a fixed port instead of
the port mapper (epmd): no shared daemon, no second Erlang machine started only to start that
daemon. Its configuration is in Erlang terms, which need no schema to be read. RabbitMQ 3.10 (Debian
12) and 4.x are both run; a release that is not the machine's runs from a root folder of its own
(`fedge_local.rabbitmq_home`). Sources:
https://www.rabbitmq.com/docs/configure, https://www.erlang.org/doc/apps/erts/erl_cmd.html.
"""

import asyncio
import json
import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedge_fabric.definitions import ANONYMOUS, User, with_anonymous_devices
from fedge_local.commands import program
from fedge_local.erlang import Atom, term
from fedge_local.other_root import within
from fedge_local.processes import Place
from fedge_local.rabbitmq_home import Installation, installed, make_home
from fedge_local.servers import Server

CLOUD_PLUGINS = ("rabbitmq_federation", "rabbitmq_shovel")
TLS_PLUGINS = (*CLOUD_PLUGINS, "rabbitmq_auth_mechanism_ssl", "rabbitmq_management")
"""Where nodes log in with certificates, and hub makes their users."""
EDGE_PLUGINS = (
    "rabbitmq_event_exchange",
    "rabbitmq_federation",
    "rabbitmq_mqtt",
    "rabbitmq_shovel",
)
# one scheduler of each kind: half the peak memory, and a gateway has other work for its cores
SMALL = "+S 1:1 +SDcpu 1:1 +SDio 1 +A 1 +sbwt none +sbwtdcpu none +sbwtdio none"
# The C library's allocator in place of Erlang's own pools, and no room for a million ports: 14 MB
# less, and what a burst took goes back; a gateway has few of either.
EDGE = f"{SMALL} +Mea min +Q 16384"
_EDGE_PROCESSES = 131_072
"""The table of processes has 12 bytes for each that there may be, from the start."""
# RabbitMQ 4.0 reserves as much per connection as the kernel would ever buffer, 4 MB on loopback
_EDGE_BUFFER_BYTES = 32_768
# Erlang's compiler maps what it makes once instead of twice: 14 MB less RSS, the same PSS (4.0.5);
# older releases refuse the flag
_ONE_MAP = "+JMsingle true"
_ONE_MAP_SINCE = 26
_COMPILED_FOR = ("x86_64", "aarch64")
_MEGABYTE = 1_000_000
_GREETING = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"
_ANSWER_SECONDS = 2.0
_MQTT_PREFETCH = 1024
_MAX_MESSAGE_BYTES = 32 * 1024 * 1024
_WEEK_SECONDS = 7 * 24 * 3600
_TLS_HANDSHAKE_MILLISECONDS = 5000
# renewed certificates are read again soon; by default after minutes, and a setting of the
# configuration file comes too late (https://www.erlang.org/doc/apps/ssl/ssl_app.html)
_READ_AGAIN = " -ssl ssl_pem_cache_clean 5000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A port for AMQPS, on which only clients with certificates are let in.

    Attributes:
        address: to listen on.
        port: to listen on.
        folder: of ``broker.crt``, ``broker.key`` and ``ca.crt``; they may come later.
    """

    address: str
    port: int
    folder: Path


def _tls_configuration(tls: Tls) -> dict[str, object]:
    """Return the settings of the TLS port (https://www.rabbitmq.com/docs/ssl).

    A client is who its certificate's URI says.
    """
    return {
        "ssl_listeners": [(tls.address, tls.port)],
        "ssl_options": {
            "cacertfile": str(tls.folder / "ca.crt"),
            "certfile": str(tls.folder / "broker.crt"),
            "keyfile": str(tls.folder / "broker.key"),
            "verify": Atom("verify_peer"),
            "fail_if_no_peer_cert": True,
            "versions": [Atom("'tlsv1.3'"), Atom("'tlsv1.2'")],
        },
        "ssl_handshake_timeout": _TLS_HANDSHAKE_MILLISECONDS,
        "auth_mechanisms": [Atom("'PLAIN'"), Atom("'EXTERNAL'")],
        "ssl_cert_login_from": Atom("subject_alternative_name"),
        "ssl_cert_login_san_type": Atom("uri"),
    }


def _small_sockets() -> list[object]:
    """Return options of sockets (https://www.rabbitmq.com/docs/networking): the usual, small."""
    return [
        *((Atom("backlog"), 128), (Atom("nodelay"), True), (Atom("exit_on_close"), False)),
        *((Atom(each), _EDGE_BUFFER_BYTES) for each in ("sndbuf", "recbuf")),
    ]


def emulator_flags(flags: str, erlang_release: int, *, machine: str = platform.machine()) -> str:
    """Return flags for Erlang's emulator with those added that only some releases take.

    Args:
        flags: that all releases take.
        erlang_release: number of the Erlang/OTP release; 0: not known.
        machine: the processor's architecture, as the kernel calls it.
    """
    if erlang_release >= _ONE_MAP_SINCE and machine in _COMPILED_FOR:
        return f"{flags} {_ONE_MAP}"
    return flags


class RabbitMQ(Server):
    """One broker."""

    grace_seconds = 20.0

    def __init__(
        self,
        *,
        name: str,
        folder: Path,
        place: Place,
        definitions: Mapping[str, Any],
        listen: Sequence[tuple[str, int]],
        dist_port: int,
        plugins: Sequence[str] = CLOUD_PLUGINS,
        mqtt: tuple[str, int] | None = None,
        mqtt_anonymous: bool = False,
        management: tuple[str, int] | None = None,
        tls: Tls | None = None,
        reads: Sequence[Path] = (),
        memory_bytes: int = 512 * _MEGABYTE,
        disk_free_bytes: int = 50 * _MEGABYTE,
        emulator: str = SMALL,
        is_small: bool = False,
        root: Path | None = None,
    ) -> None:
        """Describe a broker.

        Args:
            name: of the server, and of the Erlang node before the ``@``.
            folder: of all its files.
            place: where it runs.
            definitions: users, exchanges, queues, links; loaded at each boot.
            listen: addresses and ports for AMQP; the first is asked whether it answers.
            dist_port: port for Erlang's own connections, on the loopback address.
            plugins: names of the plugins to enable.
            mqtt: address and port for MQTT, if its plugin is enabled.
            mqtt_anonymous: whether devices without a password are let in.
            management: address and port for the HTTP API, if its plugin is enabled.
            tls: where clients with certificates come in, if the plugin for them is enabled.
            reads: folders of files that are named in its definitions.
            memory_bytes: above this publishers are made to wait.
            disk_free_bytes: below this too.
            emulator: flags for Erlang's emulator.
            is_small: whether memory counts more than a million processes or fast long lines.
            root: root folder of the system whose RabbitMQ this is; None: what
                ``FEDGE_RABBITMQ_ROOT`` says, or this machine's.
        """
        super().__init__(name=name, folder=folder, place=place)
        self._definitions = definitions
        self.listen = tuple(listen)
        self.dist_port = dist_port
        self._plugins = tuple(plugins)
        self._mqtt = mqtt
        # nobody else knows the password: once this is off, the user is of no use
        self._anonymous = User(name=ANONYMOUS, password=secrets.token_hex(16))
        self._mqtt_anonymous = mqtt_anonymous
        self._management = management
        self._tls = tls
        self._reads = [*reads, *([tls.folder] if tls is not None else [])]
        self._memory_bytes = memory_bytes
        self._disk_free_bytes = disk_free_bytes
        self._emulator = EDGE if is_small and emulator == SMALL else emulator
        self._is_small = is_small
        self._root = root

    @property
    def node(self) -> str:
        """Name of the Erlang node."""
        return f"{self.name}@localhost"

    async def prepare(self) -> None:
        """Write its configuration."""
        make_home(installed(self._root), self._home, self._plugins)
        (self.folder / "mnesia").mkdir(exist_ok=True)
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(20))
            cookie.chmod(0o400)
        private = self._definitions_file
        private.touch(mode=0o600)
        definitions = self._definitions
        if self._mqtt_anonymous:
            definitions = with_anonymous_devices(definitions, self._anonymous)
        private.write_text(json.dumps(definitions))
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        config = self.folder / "rabbitmq.config"
        config.touch(mode=0o600)
        config.write_text(term(self._configuration()) + ".\n")

    def command(self) -> list[str]:
        """Return the command."""
        return self._from_its_root(
            installed(self._root), [str(self._home / "sbin/rabbitmq-server")]
        )

    def variables(self) -> Mapping[str, str]:
        """Return RabbitMQ's own variables."""
        return {
            "HOME": str(self.folder),
            "ERL_CRASH_DUMP": str(self.folder / "erl_crash.dump"),
            # once a minute RabbitMQ starts a short Erlang machine, only for that to start epmd,
            # which would outlive us: that machine reads these and ends at once without it
            "ERL_AFLAGS": "-start_epmd false",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the broker instead of watching it
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "generated"),
            "RABBITMQ_LOGS": "-",
            **(
                {"RABBITMQ_MAX_NUMBER_OF_PROCESSES": str(_EDGE_PROCESSES)} if self._is_small else {}
            ),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_SCRIPTS_DIR": str(self._home / "sbin"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-sname {self.node} {self._without_port_mapper}"
                f" {emulator_flags(self._emulator, installed(self._root).erlang_release)}"
                " -kernel inet_dist_use_interface {127,0,0,1}"
                f"{_READ_AGAIN if self._tls is not None else ''}"
            ),
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
        }

    async def answers(self) -> bool:
        """Say whether it greets an AMQP client; it opens its ports as the last thing."""
        address, port = self.listen[0]
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._greets(address, port)
        except (OSError, TimeoutError):
            return False

    async def evaluate(self, expression: str) -> str:
        """Evaluate an Erlang expression in the running broker and return its value as text.

        Args:
            expression: without the full stop at its end.

        Raises:
            CommandFailedError: the broker could not be reached, or the expression failed.
        """
        return await self._place.run(*self.asking(f"ask{secrets.token_hex(4)}"), expression)

    def asking(self, name: str) -> list[str]:
        """Return a command that evaluates the Erlang expression that is added as last argument.

        Args:
            name: by which the broker knows who asks; of two who ask at once under one name, one is
                refused.
        """
        call = (
            '[Text] = init:get_plain_arguments(), {ok, Tokens, _} = erl_scan:string(Text ++ "."), '
            "{ok, Expressions} = erl_parse:parse_exprs(Tokens), "
            f"net_kernel:connect_node('{self.node}') orelse halt(3), "
            f"case rpc:call('{self.node}', erl_eval, exprs, [Expressions, []]) of "
            '{badrpc, E} -> io:format("~p~n", [E]), halt(4); '
            '{value, V, _} -> io:format("~p~n", [V]), halt(0) end.'
        )
        return self._inside(
            "erl", "-noinput", "-hidden", "-sname", f"{name}@localhost",
            *self._without_port_mapper.split(), "-dist_listen", "false", "-eval", call, "-extra",
        )  # fmt: skip

    async def inside(self, *argv: str) -> str:
        """Run a command beside the broker, with its cookie, and return its output."""
        return await self._place.run(*self._inside(*argv))

    def _inside(self, *argv: str) -> list[str]:
        source = installed(self._root)
        # in another root it is env that looks for the program
        first = program(argv[0]) if source.is_of_this_machine else argv[0]
        # what is loaded into whoever asks is not meant for Erlang
        own = ("-u", "LD_PRELOAD", f"HOME={self.folder}")
        return self._from_its_root(source, ["/usr/bin/env", *own, first, *argv[1:]])

    def _from_its_root(self, source: Installation, command: Sequence[str]) -> list[str]:
        if source.is_of_this_machine:
            return list(command)
        return within(source.root, [self.folder, *self._reads], command)

    @property
    def _home(self) -> Path:
        return self.folder / "home"

    @property
    def _definitions_file(self) -> Path:
        return self.folder / "definitions.json"

    @property
    def _without_port_mapper(self) -> str:
        return f"-start_epmd false -erl_epmd_port {self.dist_port}"

    def _configuration(self) -> dict[str, object]:
        rabbit: dict[str, object] = {
            "tcp_listeners": list(self.listen),
            "load_definitions": str(self._definitions_file),
            "loopback_users": [],
            "vm_memory_high_watermark": (Atom("absolute"), self._memory_bytes),
            "disk_free_limit": self._disk_free_bytes,
            "channel_max": 128,
            "max_message_size": _MAX_MESSAGE_BYTES,
            "log": {"console": {"enabled": True, "level": Atom("info")}},
        }
        if self._is_small:
            rabbit["tcp_listen_options"] = _small_sockets()
        if self._tls is not None:
            rabbit |= _tls_configuration(self._tls)
        configuration: dict[str, object] = {"rabbit": rabbit}
        if self._mqtt is not None:
            mqtt: dict[str, object] = {
                "tcp_listeners": [self._mqtt],
                "allow_anonymous": self._mqtt_anonymous,
                # what is taken together shares a write to the disk
                "prefetch": _MQTT_PREFETCH,
                # sessions outlive a weekend; the first name is 3.x's, the second 4.x's
                "subscription_ttl": _WEEK_SECONDS * 1000,
                "max_session_expiry_interval_seconds": _WEEK_SECONDS,
            }
            if self._is_small:
                mqtt["tcp_listen_options"] = _small_sockets()
            if self._mqtt_anonymous:  # the first two are 3.x's, the others 4.x's
                name, password = self._anonymous.name.encode(), self._anonymous.password.encode()
                mqtt |= {"default_user": name, "default_pass": password}
                rabbit |= {"anonymous_login_user": name, "anonymous_login_pass": password}
            configuration["rabbitmq_mqtt"] = mqtt
        if self._management is not None:
            address, port = self._management
            configuration["rabbitmq_management"] = {"tcp_config": {"ip": address, "port": port}}
        return configuration

    async def _greets(self, address: str, port: int) -> bool:
        connection = await self._place.connect(address, port)
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            writer.write(_GREETING)
            return await reader.read(1) == _METHOD_FRAME
        finally:
            writer.close()
