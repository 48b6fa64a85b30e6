"""Telling hub what nodes should have, until the broker has it.

Newest wins: while the broker is away, one message per object waits, not one per change.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from fedge_dispatch.placement import Complete, Decision
from fedge_fabric import (
    Address,
    Envelope,
    MessageClass,
    UnavailableError,
    UnroutableError,
    envelope_of,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_objects import NodeName, ObjectKey
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.dispatch")

WORKERS = 64

_STATUSES = "?"
"""Where a question waits among the names of resources, none of which is this."""

_Slot = tuple[NodeName, ObjectKey | str]


@dataclass(frozen=True, slots=True)
class StatusesAsked:
    """A node is to report all its statuses again."""

    node: NodeName


News = Decision | Complete | StatusesAsked


class Telling:
    """What is still to be told, in the order in which it came up."""

    def __init__(self, fabric: Fabric, *, service: str) -> None:
        self._fabric = fabric
        self._source = f"/cloud/{service}"
        self._pending: dict[_Slot, News] = {}
        self._order: asyncio.Queue[_Slot] = asyncio.Queue()

    def tell(self, news: Iterable[News]) -> None:
        """Take what is to be told."""
        for each in news:
            slot = _slot(each)
            if slot not in self._pending:
                self._order.put_nowait(slot)
            elif isinstance(each, Decision):
                waiting = self._pending[slot]
                if isinstance(waiting, Decision) and (waiting.change.version > each.change.version):
                    continue
            self._pending[slot] = each

    async def run(self) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(self._work(), name=f"telling-{number}")

    async def _work(self) -> None:
        while True:
            slot = await self._order.get()
            news = self._pending.pop(slot)
            async for _ in backoff(most_seconds=5):
                try:
                    await self._publish(news)
                except (UnavailableError, UnroutableError) as exc:
                    log.warning("telling_again", node=news.node, reason=str(exc))
                    # something newer of the same object may have come meanwhile
                    if slot in self._pending:
                        break
                else:
                    break

    async def _publish(self, news: News) -> None:
        envelope, address = self._message(news)
        await self._fabric.publish(
            envelope, exchange=t.WANTED, routing_key=str(address), mandatory=True
        )

    def _message(self, news: News) -> tuple[Envelope, Address]:
        match news:
            case Decision(node, change):
                return envelope_of(change, source=self._source), Address.of_object(node, change.key)
            case Complete(node, resource, keys, version):
                listed = Envelope(
                    type=kinds.OBJECTS_LISTED,
                    source=self._source,
                    subject=resource,
                    version=version,
                    data={"keys": sorted(map(str, keys))},
                )
                return listed, Address(node, MessageClass.STATE, (resource,))
            case StatusesAsked(node):
                asked = Envelope(type=kinds.STATUSES_ASKED, source=self._source)
                return asked, Address(node, MessageClass.REQUEST, ("statuses",))


def _slot(news: News) -> _Slot:
    match news:
        case Decision(node, change):
            return node, change.key
        case Complete(node, resource, _, _):
            return node, resource
        case StatusesAsked(node):
            return node, _STATUSES
