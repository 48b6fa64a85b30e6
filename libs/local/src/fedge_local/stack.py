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
from pathlib import Path

from fedge_local import network, ports
from fedge_local.assembly import Parts, amqp_url_of, assemble, hub_url_of, kubeconfig_of
from fedge_local.disks import SMALLEST_BYTES
from fedge_local.edge import Edge
from fedge_local.errors import LocalError
from fedge_local.fault_records import ALL, FaultBook, FaultKind, FaultRecord
from fedge_local.processes import Process, resume
from fedge_local.servers import Server
from fedge_local.state import EdgeState, Line, StackState, alone

DEFAULT_FOLDER = Path("/var/lib/fedge")
CLOUD = "cloud"
"""Where the cloud's servers are; no edge may be called so."""
_PORTS = (
    "amqp", "amqp-dist", "amqps", "management", "redis", "apiserver", "hub", "enrolment",
)  # fmt: skip


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
        edge_disk_bytes: int | None = None,
        fake_clock: bool | None = None,
        edge_image: Path | None = None,
    ) -> None:
        """Describe a stack. What is None stays as it was when the stack was last started.

        Args:
            folder: where everything of it is.
            edges: names of its nodes; those that the state file knows are there too.
            settings: environment for the services beside what the stack sets.
            edge_disk_bytes: size of a disk that each edge gets of its own when it is first started,
                so that it can be filled (`fedge_local.faults.fill_disk`); 0: none.
            fake_clock: whether the clock of edges' services can be set
                (`fedge_local.faults.clock`).
            edge_image: archive of the image that edges run from; an empty path: from this checkout.

        Raises:
            LocalError: such a disk is too small.
        """
        if edge_disk_bytes and edge_disk_bytes < SMALLEST_BYTES:
            raise LocalError(
                f"edge_disk_bytes is {edge_disk_bytes}: a broker and stores need {SMALLEST_BYTES}"
            )
        self.folder = folder.absolute()
        self._names = tuple(edges)
        self._settings = None if settings is None else dict(settings)
        self._edge_disk_bytes = edge_disk_bytes
        self._fake_clock = fake_clock
        self._edge_image = edge_image
        self.faults = FaultBook(self.folder / "faults")
        self._state: StackState | None = StackState.load(self.state_file)
        self._parts: Parts | None = None

    @property
    def state_file(self) -> Path:
        """Where what is remembered is."""
        return self.folder / "stack.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig of the embedded Kubernetes API."""
        return kubeconfig_of(self.folder)

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
        return amqp_url_of(self._required)

    @property
    def apiserver_url(self) -> str:
        """The embedded Kubernetes API."""
        return f"https://127.0.0.1:{self._required.ports['apiserver']}"

    @property
    def hub_url(self) -> str:
        """Hub's web address."""
        return hub_url_of(self._required)

    @property
    def edge_names(self) -> list[str]:
        """Names of the edges."""
        return list(self._required.edges)

    @property
    def subnet(self) -> network.Subnet:
        """Its addresses and the names of its devices."""
        return self._assembled.subnet

    def edge(self, name: str) -> "EdgeControl":
        """Return the edge called ``name``.

        Raises:
            LocalError: there is none.
        """
        if name not in self._required.edges:
            known = ", ".join(self._required.edges)
            raise LocalError(f"there is no edge {name!r}; there is {known}")
        return EdgeControl(self, name)

    def choices(self, where: str) -> list[str]:
        """Return which processes an edge, or the cloud (`CLOUD`), has.

        Raises:
            LocalError: there is no such edge.
        """
        return [*self._servers(where), *([] if where == CLOUD else [ALL])]

    def server(self, where: str, what: str) -> Server:
        """Return a server of an edge or of the cloud.

        Raises:
            LocalError: there is none; with what there is.
        """
        there = self._servers(where)
        if what not in there:
            raise LocalError(f"{where} has no {what!r} to take: it has {', '.join(there)}")
        return there[what]

    def processes(self, where: str, what: str) -> list[Process]:
        """Return the topmost processes of a server that run, or of `ALL` of an edge."""
        host = self.edge(where).parts.host if what == ALL else None
        top = self.server(where, what).process if host is None else host.init
        return [] if top is None else [top]

    def _servers(self, where: str) -> dict[str, Server]:
        parts = self._assembled
        if where == CLOUD:
            return {
                "broker": parts.rabbitmq,
                "redis": parts.redis,
                "hub": parts.hub,
                "controller": parts.controller,
                "device": parts.device,
                "apiserver": parts.apiserver,
            }
        edge = self.edge(where).parts
        return {"broker": edge.rabbitmq, "containerd": edge.containerd, "services": edge.services}

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
            for left in self.faults.all():
                if left.is_left_behind:
                    await self.lift(left)
            for name, server in parts.listening:
                if not server.is_running:
                    ports.require_free(
                        server.name, state.ports[name], remembered_in=self.state_file
                    )
            await network.bring_up(parts.subnet)
            with _first_error():
                async with asyncio.TaskGroup() as tasks:
                    api = self._start_cloud(parts, clock, tasks)
                    for name, edge in parts.edges.items():
                        tasks.create_task(self._start_edge(name, edge, clock, api))

    async def down(self, observe: Callable[[Step], None] = _nobody) -> None:
        """Stop everything that was started here, and nothing else; the data stays."""
        if self._state is None:
            return
        with alone(self.folder):
            parts = self._assembled
            clock = _Clock(observe)
            for fault in self.faults.all():
                await self.lift(fault)
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
    def _assembled(self) -> Parts:
        if self._parts is None:
            self._parts = assemble(self.folder, self._required)
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
            if name == CLOUD:
                raise LocalError(f"an edge cannot be called {CLOUD!r}: take another name")
            if name not in state.edges:
                state.edges[name] = EdgeState(
                    index=len(state.edges), password=secrets.token_urlsafe(18)
                )
        if self._settings is not None:
            state.settings = self._settings
        if self._edge_disk_bytes is not None:
            state.edge_disk_bytes = self._edge_disk_bytes
        if self._fake_clock is not None:
            state.fake_clock = self._fake_clock
        if self._edge_image is not None:
            wanted = "" if self._edge_image == Path() else str(self._edge_image.absolute())
            if state.edge_image != wanted and self._state is not None:
                on = [name for name, edge in self._assembled.edges.items() if edge.is_on]
                if on:
                    raise LocalError(
                        f"{on[0]} runs from {state.edge_image or 'the checkout'}, not from "
                        f"{wanted or 'the checkout'}: run `fedge down` first"
                    )
            state.edge_image = wanted
        state.save(self.state_file)
        self._state, self._parts = state, None
        return state

    async def lift(self, fault: FaultRecord) -> None:
        """Take back what a fault did and forget it; what it ended is not started.

        Nothing if it is healed already.
        """
        edge = self._assembled.edges.get(fault.where)
        match fault.kind:
            case FaultKind.CUT | FaultKind.HALFOPEN | FaultKind.LOSSY | FaultKind.SLOW:
                self.faults.forget(fault)
                if edge is not None:
                    await self.shape_line(fault.where)
                return
            case FaultKind.PAUSE:
                for process in self.processes(fault.where, fault.what):
                    resume(process)
            case FaultKind.FILL_DISK if edge is not None and edge.disk is not None:
                edge.disk.empty()
            case FaultKind.CLOCK if edge is not None and edge.clock is not None:
                edge.clock.set(0)
            case _:
                pass  # killed processes are not there to be helped
        self.faults.forget(fault)

    async def shape_line(self, name: str) -> None:
        """Bring the line of an edge, and the packet filter of all, into the state remembered."""
        async with self.faults.shaping_lines():
            host = self._assembled.edges[name].host
            await (host.cut() if self.edge(name).line is Line.CUT else host.heal())
            await network.impair(self._assembled.subnet, self._impairments())

    def _impairments(self) -> dict[int, network.Impairment]:
        found: dict[int, network.Impairment] = {}
        faults = self.faults.all()
        for name, edge in self._required.edges.items():
            here = [each for each in faults if each.where == name]
            is_silent = edge.line is Line.SWALLOWING
            detours = [each.detour_port for each in here if each.detour_port]
            impairment = network.Impairment(
                drops_up=is_silent or any(each.drops_up for each in here),
                drops_down=is_silent or any(each.drops_down for each in here),
                loss_percent=max((each.loss_percent for each in here), default=0.0),
                detour=(
                    network.Detour(port=self._required.ports["amqps"], to=detours[0])
                    if detours
                    else None
                ),
            )
            if impairment != network.Impairment():
                found[edge.index] = impairment
        return found

    async def _set_line(self, name: str, line: Line) -> None:
        """Bring the line of an edge into a state, and remember it for its next boot."""
        state = self._required
        state.edges[name].line = line
        state.save(self.state_file)
        await self.shape_line(name)

    async def _switch_on(self, name: str, clock: "_Clock") -> None:
        """Switch an edge on and start all in it, with the faults that last."""
        edge = self._assembled.edges[name]
        line_up = self.edge(name).line is not Line.CUT
        clock.tell(name, "host", "starting")
        await edge.host.boot(line_up=line_up)
        await self.shape_line(name)  # it may have changed meanwhile
        is_full = any(
            each.where == name and each.kind is FaultKind.FILL_DISK for each in self.faults.all()
        )
        await edge.start(line_up=line_up, disk_full=is_full)
        clock.tell(name, "host", "ready")

    async def _start_edge(
        self, name: str, edge: Edge, clock: "_Clock", api: asyncio.Task[None]
    ) -> None:
        if not edge.identity.has_joined:
            await asyncio.shield(api)  # from which its token comes
        await self._switch_on(name, clock)
        async with asyncio.TaskGroup() as tasks:
            for server in edge.servers:
                tasks.create_task(clock.starting(name, server))

    def _start_cloud(
        self, parts: Parts, clock: "_Clock", tasks: asyncio.TaskGroup
    ) -> asyncio.Task[None]:
        """Start the cloud's servers, each when what it needs answers; return the API server's."""
        broker = tasks.create_task(clock.starting("cloud", parts.rabbitmq))
        store = tasks.create_task(clock.starting("cloud", parts.redis))
        api = tasks.create_task(clock.starting("cloud", parts.apiserver))
        # not after the broker, which reads its certificate from hub
        tasks.create_task(clock.starting("cloud", parts.hub, after=[store, api]))
        for each in (parts.controller, parts.device):
            tasks.create_task(clock.starting("cloud", each, after=[broker, api]))
        return api


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
    def index(self) -> int:
        """Its number in the stack, by which it has its address."""
        return self._stack._required.edges[self.name].index  # noqa: SLF001

    @property
    def line(self) -> Line:
        """How its line to the cloud is, faults that are made on purpose included."""
        line = self._stack._required.edges[self.name].line  # noqa: SLF001
        faults = self._stack.faults.all()
        if any(each.where == self.name and each.kind is FaultKind.CUT for each in faults):
            return Line.CUT
        return line

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
        """Mend its line; what a fault that lasts does to it stays (`fedge_local.faults.heal`)."""
        await self._stack._set_line(self.name, Line.UP)  # noqa: SLF001

    async def power_cut(self) -> None:
        """Kill every process and container of it at once."""
        await self.parts.host.power_cut()

    async def start(self, observe: Callable[[Step], None] = _nobody) -> None:
        """Switch it on again: returns when its services are started; `ready` waits for them."""
        await self._stack._switch_on(self.name, _Clock(observe))  # noqa: SLF001

    async def ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Wait until its broker, its containerd and its services all answer."""
        await self.parts.ready(timeout_seconds=timeout_seconds)


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
