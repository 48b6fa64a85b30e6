"""Each fault bites while it lasts and is healed at its end, on a whole system."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from fedge_enrolment.dialling import context_of
from fedge_enrolment.identity import Identity
from fedge_enrolment.names import BROKER
from fedge_local import faults
from fedge_local.commands import environment, run
from fedge_local.errors import CommandFailedError, LocalError
from fedge_local.faults import CLOUD, Direction, FaultError, Part
from fedge_local.processes import Process, tree
from fedge_local.rabbitmq import RabbitMQ
from fedge_local.stack import EdgeControl, Stack
from fedge_local.state import EdgeState, Line, StackState

pytestmark = pytest.mark.stack

EDGES = ("gw-1", "gw-2")
EDGE, OTHER = EDGES
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
DISK_BYTES = 160 * 1024 * 1024
DEADLINE_SECONDS = 30.0
PING = ("/bin/busybox", "ping", "-c", "1", "-W", "1")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(
        tmp_path_factory.mktemp("faults"),
        edges=EDGES,
        settings={"FEDGE_EDGE_HEARTBEAT_SECONDS": "1"},
        edge_disk_bytes=DISK_BYTES,
        fake_clock=True,
    )
    with asyncio.Runner() as runner:
        try:
            runner.run(stack.up())
            yield stack
        finally:
            runner.run(stack.down())


@pytest.fixture
async def stack(running: Stack) -> AsyncIterator[Stack]:
    yield running
    assert faults.lasting(running) == []
    assert running.is_running
    for name in EDGES:
        await until(partial(reaches_cloud, running, name))


@pytest.fixture
def edge(stack: Stack) -> EdgeControl:
    return stack.edge(EDGE)


async def until(is_so: Callable[[], Awaitable[bool]], *, seconds: float = DEADLINE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await is_so():  # noqa: ASYNC110 - the kernel and the brokers tell nobody
            await asyncio.sleep(0.02)


async def reaches_cloud(stack: Stack, name: str) -> bool:
    try:
        await stack.edge(name).parts.host.run(*PING, stack.subnet.cloud_address)
    except CommandFailedError:
        return False
    return True


async def test_cut_loses_the_carrier_and_leaves_other_edges_alone(
    stack: Stack, edge: EdgeControl
) -> None:
    async with faults.cut(stack, EDGE):
        assert line_of(edge) is Line.CUT
        assert "state DOWN" in await edge.parts.host.run("ip", "link", "show", "uplink")
        assert not await reaches_cloud(stack, EDGE)
        assert await reaches_cloud(stack, OTHER)
    assert line_of(edge) is Line.UP
    await until(partial(reaches_cloud, stack, EDGE))


def line_of(edge: EdgeControl) -> Line:
    return edge.line


@pytest.mark.parametrize("direction", Direction)
async def test_halfopen_swallows_the_direction_that_was_told(
    stack: Stack, edge: EdgeControl, direction: Direction
) -> None:
    async with connection(stack, edge) as (at_edge, at_cloud):
        async with faults.halfopen(stack, EDGE, direction=direction):
            goes_up = await passes(at_edge, at_cloud)
            goes_down = await passes(at_cloud, at_edge)
            assert (goes_up, goes_down) == (direction is Direction.DOWN, direction is Direction.UP)
            assert await reaches_cloud(stack, OTHER)
        # nobody was told, and what was lost is sent again
        for each in (at_edge, at_cloud):
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert set(await each[0].readexactly(1)) == set(b"x")


@asynccontextmanager
async def connection(stack: Stack, edge: EdgeControl) -> AsyncIterator[tuple[Stream, Stream]]:
    """Give both ends of a connection from an edge to the machine."""
    accepted: asyncio.Queue[Stream] = asyncio.Queue()
    server = await asyncio.start_server(
        lambda *ends: accepted.put_nowait(ends), stack.subnet.cloud_address, 0
    )
    port = server.sockets[0].getsockname()[1]
    dialled = await edge.parts.host.connect(stack.subnet.cloud_address, port)
    near = await asyncio.open_connection(sock=dialled)
    far = await accepted.get()
    try:
        yield near, far
    finally:
        server.close()
        for _, writer in (near, far):
            writer.transport.abort()


async def passes(sender: Stream, receiver: Stream) -> bool:
    """Whether a byte arrives soon; one that did is given back for the next to read."""
    sender[1].write(b"x")
    try:
        async with asyncio.timeout(0.3):
            got = await receiver[0].readexactly(1)
    except TimeoutError:
        return False
    receiver[0].feed_data(got)
    return True


async def test_lossy_loses_some_packets_and_not_all(stack: Stack, edge: EdgeControl) -> None:
    async with faults.lossy(stack, EDGE, percent=50):
        lost = await lost_percent(edge, stack.subnet.cloud_address)
        assert 20 < lost < 100
    assert await lost_percent(edge, stack.subnet.cloud_address) == 0


async def lost_percent(edge: EdgeControl, address: str) -> int:
    command = f"/bin/busybox ping -c 40 -i 0.02 -W 1 {address} | grep -o '[0-9]*% packet loss'"
    return int((await edge.parts.host.run("sh", "-c", command)).partition("%")[0])


@pytest.mark.parametrize("percent", [0, -1, 101])
async def test_loss_that_is_no_percentage_is_refused(stack: Stack, percent: float) -> None:
    with pytest.raises(FaultError, match="more than 0, at most 100"):
        async with faults.lossy(stack, EDGE, percent=percent):
            pass


async def test_slow_leads_all_connections_over_a_slow_line_and_back(
    stack: Stack, edge: EdgeControl
) -> None:
    await until(lambda: is_linked(stack, EDGE))
    before = await direct_connections(stack, edge)
    assert before
    async with faults.slow(stack, EDGE, delay_seconds=0.3, bytes_per_second=50_000):
        assert not before & await direct_connections(stack, edge)
        assert await greeting_seconds(stack, edge) >= 0.6
        assert await greeting_seconds(stack, stack.edge(OTHER)) < 0.3
        await until(lambda: is_linked(stack, EDGE))
        assert not await direct_connections(stack, edge)
    assert await greeting_seconds(stack, edge) < 0.3
    await until(lambda: is_linked_directly(stack, edge))


async def is_linked(stack: Stack, name: str) -> bool:
    """Whether the edge's broker has connections to the cloud's that work."""
    broker = stack.server(CLOUD, "broker")
    assert isinstance(broker, RabbitMQ)
    found = await broker.evaluate(
        "[rabbit_reader:info(P, [user, state]) || P <- rabbit_networking:connections()]"
    )
    user = rf"urn:fedge:node:{re.escape(name)}:[0-9a-f]+"
    return bool(re.search(rf'<<"{user}">>}},{{state,running}}', "".join(found.split())))


async def is_linked_directly(stack: Stack, edge: EdgeControl) -> bool:
    return bool(await direct_connections(stack, edge))


async def direct_connections(stack: Stack, edge: EdgeControl) -> set[str]:
    """Return the edge's connections that end at the cloud's broker itself, by port."""
    ours = f"{stack.subnet.cloud_address}:{stack.ports['amqps']}"
    found = await run(
        ["ss", "-tnH", "state", "established", "src", ours, "dst", edge.parts.host.address]
    )
    return {line.split()[-1] for line in found.splitlines()}


async def greeting_seconds(stack: Stack, edge: EdgeControl) -> float:
    """Return how long the cloud's broker takes to answer a client on the edge."""
    dialled = await edge.parts.host.connect(stack.subnet.cloud_address, stack.ports["amqps"])
    identity = Identity(edge.parts.host.seen_from_outside(edge.parts.identity.folder))
    context = context_of(identity.authorities, certificate=identity.certificate, key=identity.key)
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(
        sock=dialled, ssl=context, server_hostname=BROKER
    )
    writer.write(b"AMQP\x00\x00\x09\x01")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert await reader.readexactly(1) == b"\x01"
    writer.transport.abort()
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("node", "what"),
    [
        (EDGE, Part.SERVICES),
        (EDGE, Part.BROKER),
        (EDGE, Part.CONTAINERD),
        (CLOUD, Part.HUB),
        (CLOUD, Part.REDIS),
        (CLOUD, Part.CONTROLLER),
    ],
)
async def test_killed_process_is_gone_and_comes_back(stack: Stack, node: str, what: Part) -> None:
    server = stack.server(node, what)
    before = server.process
    assert before is not None
    async with faults.kill(stack, node, what=what):
        assert not before.is_alive
        assert server.process is None
    assert server.process is not None
    assert await server.answers()
    assert Process.load(server.folder / f"{server.name}.pid") == server.process


async def test_power_cut_lasts_and_the_edge_comes_back_with_its_faults(
    stack: Stack, edge: EdgeControl
) -> None:
    async with faults.cut(stack, EDGE):
        async with faults.kill(stack, EDGE, what=Part.ALL):
            assert not edge.is_on
        assert edge.is_on
        assert not await reaches_cloud(stack, EDGE)


@pytest.mark.parametrize(
    ("node", "what"),
    [(EDGE, Part.SERVICES), (EDGE, Part.BROKER), (EDGE, Part.ALL), (CLOUD, Part.HUB)],
)
async def test_paused_processes_stand_still_then_go_on(stack: Stack, node: str, what: Part) -> None:
    (top,) = stack.processes(node, what)
    async with faults.pause(stack, node, what=what):
        pids = tree(top.pid)
        assert pids
        assert {state_of(pid) for pid in pids} == {"T"}
    assert "T" not in {state_of(pid) for pid in tree(top.pid)}
    if what is not Part.ALL:
        assert await stack.server(node, what).answers()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_full_disk_takes_nothing_until_it_is_healed(stack: Stack, edge: EdgeControl) -> None:
    data = edge.parts.folder / "data"
    messages = edge.parts.folder / "rabbitmq" / "mnesia"
    async with faults.fill_disk(stack, EDGE):
        with pytest.raises(CommandFailedError, match="No space left"):
            await write(edge, data)
        await write(edge, messages)  # nobody takes the broker's room
        await write(stack.edge(OTHER), stack.edge(OTHER).parts.folder / "data")
    await write(edge, data)
    assert (edge.parts.folder / "disk.img").stat().st_blocks * 512 <= DISK_BYTES
    assert (edge.parts.folder / "broker-disk.img").stat().st_blocks * 512 >= DISK_BYTES
    assert "meta.db" in await edge.parts.host.run("ls", str(data))
    assert await edge.parts.host.run("ls", str(messages))
    # all of it lies on the edge's disks
    assert [*data.iterdir(), *messages.iterdir()] == []


async def write(edge: EdgeControl, folder: Path) -> None:
    file = folder / "probe"
    command = f"dd if=/dev/zero of={file} bs=64k count=4 conv=fsync"
    try:
        await edge.parts.host.run("sh", "-c", command)
    finally:
        await edge.parts.host.run("rm", "-f", str(file))


async def test_disk_survives_a_power_cut_and_one_filled_then_healed_is_empty(
    stack: Stack, edge: EdgeControl
) -> None:
    data = edge.parts.folder / "data"
    await edge.parts.host.run("sh", "-c", f"echo kept > {data}/kept")
    async with faults.fill_disk(stack, EDGE):
        await edge.power_cut()
        await edge.start()
        with pytest.raises(CommandFailedError, match="No space left"):
            await write(edge, data)
        await edge.power_cut()
    await edge.start()
    await edge.ready()
    await write(edge, data)
    assert await edge.parts.host.run("cat", f"{data}/kept") == "kept\n"


async def test_disk_can_be_filled_only_where_there_is_one(tmp_path: Path) -> None:
    stack = plain_stack(tmp_path)
    with pytest.raises(FaultError, match="edge_disk_bytes"):
        async with faults.fill_disk(stack, EDGE):
            pass
    with pytest.raises(FaultError, match="fake_clock"):
        async with faults.clock(stack, EDGE, step_seconds=1):
            pass


def plain_stack(folder: Path) -> Stack:
    StackState(
        password="p",
        network="198.19.253.0/24",
        ports={
            "amqp": 1,
            "amqp-dist": 2,
            "redis": 3,
            "apiserver": 4,
            "hub": 5,
            "amqps": 6,
            "management": 7,
            "enrolment": 8,
        },
        edges={EDGE: EdgeState(index=0, password="p")},
    ).save(folder / "stack.json")
    return Stack(folder, edges=())


@pytest.mark.parametrize("step", [3600, -3600])
async def test_clock_of_services_steps_while_they_wait_as_ever(
    stack: Stack, edge: EdgeControl, step: int
) -> None:
    async with faults.kill(stack, EDGE, what=Part.SERVICES):
        pass
    process = edge.parts.services.process
    assert process is not None
    assert "clock.so" in maps_of(process)
    async with faults.clock(stack, EDGE, step_seconds=step):
        wall, waited = await clocks(edge)
        assert abs(wall - time.time() - step) < 10
        assert 0.2 <= waited < 2.0
    wall, _ = await clocks(edge)
    assert abs(wall - time.time()) < 10


def maps_of(process: Process) -> str:
    return Path(f"/proc/{process.pid}/maps").read_text()


async def clocks(edge: EdgeControl) -> tuple[float, float]:
    """Return the time as a program with the services' environment has it, and a wait of 0.2 s."""
    program = (
        "import asyncio, time; a = time.monotonic(); asyncio.run(asyncio.sleep(0.2)); "
        "print(time.time(), time.monotonic() - a)"
    )
    assert edge.parts.clock is not None
    variables = [f"{key}={value}" for key, value in edge.parts.clock.variables().items()]
    found = await edge.parts.host.run("/usr/bin/env", *variables, sys.executable, "-c", program)
    wall, waited = found.split()
    return float(wall), float(waited)


async def test_faults_of_several_kinds_and_edges_last_side_by_side(stack: Stack) -> None:
    async with asyncio.TaskGroup() as tasks:
        inside = asyncio.Barrier(4)

        async def hold(fault: AbstractAsyncContextManager[None]) -> None:
            async with fault:
                await inside.wait()
                assert len(faults.lasting(stack)) == 4
                assert not await reaches_cloud(stack, EDGE)
                await inside.wait()

        for fault in (
            faults.halfopen(stack, EDGE),
            faults.lossy(stack, EDGE, percent=10),
            faults.slow(stack, OTHER, delay_seconds=0.1),
            faults.kill(stack, CLOUD, what=Part.HUB),
        ):
            tasks.create_task(hold(fault))


async def test_fault_is_healed_when_its_task_is_cancelled_or_fails(stack: Stack) -> None:
    entered = asyncio.Event()

    async def hold() -> None:
        async with faults.cut(stack, EDGE):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(partial(reaches_cloud, stack, EDGE))
    with pytest.raises(ZeroDivisionError):
        async with faults.halfopen(stack, EDGE):
            raise ZeroDivisionError
    await until(partial(reaches_cloud, stack, EDGE))


async def test_second_fault_of_the_same_kind_is_refused(stack: Stack) -> None:
    async with faults.cut(stack, EDGE):
        with pytest.raises(FaultError, match="fedge chaos heal gw-1"):
            async with faults.cut(stack, EDGE):
                pass
        assert not await reaches_cloud(stack, EDGE)


async def test_process_is_not_taken_twice(stack: Stack) -> None:
    async with faults.kill(stack, CLOUD, what=Part.DEVICE):
        with pytest.raises(FaultError, match="there is kill device already"):
            async with faults.kill(stack, CLOUD, what=Part.DEVICE):
                pass
        async with faults.pause(stack, CLOUD, what=Part.CONTROLLER):
            pass


async def test_node_or_part_that_is_not_there_is_named_with_what_is(stack: Stack) -> None:
    with pytest.raises(LocalError, match="no edge 'gw-9'; there is gw-1, gw-2"):
        async with faults.cut(stack, "gw-9"):
            pass
    with pytest.raises(LocalError, match="gw-1 has no 'hub': take one of"):
        async with faults.kill(stack, EDGE, what=Part.HUB):
            pass
    with pytest.raises(FaultError, match="name one of gw-1, gw-2"):
        async with faults.cut(stack, CLOUD):
            pass


async def test_killed_command_leaves_a_fault_that_heal_mends(stack: Stack) -> None:
    command = await chaos(stack, "lossy", EDGE, "--loss", "100")
    assert not await reaches_cloud(stack, EDGE)
    command.kill()
    await command.wait()
    (left,) = faults.lasting(stack, EDGE)
    assert left.is_left_behind
    assert not await reaches_cloud(stack, EDGE)
    healing = await fedge(stack, "chaos", "heal", EDGE)
    told, _ = await healing.communicate()
    assert told.decode() == "gw-1: healed lossy\n"
    assert await reaches_cloud(stack, EDGE)


async def test_command_takes_the_place_of_one_that_was_killed(stack: Stack) -> None:
    command = await chaos(stack, "slow", EDGE, "--delay", "100ms")
    command.kill()
    await command.wait()
    async with faults.slow(stack, EDGE, delay_seconds=0.1):
        assert await greeting_seconds(stack, stack.edge(EDGE)) >= 0.2
    assert await greeting_seconds(stack, stack.edge(EDGE)) < 0.2


async def test_command_that_is_told_to_end_heals_first(stack: Stack) -> None:
    command = await chaos(stack, "halfopen", EDGE)
    assert not await reaches_cloud(stack, EDGE)
    command.terminate()
    assert await command.wait() == 128 + signal.SIGTERM
    assert await reaches_cloud(stack, EDGE)


async def chaos(stack: Stack, *arguments: str) -> asyncio.subprocess.Process:
    """Start a command and wait until its fault is there."""
    command = await fedge(stack, "chaos", *arguments, "--for", "10m")
    assert command.stderr is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert b"Ctrl-C heals it" in await command.stderr.readline()
    return command


async def fedge(stack: Stack, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fedge_cli", *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment({"FEDGE_DATA_DIR": str(stack.folder)}),
    )  # fmt: skip


async def test_healing_by_somebody_else_is_the_end_of_a_fault(stack: Stack) -> None:
    found = Stack(stack.folder, edges=())
    async with faults.cut(stack, EDGE), faults.kill(stack, EDGE, what=Part.SERVICES):
        assert await faults.heal(found, EDGE) == ["cut", "kill services"]
        await until(partial(reaches_cloud, stack, EDGE))
        assert stack.server(EDGE, "services").is_running
        assert await faults.heal(found, EDGE) == []


async def end_by_itself(process: Process, *, grace_seconds: float = 0.0) -> None:
    """Stop a process with no way of killing it: one that is held back never ends."""
    process.signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        await process.ended()


async def test_what_is_held_back_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Process, "stop", end_by_itself)
    stack = Stack(tmp_path, edges=(EDGE,))
    try:
        await stack.up()
        paused = faults.pause(stack, EDGE, what=Part.ALL)
        await paused.__aenter__()
    finally:
        await stack.down()
    assert faults.lasting(stack) == []
    await paused.__aexit__(None, None, None)
    assert not stack.edge(EDGE).is_on
