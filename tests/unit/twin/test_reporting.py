"""Reporting: nothing is forgotten while the broker is away, and only the newest is told."""

import asyncio
import contextlib

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

    async def status(self, key: ObjectKey) -> JsonObject | None:
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
        reporting.add(keys)
        await asyncio.sleep(0.1)
    assert world.failures
    world.away = False
    told = {await world.told.get(), await world.told.get()}
    assert told == {(str(keys[0]), 49), (str(keys[1]), 49)}
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
