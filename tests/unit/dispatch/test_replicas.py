"""Replicas that hear each other, or do not: in the end each node has one of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from fedge_dispatch import Replicas
from fedge_dispatch.replicas import EVERY_SECONDS, GONE_SECONDS, LATE_SECONDS
from fedge_fabric import Envelope, MalformedError, UnavailableError, kinds
from fedge_fabric.depths import Depth
from fedge_fabric.fabric import Fabric

pytestmark = pytest.mark.looptime

NODES = [f"gw-{number}" for number in range(60)]
SHARED = "controller.reported.state"


@dataclass
class Line:
    """A replica's way to the broker.

    Attributes:
        is_cut: nothing passes, and what is said meanwhile is lost.
        is_stopped: what comes waits until it goes on.
    """

    broker: "Broker"
    replicas: Replicas
    is_cut: bool = False
    is_stopped: bool = False
    waiting: list[Envelope] = field(default_factory=list)
    said: list[Envelope] = field(default_factory=list)
    _reconnected: list[Callable[[], None]] = field(default_factory=list)

    def on_reconnected(self, callback: Callable[[], None]) -> None:
        self._reconnected.append(callback)

    async def publish(self, envelope: Envelope, **_: object) -> None:
        await asyncio.sleep(0.001)
        if self.is_cut:
            raise UnavailableError("cut")
        self.said.append(envelope)
        for line in self.broker.lines.values():
            line.hear(envelope)

    async def depths(self, queues: Iterable[str]) -> dict[str, Depth]:
        await asyncio.sleep(0.001)
        if self.is_cut:
            raise UnavailableError("cut")
        connected = {name for name, line in self.broker.lines.items() if not line.is_cut}
        depths = {f"controller.owned.{each}": Depth(0, 1) for each in connected}
        depths[SHARED] = Depth(0, len(connected))
        return {name: depths[name] for name in queues if name in depths}

    def hear(self, envelope: Envelope) -> None:
        if self.is_cut:
            return
        if self.is_stopped:
            self.waiting.append(envelope)
        else:
            self.replicas.heard(envelope)

    def go_on(self) -> None:
        self.is_stopped = False
        while self.waiting:
            self.replicas.heard(self.waiting.pop(0))

    def mend(self) -> None:
        self.is_cut = False
        for each in self._reconnected:
            each()


@asynccontextmanager
async def taking_part(line: Line) -> AsyncIterator[None]:
    fabric = cast("Fabric", line)
    async with line.replicas.taking_part(fabric):
        running = asyncio.create_task(line.replicas.run(fabric))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class Broker:
    """Carries the words of replicas to all of them."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self._stack = AsyncExitStack()
        self._running: dict[str, AsyncExitStack] = {}

    async def start(self, name: str, *, is_live: bool = True) -> Replicas:
        replicas = Replicas("controller", name)
        line = self.lines[name] = Line(self, replicas)
        stack = self._running[name] = AsyncExitStack()
        await stack.enter_async_context(taking_part(line))
        await replicas.settled.wait()
        if is_live:
            replicas.go_live()
            replicas.caught_up()
        return replicas

    async def end(self, name: str) -> None:
        """End a replica in good order."""
        await self._running.pop(name).aclose()
        del self.lines[name]

    async def kill(self, name: str) -> None:
        self.lines.pop(name).is_cut = True
        await self._running.pop(name).aclose()

    async def close(self) -> None:
        for name in list(self._running):
            await self.end(name)


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    made = Broker()
    yield made
    await made.close()


def each_has_one(*replicas: Replicas) -> bool:
    return all(sum(each.owns(node) for each in replicas) == 1 for node in NODES)


async def test_one_on_its_own_owns_all_at_once_and_says_one_word(broker: Broker) -> None:
    now = asyncio.get_running_loop().time
    began = now()
    one = await broker.start("a" * 8)
    assert now() - began < 0.1
    assert all(map(one.owns, NODES))
    assert one.is_alone
    await asyncio.sleep(3600)
    assert len(broker.lines["a" * 8].said) == 1
    assert not one.gained(NODES)


async def test_three_share_the_nodes_and_know_it_at_once(broker: Broker) -> None:
    now = asyncio.get_running_loop().time
    began = now()
    three = [await broker.start(each * 8) for each in "abc"]
    await asyncio.sleep(0.1)
    assert now() - began < 1
    assert each_has_one(*three)
    assert {each.count for each in three} == {3}
    assert all(any(map(each.owns, NODES)) for each in three)


async def test_three_that_start_together_share_the_nodes(broker: Broker) -> None:
    three = await asyncio.gather(*(broker.start(each * 8) for each in "abc"))
    await asyncio.sleep(0.1)
    assert each_has_one(*three)


async def test_one_that_learns_yet_owns_nothing_of_those_that_are_ready(broker: Broker) -> None:
    one = await broker.start("a" * 8)
    two = await broker.start("b" * 8, is_live=False)
    assert all(map(one.owns, NODES))
    assert await two.owner(NODES[0]) == one.me
    two.go_live()
    await asyncio.sleep(0.1)
    assert each_has_one(one, two)
    assert two.gained(NODES) == [node for node in NODES if two.owns(node)]
    assert one.gained(NODES) == []


async def test_one_that_says_goodbye_is_gone_at_once(broker: Broker) -> None:
    one, _ = await broker.start("a" * 8), await broker.start("b" * 8)
    await asyncio.sleep(0.1)
    one.caught_up()
    lost = [node for node in NODES if not one.owns(node)]
    assert lost
    await broker.end("b" * 8)
    await asyncio.sleep(0.1)
    assert one.gained(NODES) == lost


async def test_one_that_is_killed_is_missed_soon(broker: Broker) -> None:
    one, _ = await broker.start("a" * 8), await broker.start("b" * 8)
    await asyncio.sleep(60)
    await broker.kill("b" * 8)
    await asyncio.sleep(LATE_SECONDS + 2 * EVERY_SECONDS)
    assert all(map(one.owns, NODES))


async def test_one_that_is_slow_for_some_seconds_keeps_its_nodes(broker: Broker) -> None:
    one, two = await broker.start("a" * 8), await broker.start("b" * 8)
    one.caught_up()
    await asyncio.sleep(10)
    line = broker.lines["a" * 8]
    line.is_stopped = True
    await asyncio.sleep(GONE_SECONDS - 2 * EVERY_SECONDS)
    line.go_on()
    await asyncio.sleep(1)
    assert each_has_one(one, two)
    assert not one.gained(NODES)
    assert not two.gained(NODES)


async def test_one_that_cannot_hear_owns_nothing_before_it_is_thought_to_be_gone(
    broker: Broker,
) -> None:
    one, two = await broker.start("a" * 8), await broker.start("b" * 8)
    await asyncio.sleep(10)
    broker.lines["a" * 8].is_stopped = True
    for _ in range(60):
        await asyncio.sleep(0.5)
        assert not any(one.owns(node) and two.owns(node) for node in NODES)
    with pytest.raises(UnavailableError):
        await one.owner(NODES[0])


async def test_one_whose_line_was_cut_takes_its_nodes_over_anew(broker: Broker) -> None:
    one, two = await broker.start("a" * 8), await broker.start("b" * 8)
    await asyncio.sleep(10)
    one.caught_up()
    broker.lines["a" * 8].is_cut = True
    await asyncio.sleep(30)
    assert all(map(two.owns, NODES))
    broker.lines["a" * 8].mend()
    await asyncio.sleep(5)
    assert each_has_one(one, two)
    assert one.gained(NODES) == [node for node in NODES if one.owns(node)]


async def test_one_that_is_thought_to_be_gone_learns_it_and_takes_its_nodes_over_anew(
    broker: Broker,
) -> None:
    one, two = await broker.start("a" * 8), await broker.start("b" * 8)
    await asyncio.sleep(10)
    one.caught_up()
    said = {"replica": two.me, "state": "live", "asks": False, "gone": [one.me]}
    one.heard(Envelope(type=kinds.REPLICA_HEARD, source="/cloud/controller", data=said))
    assert one.gained(NODES) == [node for node in NODES if one.owns(node)]
    assert one.changed.is_set()


async def test_two_that_did_not_know_of_each_other_take_their_nodes_over_anew(
    broker: Broker,
) -> None:
    one = await broker.start("a" * 8)
    broker.lines["a" * 8].is_cut = True
    two = await broker.start("b" * 8)
    assert all(map(two.owns, NODES))
    await asyncio.sleep(60)
    broker.lines["a" * 8].mend()
    await asyncio.sleep(5)
    assert each_has_one(one, two)
    for each in (one, two):
        assert each.gained(NODES) == [node for node in NODES if each.owns(node)]


async def test_what_was_lost_and_came_back_counts_as_gained(broker: Broker) -> None:
    one = await broker.start("a" * 8)
    one.caught_up()
    await broker.start("b" * 8)
    await asyncio.sleep(0.1)
    lost = [node for node in NODES if not one.owns(node)]
    await broker.end("b" * 8)
    await asyncio.sleep(0.1)
    assert lost
    assert one.gained(NODES) == lost


async def test_one_that_starts_while_the_broker_is_away_settles_when_it_is_back(
    broker: Broker,
) -> None:
    replicas = Replicas("controller", "a" * 8)
    line = broker.lines["a" * 8] = Line(broker, replicas, is_cut=True)
    async with taking_part(line):
        await asyncio.sleep(5)
        assert not any(map(replicas.owns, NODES))
        line.mend()
        await asyncio.sleep(2)
        assert all(map(replicas.owns, NODES))


async def test_one_that_leaves_owns_nothing(broker: Broker) -> None:
    one = await broker.start("a" * 8)
    one.leave()
    assert not any(map(one.owns, NODES))
    with pytest.raises(UnavailableError):
        await one.owner(NODES[0])


@pytest.mark.parametrize(
    "data",
    [
        {"replica": "x", "state": "live", "gone": []},
        {"replica": "b" * 8, "state": "lively", "gone": []},
        {"replica": "b" * 8, "state": "live", "gone": [7]},
        {"replica": "b" * 8, "state": "live"},
        [],
    ],
)
async def test_what_says_nothing_that_can_be_is_refused(data: object) -> None:
    with pytest.raises(MalformedError):
        Replicas("controller").heard(
            Envelope(type=kinds.REPLICA_HEARD, source="/cloud/controller", data=data)
        )
