"""The replicas of one service: they know each other, and each node is one replica's own.

A replica says over the broker that it is there: at its start, whenever somebody new is heard, and
while there are others every few seconds. One that says goodbye, or falls silent, is gone; then the
others share its nodes. A replica on its own says one word at its start and none later.

Two replicas may differ for a moment about whose a node is. That is harmless: what hub is told has
versions, a report that a replica is handed and that is not its own waits and is handed on, and who
has written a status of a node that was taken from it meanwhile has it asked for again.
"""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import TypeVar

import structlog

from fedge_dispatch.membership import Members, owner_of
from fedge_fabric import Envelope, MalformedError, UnavailableError, fields, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.dispatch")

EVERY_SECONDS = 2.0
"""How often a replica says that it is there."""
LATE_SECONDS = 3.0
"""A replica that was not heard for so long is gone if nobody reads its queue."""
GONE_SECONDS = 12.0
"""A replica that was not heard for so long is gone."""
UNSURE_SECONDS = 8.0
"""A replica that did not hear itself for so long may be thought to be gone, and owns nothing."""
MAX_REPLICAS = 256

_NAME = re.compile(r"[0-9a-f]{8}")
_Key = TypeVar("_Key", bound=str)


class State(StrEnum):
    """How far a replica is."""

    JOINING = "joining"
    """It learns what there is, and owns nothing while another is live."""
    LIVE = "live"
    LEAVING = "leaving"


class Replicas:
    """The replicas of a service, as one of them.

    Attributes:
        me: the name of this one: 8 hexadecimal digits, another one at each start.
        settled: set once it is known who else is there.
        changed: set when nodes may have changed hands, for whoever takes them over.
        changes: how often they may have.
    """

    def __init__(self, service: str, replica: str = "") -> None:
        self.me = replica or uuid.uuid4().hex[:8]
        self.settled = asyncio.Event()
        self.changed = asyncio.Event()
        self.changes = 0
        self._service = service
        self._members = Members(self.me)
        self._state = State.JOINING
        self._views: list[tuple[str, ...]] = [(), self._members.owners]
        """Who shared the nodes since all of this one's own were taken over; last: who does now."""
        self._news = asyncio.Event()
        self._has_to_say = asyncio.Event()
        self._asks = True
        self._gone: set[str] = set()

    @property
    def count(self) -> int:
        """How many replicas share the nodes."""
        return len(self._views[-1])

    @property
    def is_alone(self) -> bool:
        """Whether there is no other replica, and never was one."""
        return self._members.was_alone

    def owns(self, key: str) -> bool:
        """Whether a node, or what belongs to none, is this replica's own now."""
        return (
            self.settled.is_set()
            and self._state is not State.LEAVING
            and self._is_heard()
            and owner_of(key, self._views[-1]) == self.me
        )

    async def owner(self, key: str) -> str:
        """Return which replica's own a node is, once that is known.

        Raises:
            UnavailableError: this one may be thought to be gone, and cannot tell.
        """
        await self.settled.wait()
        if self._state is State.LEAVING or not self._is_heard():
            raise UnavailableError(
                f"replica {self.me} of {self._service} is leaving, or may be thought to be gone"
            )
        return owner_of(key, self._views[-1])

    def gained(self, keys: Iterable[_Key]) -> list[_Key]:
        """Return those that are this one's own, and were not all the time since ``caught_up``."""
        *before, _ = self._views
        return [
            key
            for key in keys
            if self.owns(key) and any(owner_of(key, view) != self.me for view in before)
        ]

    def caught_up(self) -> None:
        """Take that all that is this one's own was taken over."""
        self._views = self._views[-1:]

    def go_live(self) -> None:
        """Say that this replica is ready to own nodes."""
        self._state = State.LIVE
        self._members.is_live = True
        self._look()
        if self._members.others:
            self._say_soon()

    @asynccontextmanager
    async def taking_part(self, fabric: Fabric) -> AsyncIterator[None]:
        """Take part meanwhile, beside ``run``: what was lost is said again; at the end goodbye."""
        fabric.on_reconnected(self._reconnected)
        try:
            yield
        finally:
            await self._say_goodbye(fabric)

    async def run(self, fabric: Fabric) -> None:
        """Find out who is there, and say that this one is, until cancelled.

        The fabric runs, and ``heard`` is given what comes.
        """
        await self._settle(fabric)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS if self._members.others else None):
                    await self._has_to_say.wait()
            self._has_to_say.clear()
            try:
                await self._miss(fabric)
                await self._say(fabric)
            except UnavailableError as exc:
                log.info("replicas_not_told", replica=self.me, reason=str(exc))
                self._has_to_say.set()
                await asyncio.sleep(EVERY_SECONDS / 2)

    def leave(self) -> None:
        """Own nothing any more."""
        self._state = State.LEAVING

    def heard(self, envelope: Envelope) -> None:
        """Take what a replica says of itself and of others.

        Raises:
            MalformedError: it says nothing that can be.
        """
        data = envelope.data
        replica = _name(fields.text(data, "replica"))
        gone = [_name(each) for each in fields.array(data, "gone")[:MAX_REPLICAS]]
        asks = fields.flag(data, "asks", default=False)
        try:
            state = State(fields.text(data, "state"))
        except ValueError as exc:
            raise MalformedError(str(exc)) from exc
        if replica != self.me and self.me in gone:
            log.warning("thought_to_be_gone", replica=self.me, by=replica)
            self._start_over()
            self._say_soon()
        for each in gone:
            self._members.drop(each)
        if state is State.LEAVING:
            self._members.drop(replica)
        else:
            self._there(replica, is_live=state is State.LIVE, asks=asks)
        self._look()
        self._news.set()

    def _there(self, replica: str, *, is_live: bool, asks: bool) -> None:
        was_known = self._members.knew(replica)
        is_new = self._members.heard(replica, is_live=is_live, now=_monotonic())
        if is_new and is_live and not was_known and self.settled.is_set():
            # neither heard the other before: both may have owned the same
            self._start_over()
        if replica != self.me and (is_new or asks):
            self._say_soon()

    def _is_heard(self) -> bool:
        return self._members.is_heard(_monotonic(), UNSURE_SECONDS)

    def _look(self) -> None:
        owners = self._members.owners
        if owners != self._views[-1]:
            self._views.append(owners)
            self._note()

    def _start_over(self) -> None:
        """Take that others may have owned meanwhile whatever is this one's own."""
        self._views.extend([(), self._members.owners])
        self._note()

    def _note(self) -> None:
        self.changes += 1
        self.changed.set()

    def _reconnected(self) -> None:
        """Take that words may have been lost, this one's own and those of others."""
        if self._members.others:
            self._start_over()
        self._asks = True
        self._say_soon()

    def _say_soon(self) -> None:
        self._has_to_say.set()

    async def _settle(self, fabric: Fabric) -> None:
        """Wait until all that take from the shared queue were heard, or are silent for too long."""
        shared = t.owned(self._service, self.me).shared
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_SECONDS):
                async for _ in backoff(first_seconds=0.2, most_seconds=1.0):
                    with suppress(UnavailableError):
                        if self._asks:
                            await self._say(fabric)
                        depth = (await fabric.depths([shared])).get(shared)
                        there = depth.consumers if depth else 0
                        if await self._heard_all(there - 1):
                            break
        log.info("replicas_known", service=self._service, replica=self.me, others=self._others())
        self.settled.set()

    async def _heard_all(self, others: int) -> bool:
        """Return whether so many others were heard, or are within a second."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while len(self._members.others) < others:
                    self._news.clear()
                    await self._news.wait()
        return len(self._members.others) >= others

    async def _miss(self, fabric: Fabric) -> None:
        """Look for replicas that fell silent, and take those for gone that are not there."""
        late = self._members.silent(LATE_SECONDS)
        if not late:
            return
        queues = {each: t.owned(self._service, each).name for each in late}
        depths = await fabric.depths(queues.values())
        gone = set(self._members.silent(GONE_SECONDS))
        for each, queue in queues.items():
            if queue not in depths or not depths[queue].consumers:
                gone.add(each)
        for each in gone:
            log.warning("replica_gone", service=self._service, replica=each)
            self._members.drop(each)
        self._gone |= gone
        self._look()

    async def _say(self, fabric: Fabric) -> None:
        asks, gone = self._asks, self._gone
        self._asks, self._gone = False, set()
        try:
            await fabric.publish(
                Envelope(
                    type=kinds.REPLICA_HEARD,
                    source=f"/cloud/{self._service}",
                    data={
                        "replica": self.me,
                        "state": self._state,
                        "asks": asks,
                        "gone": sorted(gone),
                    },
                ),
                exchange=t.CONTROL,
                routing_key=t.replicas_key(self._service),
            )
        except BaseException:
            self._asks |= asks
            self._gone |= gone
            raise

    async def _say_goodbye(self, fabric: Fabric) -> None:
        self.leave()
        if not self._members.others:
            return
        try:
            async with asyncio.timeout(EVERY_SECONDS):
                await self._say(fabric)
        except (UnavailableError, TimeoutError) as exc:
            # the others miss it
            log.info("goodbye_not_said", replica=self.me, reason=str(exc))

    def _others(self) -> list[str]:
        return sorted(self._members.others)


def _name(value: object) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise MalformedError(f"{fields.shown(value)} is no name of a replica")


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
