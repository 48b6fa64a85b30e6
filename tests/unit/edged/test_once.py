"""Requests with an effect: had once, whatever is killed when, and only while somebody waits."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from typing_extensions import override

from fedge_edged.once import MOST_DONE, Begun, Once
from fedge_edged.ports import Clock
from fedge_edged.streams import Stream, Streams
from fedge_fabric import UnavailableError

pytestmark = pytest.mark.looptime

DEADLINE_SECONDS = 15.0


class Disk(Begun, Clock):
    """What outlives edged: what it noted, and what the work did."""

    def __init__(self) -> None:
        self.noted: dict[str, float] = {}
        self.effects = 0
        self.is_full = False

    @override
    async def begin(self, request_id: str, now: float) -> float | None:
        await asyncio.sleep(0)
        if self.is_full:
            raise UnavailableError("the disk is full")
        known = self.noted.get(request_id)
        self.noted.setdefault(request_id, now)
        await asyncio.sleep(0)  # it is on the disk, and we may be killed before we know
        return known

    @override
    async def all(self) -> Mapping[str, float]:
        await asyncio.sleep(0)
        return dict(self.noted)

    @override
    def now(self) -> float:
        return 0.0

    async def work(self, stream: Stream) -> None:
        await asyncio.sleep(0)
        self.effects += 1
        await stream.send({"body": "one"})
        await asyncio.sleep(0)
        await stream.send({"body": "two"}, last=True)


class DiskOfWorkThatFails(Disk):
    """The work finds that the broker is away."""

    @override
    async def work(self, stream: Stream) -> None:
        raise UnavailableError("broker did not confirm")


class Edged:
    """An edged on a disk, and an asker who waits for whatever it asks."""

    def __init__(self, disk: Disk, tasks: asyncio.TaskGroup, *, is_waiting: bool = True) -> None:
        self.disk = disk
        self.pieces: list[Mapping[str, Any]] = []
        self._is_waiting = is_waiting
        self._once = Once(disk, disk)
        self._streams = Streams(self._publish, tasks)

    def deliver(self, request_id: str = "r") -> None:
        self._streams.open(
            request_id,
            lambda stream: self._once.run(
                request_id, stream, self.disk.work, deadline_seconds=DEADLINE_SECONDS
            ),
        )

    async def _publish(self, request_id: str, piece: Mapping[str, Any]) -> None:
        await asyncio.sleep(0)
        self.pieces.append(piece)
        if piece.get("ready") and self._is_waiting:
            self._streams.hear(request_id, {"seen": 1, "begin": True})

    def said(self) -> list[tuple[int, str]]:
        return [(each["status"], each["body"]) for each in self.pieces if each["body"]]


async def run_until_killed(disk: Disk, steps: int) -> bool:
    """Deliver a request to an edged that is killed after so many steps; return whether it was."""
    tasks = asyncio.TaskGroup()

    async def live() -> None:
        async with tasks:
            Edged(disk, tasks).deliver()

    living = asyncio.ensure_future(live())
    for _ in range(steps):
        if living.done():
            return False
        await asyncio.sleep(0)
    if living.done():
        return False
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)
    return True


async def test_request_has_its_effect_once_at_whatever_step_edged_is_killed() -> None:
    steps, outcomes = 0, set()
    while True:
        disk = Disk()
        was_killed = await run_until_killed(disk, steps)
        async with asyncio.TaskGroup() as tasks:
            edged = Edged(disk, tasks)
            edged.deliver()  # it was not acknowledged, or the link repeats it
        (status, text) = edged.said()[-1]
        assert disk.effects <= 1
        if status == 200:
            assert (disk.effects, edged.said()) == (1, [(200, "one"), (200, "two")])
        else:
            assert status == 409
            assert "it is not run again" in text.lower()
            assert edged.pieces[-1]["cut"]
        outcomes.add((status, disk.effects))
        if not was_killed:
            break
        steps += 1
    # killed before it was noted; between that and the effect; after the effect
    assert outcomes == {(200, 1), (409, 0), (409, 1)}


async def test_request_that_is_delivered_again_is_not_answered_anew() -> None:
    disk = Disk()
    async with asyncio.TaskGroup() as tasks:
        edged = Edged(disk, tasks)
        edged.deliver()
        edged.deliver()
        await asyncio.sleep(1)
        assert edged.said() == [(200, "one"), (200, "two")]
        count = len(edged.pieces)
        edged.deliver()
        await asyncio.sleep(1)
        assert len(edged.pieces) == count
    assert disk.effects == 1


async def test_request_that_was_forgotten_as_answered_is_still_known_as_begun() -> None:
    disk = Disk()
    async with asyncio.TaskGroup() as tasks:
        edged = Edged(disk, tasks)
        for number in range(MOST_DONE + 1):
            edged.deliver(f"r-{number}")
        await asyncio.sleep(1)
        edged.deliver("r-0")
    assert disk.effects == MOST_DONE + 1
    assert edged.pieces[-1]["cut"]


async def test_request_for_which_nobody_waits_is_refused_at_its_deadline() -> None:
    disk = Disk()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        edged = Edged(disk, tasks, is_waiting=False)
        edged.deliver()
    assert loop.time() - began == pytest.approx(DEADLINE_SECONDS)
    assert edged.said() == [
        (504, "nobody said within 15 s that it is still wanted: it was not begun\n")
    ]
    assert (disk.effects, disk.noted) == (0, {})


async def test_request_that_cannot_be_noted_is_not_begun() -> None:
    disk = Disk()
    disk.is_full = True
    async with asyncio.TaskGroup() as tasks:
        edged = Edged(disk, tasks)
        edged.deliver()
    assert edged.said() == [(503, "it was not begun: the disk is full\n")]
    assert disk.effects == 0


async def test_work_that_finds_the_broker_away_is_not_told_as_not_begun() -> None:
    disk = DiskOfWorkThatFails()
    async with asyncio.TaskGroup() as tasks:
        edged = Edged(disk, tasks)
        edged.deliver()
    assert edged.said() == [(500, "broker did not confirm\n")]
