"""The whole system on one machine: a cloud and its edges, started, found again, stopped.

Everything lives in one folder: configuration, data, logs, pid files, and the state file by which
any later command finds what runs. Nothing outside is used but a bridge, its cables and a table of
the packet filter, all named after the folder; so several stacks run side by side, and beside
servers of the machine's own.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from fedge_fabric.definitions import User, cloud_definitions
from fedge_local import network, ports
from fedge_local.edge import Edge
from fedge_local.errors import LocalError
from fedge_local.processes import Machine
from fedge_local.programs import Program
from fedge_local.rabbitmq import RabbitMQ
from fedge_local.redis import Redis
from fedge_local.servers import Server
from fedge_local.state import EdgeState, Line, StackState, alone
from fedge_objects import NodeName

DEFAULT_FOLDER = Path("/var/lib/fedge")
_ADMIN = "fedge"
_PORTS = ("amqp", "amqp-dist", "redis", "apiserver", "hub")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that happened while the stack was started or stopped."""

    where: str
    """``cloud`` or the name of an edge."""
    name: str
    state: str
    """``starting``, ``ready`` or ``stopped``."""
    seconds: float
    """Since the command began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """One process of a stack."""

    where: str
    name: str
    pid: int | None
    """None: it does not run."""
    address: str
    log: Path


def _nobody(_step: Step) -> None:
    """Watch nothing."""


class Stack:
    """A cloud with its edges. The constructor reads the state file and starts nothing."""

    def __init__(
        self,
        folder: Path = DEFAULT_FOLDER,
        *,
        edges: Sequence[str] = ("edge-1",),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a stack.

        Args:
            folder: where everything of it is.
            edges: names of its nodes; those that the state file knows are there too.
            settings: environment for the services beside what the stack sets; None keeps what was
                given when it was last started.
        """
        self.folder = folder.absolute()
        self._names = tuple(edges)
        self._settings = None if settings is None else dict(settings)
        self._state: StackState | None = StackState.load(self.state_file)
        self._parts: _Parts | None = None

    @property
    def state_file(self) -> Path:
        """Where what is remembered is."""
        return self.folder / "stack.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig of the embedded Kubernetes API."""
        return self.folder / "kubeconfig"

    @property
    def exists(self) -> bool:
        """Whether the stack was ever started in this folder."""
        return self._state is not None

    @property
    def is_running(self) -> bool:
        """Whether all its processes run."""
        return self.exists and all(each.pid is not None for each in self.status())

    @property
    def ports(self) -> Mapping[str, int]:
        """The machine's ports: ``amqp``, ``redis``, ``apiserver``, ``hub``."""
        return dict(self._required.ports)

    @property
    def amqp_url(self) -> str:
        """The cloud's broker, with its administrator's password."""
        state = self._required
        return f"amqp://{_ADMIN}:{state.password}@127.0.0.1:{state.ports['amqp']}/"

    @property
    def apiserver_url(self) -> str:
        """The embedded Kubernetes API."""
        return f"https://127.0.0.1:{self._required.ports['apiserver']}"

    @property
    def hub_url(self) -> str:
        """Hub's web address."""
        return f"http://127.0.0.1:{self._required.ports['hub']}"

    @property
    def edge_names(self) -> list[str]:
        """Names of the edges."""
        return list(self._required.edges)

    def edge(self, name: str) -> "EdgeControl":
        """Return the edge called ``name``.

        Raises:
            LocalError: there is none.
        """
        if name not in self._required.edges:
            known = ", ".join(self._required.edges)
            raise LocalError(f"there is no edge {name!r}; there is {known}")
        return EdgeControl(self, name)

    async def up(self, observe: Callable[[Step], None] = _nobody) -> None:
        """Start what does not run and wait until all of it answers.

        Raises:
            NotReadyError: a process ended or did not answer in time.
            PortTakenError: a remembered port belongs to somebody else.
            MissingError: a program is not installed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder):
            state = await self._remember()
            parts = self._assembled
            clock = _Clock(observe)
            for name, server in parts.listening:
                if not server.is_running:
                    ports.require_free(
                        server.name, state.ports[name], remembered_in=self.state_file
                    )
            await network.bring_up(parts.subnet)
            with _first_error():
                async with asyncio.TaskGroup() as tasks:
                    self._start_cloud(parts, clock, tasks)
                    for name, edge in parts.edges.items():
                        line = state.edges[name].line
                        tasks.create_task(_start_edge(edge, clock, line_up=line is not Line.CUT))
            await self._swallow()

    async def down(self, observe: Callable[[Step], None] = _nobody) -> None:
        """Stop everything that was started here, and nothing else; the data stays."""
        if self._state is None:
            return
        with alone(self.folder):
            parts = self._assembled
            clock = _Clock(observe)
            services = [parts.device, parts.controller, parts.hub, parts.apiserver]
            async with asyncio.TaskGroup() as tasks:
                for server in services:
                    tasks.create_task(clock.stopping("cloud", server.name, server.stop()))
                for name, edge in parts.edges.items():
                    tasks.create_task(clock.stopping(name, "edge", edge.stop()))
            async with asyncio.TaskGroup() as tasks:
                for store in (parts.rabbitmq, parts.redis):
                    tasks.create_task(clock.stopping("cloud", store.name, store.stop()))
            await network.take_down(parts.subnet)

    def status(self) -> list[ServerStatus]:
        """Return what runs and what does not."""
        parts, state = self._assembled, self._required
        listening = {server: state.ports[name] for name, server in parts.listening}
        found = []
        for where, server in parts:
            process = server.process
            port = listening.get(server)
            found.append(
                ServerStatus(
                    where=where,
                    name=server.name,
                    pid=None if process is None else process.pid,
                    address="" if port is None else f"127.0.0.1:{port}",
                    log=server.log,
                )
            )
        return found

    @property
    def _required(self) -> StackState:
        if self._state is None:
            raise LocalError(f"nothing was started in {self.folder} yet: run `fedge demo`")
        return self._state

    @property
    def _assembled(self) -> "_Parts":
        if self._parts is None:
            self._parts = _assemble(self, self._required)
        return self._parts

    async def _remember(self) -> StackState:
        """Choose what is not chosen yet, and write it down before anything is started."""
        state = self._state
        if state is None:
            subnet = await network.choose_subnet(self.folder)
            state = StackState(
                password=secrets.token_urlsafe(18),
                network=str(subnet.network),
                ports=ports.choose(_PORTS, seed=int(subnet.tag, 16)),
            )
        for name in self._names:
            if name not in state.edges:
                state.edges[name] = EdgeState(
                    index=len(state.edges), password=secrets.token_urlsafe(18)
                )
        if self._settings is not None:
            state.settings = self._settings
        state.save(self.state_file)
        self._state, self._parts = state, None
        return state

    async def _set_line(self, name: str, line: Line) -> None:
        """Bring the line of an edge into a state, and remember it for its next boot."""
        state = self._required
        state.edges[name].line = line
        state.save(self.state_file)
        host = self._assembled.edges[name].host
        await (host.cut() if line is Line.CUT else host.heal())
        await self._swallow()

    async def _swallow(self) -> None:
        silent = [e.index for e in self._required.edges.values() if e.line is Line.SWALLOWING]
        await network.swallow(self._assembled.subnet, silent)

    def _start_cloud(self, parts: "_Parts", clock: "_Clock", tasks: asyncio.TaskGroup) -> None:
        """Start the cloud's servers, each when what it needs answers."""
        broker = tasks.create_task(clock.starting("cloud", parts.rabbitmq))
        store = tasks.create_task(clock.starting("cloud", parts.redis))
        api = tasks.create_task(clock.starting("cloud", parts.apiserver))
        tasks.create_task(clock.starting("cloud", parts.hub, after=[broker, store]))
        for each in (parts.controller, parts.device):
            tasks.create_task(clock.starting("cloud", each, after=[broker, api]))


class EdgeControl:
    """What can be done to one edge of a stack."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.name = name
        self._stack = stack

    @property
    def parts(self) -> Edge:
        """Its host and its servers."""
        return self._stack._assembled.edges[self.name]  # noqa: SLF001 - one thing in two classes

    @property
    def line(self) -> Line:
        """How its line to the cloud is."""
        return self._stack._required.edges[self.name].line  # noqa: SLF001

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self.parts.is_on

    async def cut(self) -> None:
        """Cut its line to the cloud; it stays cut through a power cut."""
        await self._stack._set_line(self.name, Line.CUT)  # noqa: SLF001

    async def swallow(self) -> None:
        """Make its line swallow every packet without a word."""
        await self._stack._set_line(self.name, Line.SWALLOWING)  # noqa: SLF001

    async def heal(self) -> None:
        """Mend its line."""
        await self._stack._set_line(self.name, Line.UP)  # noqa: SLF001

    async def power_cut(self) -> None:
        """Kill every process and container of it at once."""
        await self.parts.host.power_cut()

    async def start(self, observe: Callable[[Step], None] = _nobody) -> None:
        """Switch it on again: returns when its services are started; `ready` waits for them."""
        clock = _Clock(observe)
        clock.tell(self.name, "host", "starting")
        await self.parts.start(line_up=self.line is not Line.CUT)
        clock.tell(self.name, "host", "ready")

    async def ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Wait until its broker, its containerd and its services all answer."""
        await self.parts.ready(timeout_seconds=timeout_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
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
            ("redis", self.redis),
            ("apiserver", self.apiserver),
            ("hub", self.hub),
        ]

    def __iter__(self) -> Iterator[tuple[str, Server]]:
        """Return every server and where it runs."""
        cloud: list[Server] = [
            self.rabbitmq, self.redis, self.apiserver, self.hub, self.controller, self.device,
        ]  # fmt: skip
        yield from (("cloud", each) for each in cloud)
        for name, edge in self.edges.items():
            yield from ((name, each) for each in edge.servers)


class _Clock:
    """Tells the observer what happens, with the time."""

    def __init__(self, observe: Callable[[Step], None]) -> None:
        self._observe = observe
        self._began = time.monotonic()

    def tell(self, where: str, name: str, state: str) -> None:
        seconds = time.monotonic() - self._began
        self._observe(Step(where=where, name=name, state=state, seconds=seconds))

    async def starting(
        self, where: str, server: Server, *, after: Sequence[asyncio.Task[None]] = ()
    ) -> None:
        for task in after:
            await asyncio.shield(task)
        self.tell(where, server.name, "starting")
        await server.start()
        await server.ready()
        self.tell(where, server.name, "ready")

    async def stopping(self, where: str, name: str, stop: Awaitable[None]) -> None:
        await stop
        self.tell(where, name, "stopped")


@contextmanager
def _first_error() -> Iterator[None]:
    """Raise the first error of a group alone: the others only followed from it."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours = group.subgroup(LocalError)
        if ours is None:
            raise
        first: BaseException = ours
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _start_edge(edge: Edge, clock: _Clock, *, line_up: bool) -> None:
    clock.tell(edge.name, "host", "starting")
    await edge.host.boot(line_up=line_up)
    clock.tell(edge.name, "host", "ready")
    await edge.start(line_up=line_up)
    async with asyncio.TaskGroup() as tasks:
        for server in edge.servers:
            tasks.create_task(clock.starting(edge.name, server))


def _assemble(stack: Stack, state: StackState) -> _Parts:
    subnet = network.Subnet(network=IPv4Network(state.network), tag=network.tag_of(stack.folder))
    admin = User(name=_ADMIN, password=state.password)
    links = {
        NodeName(name): User(name=name, password=e.password) for name, e in state.edges.items()
    }
    machine = Machine()
    amqp = state.ports["amqp"]
    cloud = stack.folder / "cloud"

    def program(name: str, settings: Mapping[str, str]) -> Program:
        return Program(
            name=name,
            services=(name,),
            folder=cloud / name,
            place=machine,
            settings={**settings, **state.settings},
        )

    return _Parts(
        subnet=subnet,
        rabbitmq=RabbitMQ(
            name="rabbitmq",
            folder=cloud / "rabbitmq",
            place=machine,
            definitions=cloud_definitions(admin=admin, nodes=links),
            listen=[("127.0.0.1", amqp), (subnet.cloud_address, amqp)],
            dist_port=state.ports["amqp-dist"],
        ),
        redis=Redis(folder=cloud / "redis", place=machine, port=state.ports["redis"]),
        apiserver=program(
            "apiserver",
            {
                "FEDGE_APISERVER_DATA_DIR": str(cloud / "apiserver"),
                "FEDGE_APISERVER_HOST": "127.0.0.1",
                "FEDGE_APISERVER_PORT": str(state.ports["apiserver"]),
                "FEDGE_APISERVER_KUBECONFIG": str(stack.kubeconfig),
                "FEDGE_APISERVER_HUB_URL": stack.hub_url,
            },
        ),
        hub=program(
            "hub",
            {
                "FEDGE_HUB_AMQP_URL": stack.amqp_url,
                "FEDGE_HUB_REDIS_URL": f"redis://127.0.0.1:{state.ports['redis']}/0",
                "FEDGE_HUB_HTTP_HOST": "127.0.0.1",
                "FEDGE_HUB_HTTP_PORT": str(state.ports["hub"]),
            },
        ),
        controller=program(
            "controller",
            {
                "FEDGE_CONTROLLER_AMQP_URL": stack.amqp_url,
                "FEDGE_CONTROLLER_KUBECONFIG": str(stack.kubeconfig),
            },
        ),
        device=program(
            "device",
            {
                "FEDGE_DEVICE_AMQP_URL": stack.amqp_url,
                "FEDGE_DEVICE_KUBECONFIG": str(stack.kubeconfig),
            },
        ),
        edges={
            name: Edge(
                name=name,
                folder=stack.folder / "edges" / name,
                subnet=subnet,
                index=edge.index,
                admin=admin,
                link=links[NodeName(name)],
                cloud=f"{subnet.cloud_address}:{amqp}",
                settings=state.settings,
            )
            for name, edge in state.edges.items()
        },
    )
