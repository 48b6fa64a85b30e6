"""Watching over the links between the edge's broker and the cloud's.

The broker redials by itself, but it notices a line that went silent only by missed heartbeats, the
kernel of a line that came back tries again later and later, and a link that failed too fast gives
up for good. So what is wanted (a healthy connection for each link) is compared with what is there.
While all is well this reads the kernel's table now and then and sends nothing.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import structlog

from fedge_fabric import MessageClass, UnavailableError
from fedge_meta.sockets import Connection

log = structlog.stdlib.get_logger("fedge.meta")

LOOK_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 0.5
"""How soon while connections are silent: these wait for us. Links that are missing dial by
themselves, and when the cloud itself is away so do those of every edge."""
LINKS = len(MessageClass) + 1
"""A shovel for each class, and the federation link."""
SILENT_SECONDS = 1.0
"""A connection whose kernel waits longer than this to try again is dropped when the line is up."""
PATIENCE_SECONDS = 5.0
"""For so long links dial by themselves while the cloud can be reached, and none comes or goes."""
REPAIR_AGAIN_SECONDS = 5.0
MOST_REPAIR_AGAIN_SECONDS = 300.0


class Line(Protocol):
    """What the kernel knows."""

    def connections(self) -> list[Connection]:
        """Return the broker's established connections to the cloud."""

    async def is_reachable(self) -> bool:
        """Whether the cloud takes a connection right now."""


class Repairs(Protocol):
    """What the broker can be told.

    Both raise ``UnavailableError`` when it does not answer.
    """

    async def drop_connections(self) -> str:
        """Close the connections to the cloud, so that the links dial anew."""

    async def restore_links(self) -> str:
        """Make the links anew that should run and do not."""


class Links:
    """Compares the links that should be with those that are, and repairs them."""

    def __init__(self, *, line: Line, broker: Repairs) -> None:
        self._line = line
        self._broker = broker
        self._now = asyncio.get_running_loop().time
        self._is_up: bool | None = None
        self.changed: Callable[[bool], None] | None = None
        """Called with whether the links are up, when that has changed."""
        self._are_silent = False
        self._reached_since: float | None = None
        self._count = 0
        self._not_before = 0.0
        self._wait = REPAIR_AGAIN_SECONDS

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            is_well = await self.look()
            wait = LOOK_AGAIN_SECONDS if self._are_silent else LOOK_SECONDS
            # a fleet that lost the cloud at one moment does not knock at it in step
            await asyncio.sleep(wait if is_well else random.uniform(wait / 2, wait))  # noqa: S311

    async def look(self) -> bool:
        """Look once, repair what may be repaired now, and return whether all was well."""
        found = self._line.connections()
        silent = [each for each in found if each.silent_seconds > SILENT_SECONDS]
        self._are_silent = bool(silent)
        if not silent and len(found) >= LINKS:
            self._is_well()
            return True
        if self._is_up is not False:
            self._note(is_up=False)
            log.warning("links_down", connections=len(found), silent=len(silent))
        if not await self._line.is_reachable():
            self._reached_since = None
            return False
        now = self._now()
        if self._reached_since is None or len(found) != self._count:  # they are at it
            self._reached_since, self._count = now, len(found)
        if now >= self._not_before:
            if silent:
                await self._repair(now, "connections_dropped", is_drop=True)
            elif now - self._reached_since >= PATIENCE_SECONDS:
                await self._repair(now, "links_restored", is_drop=False)
        return False

    def _is_well(self) -> None:
        self._reached_since = None
        self._not_before = 0.0
        self._wait = REPAIR_AGAIN_SECONDS
        if not self._is_up:
            self._note(is_up=True)
            log.info("links_up")

    def _note(self, *, is_up: bool) -> None:
        self._is_up = is_up
        if self.changed is not None:
            self.changed(is_up)

    async def _repair(self, now: float, event: str, *, is_drop: bool) -> None:
        """Repair, and the next time only after a while that grows while it does not help."""
        self._not_before = now + self._wait
        self._wait = min(self._wait * 2, MOST_REPAIR_AGAIN_SECONDS)
        broker = self._broker
        try:
            answer = await (broker.drop_connections() if is_drop else broker.restore_links())
        except UnavailableError as exc:
            log.warning("links_not_repaired", reason=str(exc))
        else:
            log.warning(event, answer=answer, again_after=str(timedelta(seconds=self._wait)))
