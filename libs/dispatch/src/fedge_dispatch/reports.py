"""What nodes report, written to the API: newest only, one write at a time per object.

A first report passes at once. More of the same object, within the least time between two writes,
wait for its end, and only the newest of them is written. A report's message is acknowledged when it
was written or a newer one is here to be, so that a crash loses nothing.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from fedge_dispatch.resources import Report, ResourcePlugin
from fedge_fabric import InvalidError, UnavailableError
from fedge_kube import (
    ConflictError,
    KubeClient,
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from fedge_objects import NodeName, ObjectKey

log = structlog.stdlib.get_logger("fedge.dispatch")

Observed = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Report:
    """Which report: of whom, about which object, in what order."""

    node: NodeName
    uid: str
    observed: Observed

    def is_before(self, other: "_Report | None") -> bool:
        """Whether ``other`` is newer; two nodes' or two objects' counts say nothing."""
        return (
            other is not None
            and (self.node, self.uid) == (other.node, other.uid)
            and self.observed < other.observed
        )


@dataclass(slots=True)
class _Slot:
    """One object's reports. Of those that must wait only the newest does, as ``waiting``."""

    newest: _Report | None = None
    written: _Report | None = None
    writing: bool = False
    due: float = 0.0
    waiting: asyncio.Event | None = None

    def wake(self) -> None:
        if self.waiting is not None:
            self.waiting.set()


class Reports:
    """The way of statuses into the API."""

    def __init__(
        self,
        kube: KubeClient,
        plugins: Mapping[str, ResourcePlugin],
        *,
        write_every_seconds: float = 0.0,
    ) -> None:
        self._kube = kube
        self._plugins = plugins
        self._write_every_seconds = write_every_seconds
        self._slots: defaultdict[ObjectKey, _Slot] = defaultdict(_Slot)

    async def status(self, report: Report, observed: Observed) -> None:
        """Write a status, unless a newer one was written or waits to be.

        Raises:
            InvalidError: no plugin for the resource, or the API refuses the status.
            UnavailableError: the API is away.
        """
        plugin = self._plugins.get(report.key.resource)
        if plugin is None:
            raise InvalidError(f"no plugin takes reports about {report.key.resource!r}")
        slot, mine = self._slots[report.key], _Report(report.node, report.uid, observed)
        if mine == slot.written or mine.is_before(slot.newest):
            return
        slot.newest = mine
        if not await self._has_turn(slot):
            return
        slot.writing = True
        try:
            async with answered():
                await plugin.report(self._kube, report)
            slot.written = mine
            slot.due = _monotonic() + self._write_every_seconds
        finally:
            slot.writing = False
            slot.wake()

    def forget(self, key: ObjectKey) -> None:
        """Drop what is remembered about an object that is gone."""
        self._slots.pop(key, None)

    async def _has_turn(self, slot: _Slot) -> bool:
        """Wait for the turn to write; return False once a newer report waits for it instead."""
        slot.wake()
        mine = slot.waiting = asyncio.Event()
        try:
            while slot.writing or slot.due > _monotonic():
                mine.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(None if slot.writing else slot.due):
                        await mine.wait()
                if slot.waiting is not mine:
                    return False
            return True
        finally:
            if slot.waiting is mine:
                slot.waiting = None


def _monotonic() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def answered() -> AsyncIterator[None]:
    """Translate what the API answers into what happens to the message.

    Raises:
        UnavailableError: the API is away; the message comes again.
        InvalidError: the API refuses for good.
    """
    try:
        yield
    except UnreachableError as exc:
        raise UnavailableError(f"the Kubernetes API does not answer: {exc}") from exc
    except RefusedError as exc:
        raise InvalidError(f"the Kubernetes API refuses: {exc}") from exc
    except (NotFoundError, ConflictError) as exc:
        log.info("report_outdated", reason=str(exc))
