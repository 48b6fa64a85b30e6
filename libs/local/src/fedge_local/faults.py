"""Faults made on purpose at a stack: each is there while its context lasts, and healed at its end.

A context heals on success, error and cancellation alike. What the fault is is written down first
(`fedge_local.fault_records`), so what is left behind when its process is killed is known: `heal`
mends it, and so do `Stack.down` and `Stack.up`. Healing twice is nothing. Faults at several nodes
and of several kinds may last at once; two of a kind at one node may not, nor may two faults of the
same processes (`FaultError`).

A fault is healed when its context has ended; that everything has *recovered* is for the caller to
await. Only processes that were killed are awaited until they answer.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

from fedge_local import network
from fedge_local.errors import FaultError, LocalError
from fedge_local.fault_records import ALL, FaultKind, FaultRecord
from fedge_local.line_proxy import LineProxy
from fedge_local.processes import Process
from fedge_local.processes import pause as stop_processes
from fedge_local.stack import CLOUD, Stack
from fedge_local.state import Line

__all__ = [
    "CLOUD",
    "Direction",
    "FaultError",
    "FaultKind",
    "FaultRecord",
    "Part",
    "clock",
    "cut",
    "fill_disk",
    "halfopen",
    "heal",
    "kill",
    "lasting",
    "lossy",
    "pause",
    "slow",
]

READY_SECONDS = 60.0


class Direction(StrEnum):
    """Which packets of an edge's line are meant."""

    BOTH = "both"
    UP = "up"
    """From the edge to the cloud."""
    DOWN = "down"
    """From the cloud to the edge."""


class Part(StrEnum):
    """Which processes are meant. Those up to `ALL` are an edge's, the broker is both sides'."""

    SERVICES = "services"
    CONTAINERD = "containerd"
    ALL = ALL
    """The whole edge: killed, its power is cut."""
    BROKER = "broker"
    REDIS = "redis"
    HUB = "hub"
    CONTROLLER = "controller"
    DEVICE = "device"
    APISERVER = "apiserver"


def lasting(stack: Stack, node: str | None = None) -> list[FaultRecord]:
    """Return the faults that are there, at one node or at all."""
    return [each for each in stack.faults.all() if node in (None, each.where)]


async def heal(stack: Stack, node: str, *, timeout_seconds: float = READY_SECONDS) -> list[str]:
    """Heal all that was made to fail at a node, by whomever; return what that was.

    Args:
        stack: whose.
        node: name of an edge, or `CLOUD`.
        timeout_seconds: how long processes that were killed may take to answer.

    Raises:
        LocalError: there is no such node.
        NotReadyError: a process does not answer again.
    """
    stack.choices(node)
    healed = [
        str(record)
        for record in lasting(stack, node)
        if await _heal(stack, record, timeout_seconds)
    ]
    if node != CLOUD and stack.edge(node).line is not Line.UP:
        healed.append(f"line {stack.edge(node).line}")
        await stack.edge(node).heal()
    return healed


@asynccontextmanager
async def cut(stack: Stack, node: str) -> AsyncIterator[None]:
    """Cut the line of an edge: the carrier is lost at both ends."""
    record = _record(_edge_only(stack, node, FaultKind.CUT), FaultKind.CUT)
    async with _lasting(stack, record, lambda: stack.shape_line(node)):
        yield


@asynccontextmanager
async def halfopen(
    stack: Stack, node: str, *, direction: Direction = Direction.BOTH
) -> AsyncIterator[None]:
    """Let the packets of an edge's line vanish: nobody is told, connections stay half open."""
    record = FaultRecord(
        where=_edge_only(stack, node, FaultKind.HALFOPEN),
        kind=FaultKind.HALFOPEN,
        owner=_ourselves(),
        drops_up=direction is not Direction.DOWN,
        drops_down=direction is not Direction.UP,
    )
    async with _lasting(stack, record, lambda: stack.shape_line(node)):
        yield


@asynccontextmanager
async def lossy(stack: Stack, node: str, *, percent: float = 20.0) -> AsyncIterator[None]:
    """Let packets of an edge's line vanish at random, so many of a hundred in each direction.

    Raises:
        FaultError: it is no percentage.
    """
    if not 0 < percent <= 100:  # noqa: PLR2004 - a percentage
        raise FaultError(f"a loss of {percent:g} percent cannot be: say more than 0, at most 100")
    record = FaultRecord(
        where=_edge_only(stack, node, FaultKind.LOSSY),
        kind=FaultKind.LOSSY,
        owner=_ourselves(),
        loss_percent=percent,
    )
    async with _lasting(stack, record, lambda: stack.shape_line(node)):
        yield


@asynccontextmanager
async def slow(
    stack: Stack,
    node: str,
    *,
    delay_seconds: float = 0.0,
    bytes_per_second: float | None = None,
) -> AsyncIterator[None]:
    """Make the line of an edge to the cloud's broker slow, in each direction.

    Connections that are there are reset at the beginning and at the end, so that they are dialled
    anew: through a proxy in this process, and directly again. To dial itself takes no longer.

    Args:
        stack: whose.
        node: name of the edge.
        delay_seconds: how much longer everything takes.
        bytes_per_second: how much passes, all connections together; None: no less than before.

    Raises:
        FaultError: neither was given, or one is out of range.
    """
    _edge_only(stack, node, FaultKind.SLOW)
    if delay_seconds < 0 or (bytes_per_second is not None and bytes_per_second <= 0):
        raise FaultError("a line cannot be that slow: give a delay and a rate above 0")
    if not delay_seconds and bytes_per_second is None:
        raise FaultError("say how slow the line is to be: a delay, a rate, or both")
    subnet, index = stack.subnet, stack.edge(node).index
    amqp = stack.ports["amqps"]
    proxy = LineProxy(
        listen=subnet.cloud_address,
        target=(subnet.cloud_address, amqp),
        delay_seconds=delay_seconds,
        bytes_per_second=bytes_per_second,
    )
    async with proxy:
        record = FaultRecord(
            where=node, kind=FaultKind.SLOW, owner=_ourselves(), detour_port=proxy.port
        )

        async def make() -> None:
            await stack.shape_line(node)
            await network.reset_connections(subnet, index, port=amqp)

        async with _lasting(stack, record, make):
            try:
                yield
            finally:
                # as long as the detour is there, the edge takes the reset for the broker's
                proxy.reset()


@asynccontextmanager
async def kill(
    stack: Stack,
    node: str,
    *,
    what: Part = Part.SERVICES,
    timeout_seconds: float = READY_SECONDS,
) -> AsyncIterator[None]:
    """Kill processes of a node (SIGKILL); at the end start them again and wait until they answer.

    They are not waited for while another fault of the node's processes lasts, which may be what
    they wait for.

    Args:
        stack: whose.
        node: name of an edge, or `CLOUD`.
        what: which processes; `Part.ALL` cuts the power of an edge.
        timeout_seconds: how long they may take to answer again.

    Raises:
        LocalError: the node has no such process.
        NotReadyError: at the end, that they do not answer.
    """
    record = _record(node, FaultKind.KILL, what=_part_of(stack, node, what))

    async def make() -> None:
        if what is Part.ALL:
            await stack.edge(node).power_cut()
        else:
            await stack.server(node, what).kill()

    async with _lasting(stack, record, make, timeout_seconds=timeout_seconds):
        yield


@asynccontextmanager
async def pause(stack: Stack, node: str, *, what: Part = Part.SERVICES) -> AsyncIterator[None]:
    """Let processes of a node stand still (SIGSTOP) with all their children; then go on.

    Args:
        stack: whose.
        node: name of an edge, or `CLOUD`.
        what: which processes; `Part.ALL` is everything in an edge, containers included.

    Raises:
        LocalError: the node has no such process.
        FaultError: it does not run.
    """
    record = _record(node, FaultKind.PAUSE, what=_part_of(stack, node, what))
    processes = stack.processes(node, what)
    if not processes:
        raise FaultError(f"{what} of {node} cannot be paused: it does not run; start it first")

    async def make() -> None:
        for process in processes:
            await stop_processes(process)

    async with _lasting(stack, record, make):
        yield


@asynccontextmanager
async def fill_disk(stack: Stack, node: str) -> AsyncIterator[None]:
    """Fill the disk of an edge's services to its last block; what others free meanwhile is free.

    Its broker has a disk of its own, with room that is taken in advance.

    Raises:
        FaultError: the edge has no disk of its own, or is switched off.
    """
    _edge_only(stack, node, FaultKind.FILL_DISK)
    disk = stack.edge(node).parts.disk
    if disk is None:
        raise FaultError(
            f"{node} has no disk of its own, and the machine's is not to be filled: start a new "
            "stack with `fedge demo --data-dir FOLDER --edge-disk 256Mi`, in tests with "
            "`Stack(..., edge_disk_bytes=...)`"
        )
    async with _lasting(stack, _record(node, FaultKind.FILL_DISK), disk.fill):
        yield


@asynccontextmanager
async def clock(stack: Stack, node: str, *, step_seconds: int) -> AsyncIterator[None]:
    """Set the wall clock of an edge's services wrong; the monotonic clock goes on.

    Args:
        stack: whose.
        node: name of the edge.
        step_seconds: how far ahead it is; negative: behind.

    Raises:
        FaultError: the edge was started without a clock that can be set.
    """
    _edge_only(stack, node, FaultKind.CLOCK)
    fake = stack.edge(node).parts.clock
    services = stack.edge(node).parts.services.process
    if fake is None or not (services is None or fake.is_followed_by(services)):
        raise FaultError(
            f"the clock of {node} cannot be set: stop the stack with `fedge down` and start it "
            "with `fedge demo --fake-clock`, in tests with `Stack(..., fake_clock=True)`"
        )

    async def make() -> None:
        fake.set(step_seconds)

    async with _lasting(stack, _record(node, FaultKind.CLOCK), make):
        yield


@asynccontextmanager
async def _lasting(
    stack: Stack,
    record: FaultRecord,
    make: Callable[[], Awaitable[None]],
    *,
    timeout_seconds: float = READY_SECONDS,
) -> AsyncIterator[None]:
    """Write a fault down, make it, and heal it however the context ends."""
    for other in lasting(stack, record.where):
        if record.excludes(other) and other.is_left_behind:
            await _heal(stack, other, timeout_seconds)
    stack.faults.add(record)
    try:
        await make()
        yield
    finally:
        await _heal(stack, record, timeout_seconds)


async def _heal(stack: Stack, record: FaultRecord, timeout_seconds: float) -> bool:
    """Heal a fault, if nobody has; return whether we did."""
    async with stack.faults.healing(record) as is_ours:
        if not is_ours:
            return False
        if record.kind is FaultKind.KILL:
            await _start(stack, record)
        await stack.lift(record)
    if record.kind is FaultKind.KILL and not _others(stack, record):
        if record.what == ALL:
            await stack.edge(record.where).ready(timeout_seconds=timeout_seconds)
        else:
            server = stack.server(record.where, record.what)
            await server.ready(timeout_seconds=timeout_seconds)
    return True


async def _start(stack: Stack, record: FaultRecord) -> None:
    if record.what == ALL:
        await stack.edge(record.where).start()
    elif record.where == CLOUD or stack.edge(record.where).is_on:
        await stack.server(record.where, record.what).start()


def _others(stack: Stack, record: FaultRecord) -> bool:
    """Whether other processes of the node are taken now, or the node has no power."""
    of_processes = (FaultKind.KILL, FaultKind.PAUSE)
    if any(each.kind in of_processes for each in lasting(stack, record.where)):
        return True
    return record.where != CLOUD and not stack.edge(record.where).is_on


def _record(where: str, kind: FaultKind, *, what: str = "") -> FaultRecord:
    return FaultRecord(where=where, kind=kind, what=what, owner=_ourselves())


def _ourselves() -> Process:
    return Process.of(os.getpid())


def _edge_only(stack: Stack, node: str, kind: FaultKind) -> str:
    if node == CLOUD:
        edges = ", ".join(stack.edge_names)
        raise FaultError(f"{kind} is for edges, not for the cloud: name one of {edges}")
    return stack.edge(node).name


def _part_of(stack: Stack, node: str, what: Part) -> str:
    choices = stack.choices(node)
    if what not in choices:
        raise LocalError(f"{node} has no {str(what)!r}: take one of {', '.join(choices)}")
    return str(what)
