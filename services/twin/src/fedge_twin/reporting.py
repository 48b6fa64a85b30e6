"""Telling the cloud, until the edge's broker has it.

What is noted here is only which devices are to be told of; the status is read when it goes out. So
what happens while the broker is away costs one message per device, and a process that ends forgets
nothing: all devices are told of again at start.

Time is cut into rounds. The first news of a device in a round is told at once; what follows in the
same round is told when the next begins, as it is then, and so together with what other devices have
to say: an API server commits together what comes together.
"""

import asyncio
import heapq
import math
import time
from collections.abc import Mapping
from typing import Final, Protocol

import structlog

from fedge_fabric import Address, Envelope, UnavailableError, kinds
from fedge_fabric import topology as t
from fedge_objects import JsonObject, NodeName, ObjectKey
from fedge_service import backoff
from fedge_tracing import Cause, is_recorded, traceparent

log = structlog.stdlib.get_logger("fedge.twin")

BATCH: Final = 64


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
            every_seconds: length of a round, in which a device is told of once at most.
        """
        self._node = node
        self._source = f"/node/{node}/twin"
        self._every_seconds = every_seconds
        self._told: dict[ObjectKey, float] = {}
        self._due: dict[ObjectKey, float] = {}
        self._queue: list[tuple[float, ObjectKey]] = []
        self._added = asyncio.Event()
        self._causes: dict[ObjectKey, Cause] = {}
        """The newest traced reason for which a device is to be told of."""
        self._sequence = 0

    def add(self, news: Mapping[ObjectKey, float]) -> None:
        """Note that these have news, and the least seconds since they were told of."""
        now = _monotonic()
        context = traceparent()
        if context and is_recorded(context):
            cause = Cause(context, time.time())
            self._causes.update(dict.fromkeys(news, cause))
        for key, seconds in news.items():
            due = max(now, self._next_round(self._told.get(key), seconds))
            if due < self._due.get(key, float("inf")):
                self._due[key] = due
                heapq.heappush(self._queue, (due, key))
                if self._queue[0][1] == key:
                    self._added.set()

    def _next_round(self, told: float | None, seconds: float) -> float:
        """Return when a device may be told of again, at least ``seconds`` after it was told of."""
        if told is None:
            return 0.0
        every = self._every_seconds
        if not every:
            return told + seconds
        return max(told // every + 1, math.ceil((told + seconds) / every)) * every

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
        cause = self._causes.get(key, Cause())
        status = statuses.status(key, self._sequence)
        if status is None:
            self._told.pop(key, None)
            self._causes.pop(key, None)
            return
        await publisher.publish(
            Envelope(
                type=kinds.STATUS_REPORTED,
                source=self._source,
                subject=str(key),
                data=status,
                traceparent=cause.traceparent,
                since=cause.since,
            ),
            exchange=t.UP,
            routing_key=str(Address.of_object(self._node, key)),
        )
        if self._causes.get(key) is cause:
            del self._causes[key]


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
