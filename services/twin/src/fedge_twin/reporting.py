"""Telling the cloud, until the edge's broker has it.

What is noted here is only which devices are to be told of; the status is read when it goes out. So
what happens while the broker is away costs one message per device, and a process that ends forgets
nothing: all devices are told of again at start.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

import structlog

from fedge_fabric import Address, Envelope, UnavailableError, kinds
from fedge_fabric import topology as t
from fedge_objects import JsonObject, NodeName, ObjectKey
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.twin")

BATCH = 64


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

    async def status(self, key: ObjectKey) -> JsonObject | None:
        """Return what the cloud is told of a device; None if it is gone."""
        ...


class Reporting:
    """Which devices the cloud must be told of."""

    def __init__(self, node: NodeName) -> None:
        self._node = node
        self._source = f"/node/{node}/twin"
        self._waiting: dict[ObjectKey, None] = {}
        self._added = asyncio.Event()

    def add(self, keys: Iterable[ObjectKey]) -> None:
        """Note that these have changed."""
        self._waiting.update(dict.fromkeys(keys))
        self._added.set()

    async def run(self, publisher: Publisher, statuses: Statuses) -> None:
        """Tell until cancelled."""
        while True:
            await self._added.wait()
            self._added.clear()
            while self._waiting:
                batch = list(self._waiting)[:BATCH]
                for key in batch:
                    del self._waiting[key]
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

    async def _tell(self, key: ObjectKey, publisher: Publisher, statuses: Statuses) -> None:
        status = await statuses.status(key)
        if status is None:
            return
        await publisher.publish(
            Envelope(
                type=kinds.STATUS_REPORTED, source=self._source, subject=str(key), data=status
            ),
            exchange=t.UP,
            routing_key=str(Address.of_object(self._node, key)),
        )
