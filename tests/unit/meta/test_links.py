"""Watching over the links: when they are left alone, when dropped, when made anew."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from typing_extensions import override

from fedge_fabric import UnavailableError
from fedge_meta.links import (
    LINKS,
    MOST_REPAIR_AGAIN_SECONDS,
    PATIENCE_SECONDS,
    REPAIR_AGAIN_SECONDS,
    SILENT_SECONDS,
    Line,
    Links,
    Repairs,
)
from fedge_meta.sockets import Connection

pytestmark = pytest.mark.looptime

WELL = [Connection(silent_seconds=0.0)] * LINKS
SILENT = [*WELL[1:], Connection(silent_seconds=SILENT_SECONDS * 2)]


@dataclass
class World(Line, Repairs):
    """A line and a broker."""

    there: list[Connection] = field(default_factory=lambda: list(WELL))
    reachable: bool = True
    broken: bool = False
    asked: list[str] = field(default_factory=list)
    probes: int = 0

    @override
    def connections(self) -> list[Connection]:
        return self.there

    @override
    async def is_reachable(self) -> bool:
        self.probes += 1
        return self.reachable

    @override
    async def drop_connections(self) -> str:
        return self._ask("drop")

    @override
    async def restore_links(self) -> str:
        return self._ask("restore")

    def _ask(self, what: str) -> str:
        self.asked.append(what)
        if self.broken:
            raise UnavailableError("the broker is away")
        return "[]"


async def looked(links: Links, until: Callable[[], bool], seconds: float = 10_000) -> float:
    """Look again and again until something holds; return how many seconds it took."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(seconds):
        while not until():
            await links.look()
            await asyncio.sleep(0.5)
    return asyncio.get_running_loop().time() - began


async def test_links_that_are_well_are_not_touched_and_nothing_is_sent() -> None:
    world = World()
    links = Links(line=world, broker=world)
    assert await links.look()
    assert (world.asked, world.probes) == ([], 0)


async def test_silent_connections_are_dropped_as_soon_as_the_cloud_can_be_reached() -> None:
    world = World(there=SILENT, reachable=False)
    links = Links(line=world, broker=world)
    for _ in range(50):
        assert not await links.look()
    assert world.asked == []
    world.reachable = True
    await links.look()
    assert world.asked == ["drop"]


async def test_kernel_that_tries_again_soon_is_left_to_it() -> None:
    world = World(there=[*WELL[1:], Connection(silent_seconds=SILENT_SECONDS / 2)])
    assert await Links(line=world, broker=world).look()
    assert world.asked == []


async def test_missing_links_may_dial_by_themselves_for_a_while_before_they_are_made_anew() -> None:
    world = World(there=WELL[1:])
    links = Links(line=world, broker=world)
    took = await looked(links, lambda: bool(world.asked))
    assert world.asked == ["restore"]
    assert took >= PATIENCE_SECONDS


async def test_time_offline_does_not_count_as_time_to_dial() -> None:
    world = World(there=[], reachable=False)
    links = Links(line=world, broker=world)
    for _ in range(100):
        await links.look()
        await asyncio.sleep(PATIENCE_SECONDS)
    world.reachable = True
    took = await looked(links, lambda: bool(world.asked))
    assert took >= PATIENCE_SECONDS


async def test_repairs_that_do_not_help_become_rare_and_never_end() -> None:
    world = World(there=SILENT)
    links = Links(line=world, broker=world)
    await links.look()

    async def next_wait() -> float:
        before = len(world.asked)
        return await looked(links, lambda: len(world.asked) > before)

    waits = [await next_wait() for _ in range(10)]
    assert waits[0] == pytest.approx(REPAIR_AGAIN_SECONDS, abs=1)
    assert waits[-1] == pytest.approx(MOST_REPAIR_AGAIN_SECONDS, abs=1)
    assert waits == sorted(waits)


async def test_links_that_recovered_are_repaired_at_once_the_next_time() -> None:
    world = World(there=SILENT)
    links = Links(line=world, broker=world)
    await looked(links, lambda: len(world.asked) == 5)
    world.there = WELL
    assert await links.look()
    world.there = SILENT
    await links.look()
    assert len(world.asked) == 6


async def test_broker_that_is_away_is_asked_again() -> None:
    world = World(there=SILENT, broken=True)
    links = Links(line=world, broker=world)
    await looked(links, lambda: len(world.asked) == 2)
    world.broken = False
    await looked(links, lambda: len(world.asked) == 3)


@pytest.mark.parametrize(("there", "least", "most"), [(SILENT, 120, 240), (WELL[1:], 30, 60)])
async def test_cloud_is_knocked_at_often_only_while_connections_wait_for_it(
    there: list[Connection], least: int, most: int
) -> None:
    world = World(there=there, reachable=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await Links(line=world, broker=world).run()
    assert least <= world.probes <= most + 1
