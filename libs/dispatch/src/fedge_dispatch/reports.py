"""What nodes report, written to the API: newest only, one write at a time per object.

A first report passes at once. More of the same object, within the least time between two writes,
wait for its end, and only the newest of them is written; so too while all of them together would
ask more of the API than a budget allows. A report's message is acknowledged when it was written or
a newer one is here to be, so that a crash loses nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from fedge_dispatch.budget import Budget
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
BUSY_SECONDS = 1.0
"""An object that was written so lately is written again together with others."""
TOGETHER_SECONDS = 0.05
TICKS = 4
"""Writes that wait fall due together, so often within the least time between two of an object: an
API server commits together what comes together."""

SLACK_SECONDS = 0.001
"""What is due so soon is due: a clock is not exact enough to wait for less."""


@dataclass(slots=True)
class _Slot:
    """One node's reports of one object. Of those that must wait only the newest does.

    Attributes:
        newest: the newest that came.
        written: the newest that was written.
        writing: whether a write is under way.
        due: when the next write may be made.
        reserved: whether that time was got from the budget; it is the slot's, whoever waits.
        waiting: wakes the report that waits.
    """

    newest: Observed | None = None
    written: Observed | None = None
    writing: bool = False
    due: float = 0.0
    reserved: bool = False
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
        budget: Budget | None = None,
        owns: Callable[[NodeName], bool] = lambda _: True,
        written_late: Callable[[NodeName], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            kube: the API.
            plugins: kinds by the names of their resources.
            write_every_seconds: least time between two writes of one object's status.
            budget: how often the API is written to by all reports together.
            owns: whether a node's reports are this replica's to write.
            written_late: is told of a node whose status may have been written while it became
                another replica's, maybe after a newer one of that.
        """
        self._kube = kube
        self._plugins = plugins
        self._write_every_seconds = write_every_seconds
        self._budget = budget
        self._owns = owns
        self._written_late = written_late
        self._writing = 0
        self._idle = asyncio.Event()
        self._idle.set()
        # by object, then by who reports and of which object of that name: what another node or an
        # object of old says must not take the place of what is waiting here
        self._slots: dict[ObjectKey, dict[tuple[NodeName, str], _Slot]] = {}

    async def status(self, report: Report, observed: Observed) -> None:
        """Write a status, unless a newer one was written or waits to be.

        Raises:
            InvalidError: no plugin for the resource, or the API refuses the status.
            UnavailableError: the API is away, or the node is another replica's by now.
        """
        plugin = self._plugins.get(report.key.resource)
        if plugin is None:
            raise InvalidError(f"no plugin takes reports about {report.key.resource!r}")
        slots = self._slots.setdefault(report.key, {})
        slot = slots.setdefault((report.node, report.uid), _Slot())
        if observed == slot.written or (slot.newest is not None and observed < slot.newest):
            return
        slot.newest = observed
        self._join(slot)
        if not await self._has_turn(slot):
            return
        if not self._owns(report.node):
            raise UnavailableError(f"node {report.node!r} is another replica's now")
        slot.writing = True
        self._writing += 1
        self._idle.clear()
        began = _monotonic()
        try:
            async with answered():
                await plugin.report(self._kube, report)
            slot.written = observed
            slot.due = self._next(began)
            slot.reserved = False
        finally:
            slot.writing = False
            slot.wake()
            self._writing -= 1
            if not self._writing:
                self._idle.set()
            if not self._owns(report.node):
                self._written_late(report.node)

    async def idle(self) -> None:
        """Wait until nothing is being written."""
        await self._idle.wait()

    def forget(self, key: ObjectKey) -> None:
        """Drop what is remembered about an object that is gone."""
        self._slots.pop(key, None)

    def _next(self, began: float) -> float:
        """Return when the object's next write is due: a little early rather than late."""
        tick = self._write_every_seconds / TICKS
        due = began + self._write_every_seconds
        return due - due % tick if tick else due

    def _join(self, slot: _Slot) -> None:
        """Have a report that is one of many wait for others, for a moment."""
        now = _monotonic()
        if slot.written is None or slot.writing or not self._write_every_seconds:
            return
        if slot.due <= now < slot.due + BUSY_SECONDS:
            slot.due = (now // TOGETHER_SECONDS + 1) * TOGETHER_SECONDS

    async def _has_turn(self, slot: _Slot) -> bool:
        """Wait for the turn to write; return False once a newer report waits for it instead."""
        slot.wake()
        mine = slot.waiting = asyncio.Event()
        try:
            while not self._is_free(slot):
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

    def _is_free(self, slot: _Slot) -> bool:
        now = _monotonic()
        if slot.writing or slot.due > now + SLACK_SECONDS:
            return False
        if self._budget is None or slot.reserved:
            return True
        slot.due, slot.reserved = self._budget.reserve(now), True
        return slot.due <= now + SLACK_SECONDS


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
