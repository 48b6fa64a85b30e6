"""Whether the edge works as it did: what a new version has to show before it is kept."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

from fedge_edged.worker import PodWorker
from fedge_fabric import MessageClass, UnavailableError
from fedge_fabric.depths import Depth
from fedge_fabric.topology import up_queue
from fedge_slots import Was

QUEUES: Final = {"meta": "meta.state", "edged": "edged.request", "twin": "twin.request"}
"""Whoever takes from its queue has opened its database, and answers."""


class Broker(Protocol):
    """The edge's own."""

    async def depths(self, queues: Collection[str]) -> Mapping[str, Depth]:
        """Return how full queues are, and how many take from them."""
        ...


class Health:
    """Looks at the edge."""

    def __init__(
        self,
        *,
        broker: Callable[[], Broker | None],
        is_answered: Callable[[], Awaitable[bool]],
        workers: Callable[[], list[PodWorker]],
    ) -> None:
        """Take where to look.

        Args:
            broker: the edge's own; None while it is not connected.
            is_answered: tells whether the cloud answers now.
            workers: of the pods.
        """
        self._broker = broker
        self._is_answered = is_answered
        self._workers = workers

    async def now(self) -> Was:
        """Return what works now."""
        is_linked = not await self._unlinked()
        return Was(
            linked=is_linked,
            answered=is_linked and await self._is_answered(),
            pods=tuple(sorted(self._running())),
        )

    async def missing(self, was: Was) -> str:
        """Return what worked and does not; nothing if all does.

        The services have to answer in any case. A pod that is no longer wanted is not missed.
        """
        broker = self._broker()
        if broker is None:
            return "the broker is not connected"
        try:
            depths = await broker.depths(list(QUEUES.values()))
        except UnavailableError as exc:
            return f"the broker does not answer: {exc}"
        silent = [
            service
            for service, queue in QUEUES.items()
            if queue not in depths or not depths[queue].consumers
        ]
        if silent:
            return f"{', '.join(silent)} take no messages"
        over = {each.uid for each in self._workers() if each.is_over or each.pod is None}
        known = {each.uid for each in self._workers()}
        if lost := [uid for uid in was.pods if uid not in known]:
            return f"{len(lost)} pods are not known"
        if still := set(was.pods) - self._running() - over:
            return f"{len(still)} pods do not run"
        if was.linked and (reason := await self._unlinked()):
            return reason
        if was.answered and not await self._is_answered():
            return "the cloud's answer does not come down"
        return ""

    def _running(self) -> set[str]:
        return {each.uid for each in self._workers() if each.observed.running()}

    async def _unlinked(self) -> str:
        """Return what keeps messages from going up; nothing if they do.

        A shovel takes from its queue only while it has the cloud, and what it took is gone from the
        queue when the cloud has confirmed it.
        """
        broker = self._broker()
        if broker is None:
            return "the broker is not connected"
        queues = [up_queue(each) for each in MessageClass]
        try:
            depths = await broker.depths(queues)
        except UnavailableError as exc:
            return f"the broker does not answer: {exc}"
        down = [each for each in queues if each not in depths or not depths[each].consumers]
        if down:
            return f"no link to the cloud takes from {', '.join(down)}"
        waiting = depths[up_queue(MessageClass.STATE)].messages
        return f"{waiting} messages wait for the link to the cloud" if waiting else ""
