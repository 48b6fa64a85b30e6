"""Nodes that are away: not asked, not awaited, and told of."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest
from typing_extensions import override

from fedge_fabric import UnavailableError, kinds
from fedge_hub.domain import Nodes
from fedge_hub.ports import Clock, NodeAwayError, RequestLink, Sighting
from fedge_hub.presence import Presence, PresentNodes
from fedge_objects import NodeName
from tests.contract.wanted_store import NODE, MemoryWantedStore
from tests.unit.hub.test_nodes import World

pytestmark = pytest.mark.looptime

HEARTBEAT_SECONDS = 10.0
ABSENT_AFTER = 3
BEGAN = 1_700_000_000.0  # 2023-11-14T22:13:20Z


class LoopClock(Clock):
    @override
    def now(self) -> float:
        return BEGAN + asyncio.get_running_loop().time()


class Store(MemoryWantedStore):
    """A store that may be away."""

    is_away = False

    @override
    async def last_seen(self, node: NodeName) -> Sighting | None:
        if self.is_away:
            raise UnavailableError("Redis is away")
        return await super().last_seen(node)


class Silent(RequestLink):
    """A way to a node that answers once, if at all, and says no more."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_over = False

    @override
    async def ask(
        self,
        node: NodeName,
        kind: str,
        data: Mapping[str, object],
        *,
        deadline_seconds: float,
        goes_on: bool = False,
        inputs: AsyncIterator[bytes] | None = None,
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        self.asked += 1
        try:
            yield {"status": 200, "body": "first", "index": 0, "last": False}
            async with asyncio.timeout(deadline_seconds):
                await asyncio.Event().wait()
        finally:
            self.is_over = True


class Door:
    """A way to nodes, and when they were heard."""

    def __init__(self) -> None:
        self.clock, self.store, self.silent = LoopClock(), Store(), Silent()
        world = World()
        nodes = Nodes(
            store=self.store,
            down=world,
            cloud=world,
            clock=self.clock,
            absent_after_heartbeats=ABSENT_AFTER,
        )
        self._link = PresentNodes(self.silent, Presence(nodes, self.store, self.clock))

    async def heard(self) -> None:
        await self.store.mark_seen(
            NODE, Sighting(at=self.clock.now(), interval_seconds=HEARTBEAT_SECONDS)
        )

    def ask(self, deadline_seconds: float = 1000.0) -> AsyncGenerator[Mapping[str, Any], None]:
        return self._link.ask(
            NODE, kinds.LOGS_ASKED, {}, deadline_seconds=deadline_seconds, goes_on=True
        )


@pytest.fixture
async def door() -> Door:
    return Door()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_node_that_is_away_is_refused_at_once_with_since_when_and_what_to_do(
    door: Door,
) -> None:
    await door.heard()
    await asyncio.sleep(HEARTBEAT_SECONDS * ABSENT_AFTER + 12)
    began = now()
    with pytest.raises(NodeAwayError) as caught:
        await anext(door.ask())
    assert now() == began
    assert door.silent.asked == 0
    told = str(caught.value)
    assert told.startswith(f"node '{NODE}' is away since 2023-11-14T22:13:20+00:00, 42 s without")
    assert "`fedge logs` and `fedge exec` work on the node itself" in told


async def test_node_that_was_never_heard_is_refused_at_once(door: Door) -> None:
    with pytest.raises(NodeAwayError, match=r"never heard of node .* check that its edge runs"):
        await anext(door.ask())
    assert door.silent.asked == 0


async def test_answer_is_given_up_when_its_node_goes_away_meanwhile(door: Door) -> None:
    await door.heard()
    began = now()
    pieces = door.ask()
    assert (await anext(pieces))["body"] == "first"
    with pytest.raises(NodeAwayError, match="is away since"):
        await anext(pieces)
    away_after = HEARTBEAT_SECONDS * ABSENT_AFTER
    assert away_after <= now() - began <= away_after + HEARTBEAT_SECONDS
    assert door.silent.is_over


async def test_node_that_is_heard_is_awaited_until_the_deadline(door: Door) -> None:
    await door.heard()

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await door.heard()

    beating = asyncio.create_task(beat())
    pieces = door.ask(deadline_seconds=200)
    await anext(pieces)
    with pytest.raises(TimeoutError):
        await anext(pieces)
    assert now() == pytest.approx(200)
    beating.cancel()


async def test_store_that_is_away_takes_no_node_with_it(door: Door) -> None:
    await door.heard()
    pieces = door.ask(deadline_seconds=20)
    await anext(pieces)
    door.store.is_away = True
    with pytest.raises(TimeoutError):
        await anext(pieces)


async def test_reader_that_leaves_leaves_nothing_behind(door: Door) -> None:
    await door.heard()
    before = asyncio.all_tasks()
    async with aclosing(door.ask()) as pieces:
        await anext(pieces)
    assert door.silent.is_over
    assert asyncio.all_tasks() == before
