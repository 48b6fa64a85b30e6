"""Reporting: nothing is forgotten while the broker is away, and only the newest is told."""

import asyncio
import contextlib
import itertools

import pytest

from fedge_fabric import Envelope, UnavailableError
from fedge_objects import JsonObject, NodeName, ObjectKey
from fedge_twin.device import DEVICES
from fedge_twin.reporting import Reporting


class World:
    """Statuses that count up, and a broker that can be away."""

    def __init__(self) -> None:
        self.now = 0
        self.away = False
        self.failures = 0
        self.told: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    def status(self, key: ObjectKey, sequence: int) -> JsonObject | None:  # noqa: ARG002
        return {"n": self.now} if key.name != "gone" else None

    async def publish(self, envelope: Envelope, *, exchange: str, routing_key: str) -> None:
        assert exchange == "fedge.up"
        assert routing_key.startswith("node.edge-1.state.devices_devices_kubeedge_io.default.")
        if self.away:
            self.failures += 1
            raise UnavailableError("away")
        await self.told.put((envelope.subject, envelope.data["n"]))


@pytest.mark.looptime
async def test_what_changes_while_the_broker_is_away_is_told_once_with_its_newest_state() -> None:
    world, reporting = World(), Reporting(NodeName("edge-1"))
    keys = [ObjectKey(DEVICES, "default", name) for name in ("a", "b", "gone")]
    running = asyncio.create_task(reporting.run(world, world))
    world.away = True
    for world.now in range(1, 50):
        reporting.add(dict.fromkeys(keys, 0.0))
        await asyncio.sleep(0.1)
    assert world.failures
    world.away = False
    told = {await world.told.get(), await world.told.get()}
    assert told == {(str(keys[0]), 49), (str(keys[1]), 49)}
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.mark.looptime
async def test_first_news_passes_at_once_and_later_ones_together_once_a_round() -> None:
    world = World()
    reporting = Reporting(NodeName("edge-1"), every_seconds=1.0)
    keys = [ObjectKey(DEVICES, "default", name) for name in ("a", "b")]
    loop = asyncio.get_running_loop()
    told: list[tuple[str, int, float]] = []

    async def listen() -> None:
        while True:
            subject, number = await world.told.get()
            told.append((subject, number, loop.time() - began))

    began = loop.time()
    tasks = [
        asyncio.create_task(reporting.run(world, world)),
        asyncio.create_task(listen()),
    ]
    for world.now in range(1, 301):
        reporting.add(dict.fromkeys(keys, 0.0))
        await asyncio.sleep(0.01)
    await asyncio.sleep(2)
    for subject in map(str, keys):
        mine = [(number, at) for name, number, at in told if name == subject]
        assert mine[0][1] < 0.02
        assert len(mine) <= 5  # three seconds of news, begun and ended within a round
        assert mine[-1][0] == 300
        assert mine[-1][1] < 4.01
        assert all(later - at > 0.99 for (_, at), (_, later) in itertools.pairwise(mine[1:]))
    assert {at for name, _, at in told if name == str(keys[0])} == {
        at for name, _, at in told if name == str(keys[1])
    }
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.looptime
async def test_what_is_no_news_is_told_late_and_news_that_follow_it_at_once() -> None:
    world = World()
    reporting = Reporting(NodeName("edge-1"), every_seconds=1.0)
    key = ObjectKey(DEVICES, "default", "a")
    running = asyncio.create_task(reporting.run(world, world))
    reporting.add({key: 0.0})
    assert (await world.told.get())[1] == 0
    world.now = 1
    reporting.add({key: 60.0})
    await asyncio.sleep(30)
    assert world.told.empty()
    world.now = 2
    reporting.add({key: 0.0})
    async with asyncio.timeout(0.1):
        assert (await world.told.get())[1] == 2
    await asyncio.sleep(100)
    assert world.told.empty()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
