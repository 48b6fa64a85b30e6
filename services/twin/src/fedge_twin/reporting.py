"""Telling the cloud, until the edge's broker has it.

What is noted here is only which devices are to be told of; the status is read when it goes out. So
what happens while the broker is away costs one message per device, and a process that ends forgets
nothing: all devices are told of again at start.

The first news of a device is told at once. What follows within the least time between two is told
when that is over, as it is then.
"""

import asyncio
import heapq
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from fedge_fabric import Address, Envelope, UnavailableError, kinds
from fedge_fabric import topology as t
from fedge_objects import JsonObject, NodeName, ObjectKey
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.twin")

BATCH: Final = 64
TOGETHER_SECONDS: Final = 0.05
"""What falls due within so short a time is told together."""


class Publisher(Protocol):
    """The edge's broker."""

    async def publish(self, envelope: Envelope, *, exchange: str, routing_key: str) -> None:
        """Publish and wait for the confirm.

        Raises:
            UnavailableError: the broker did not confirm.
        """
        ...


class Statuses(Protocol):
    """Where statuses are read."""

    def status(self, key: ObjectKey, sequence: int) -> JsonObject | None:
        """Return what the cloud is told of a device; None if it is gone."""
        ...


class Reporting:
    """Which devices the cloud must be told of, and when."""

    def __init__(self, node: NodeName, *, every_seconds: float = 0.0) -> None:
        """Prepare.

        Args:
            node: whose devices.
            every_seconds: least time between two reports of one device.
        """
        self._node = node
        self._source = f"/node/{node}/twin"
        self._every_seconds = every_seconds
        self._told: dict[ObjectKey, float] = {}
        self._due: dict[ObjectKey, float] = {}
        self._queue: list[tuple[float, ObjectKey]] = []
        self._added = asyncio.Event()
        self._sequence = 0

    def add(self, news: Mapping[ObjectKey, float]) -> None:
        """Note that these have news, and the least seconds since they were told of."""
        now = _monotonic()
        for key, seconds in news.items():
            told = self._told.get(key)
            due = now if told is None else told + max(seconds, self._every_seconds)
            # with others, so that they share writes further on
            together = (due // TOGETHER_SECONDS + 1) * TOGETHER_SECONDS
            due = now if due <= now else together
            if due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._queue, (due, key))
                if self._queue[0][1] == key:
                    self._added.set()

    async def run(self, publisher: Publisher, statuses: Statuses) -> None:
        """Tell until cancelled."""
        while True:
            batch = self._take()
            if not batch:
                await self._wait()
                continue
            async for _ in backoff(first_seconds=0.1, most_seconds=5):
                results = await asyncio.gather(
                    *(self._tell(key, publisher, statuses) for key in batch),
                    return_exceptions=True,
                )
                failures = [each for each in results if isinstance(each, BaseException)]
                if not failures:
                    break
                for each in failures:
                    if not isinstance(each, UnavailableError):
                        raise each
                log.warning("telling_again", reason=str(failures[0]))

    async def _wait(self) -> None:
        """Wait until something may be due."""
        self._added.clear()
        until = self._queue[0][0] if self._queue else None
        try:
            async with asyncio.timeout_at(until):
                await self._added.wait()
        except TimeoutError:
            return

    def _take(self) -> list[ObjectKey]:
        now = _monotonic()
        batch: list[ObjectKey] = []
        while self._queue and self._queue[0][0] <= now and len(batch) < BATCH:
            due, key = heapq.heappop(self._queue)
            if self._due.get(key) == due:  # else it was told earlier
                del self._due[key]
                self._told[key] = now
                batch.append(key)
        return batch

    async def _tell(self, key: ObjectKey, publisher: Publisher, statuses: Statuses) -> None:
        self._sequence += 1
        status = statuses.status(key, self._sequence)
        if status is None:
            self._told.pop(key, None)
            return
        await publisher.publish(
            Envelope(
                type=kinds.STATUS_REPORTED, source=self._source, subject=str(key), data=status
            ),
            exchange=t.UP,
            routing_key=str(Address.of_object(self._node, key)),
        )


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
