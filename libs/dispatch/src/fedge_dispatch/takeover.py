"""Making nodes a replica's own that were another's.

It is done as after a restart: everything is listed again, so that nothing is decided by what is
older than the last word of whoever had the nodes before; everything of them is told, and they are
asked for their statuses.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from fedge_dispatch.placement import Placement
from fedge_dispatch.replicas import Replicas
from fedge_dispatch.telling import StatusesAsked, Telling
from fedge_dispatch.watching import Watching
from fedge_objects import NodeName

log = structlog.stdlib.get_logger("fedge.dispatch")

TOGETHER_SECONDS = 0.5
"""How long a change among the replicas waits for others: they start, and stop, in groups."""


class Takeover:
    """Takes nodes over as the replicas change."""

    def __init__(
        self,
        replicas: Replicas,
        *,
        placement: Placement,
        telling: Telling,
        watching: Watching,
        reshared: Sequence[Callable[[], None]] = (),
    ) -> None:
        """Prepare.

        Args:
            replicas: who there are.
            placement: what concerns which node.
            telling: the way to hub.
            watching: follows the API; by its first list all is told already.
            reshared: called whenever nodes changed hands, before anything is listed for that.
        """
        self._replicas = replicas
        self._placement = placement
        self._telling = telling
        self._watching = watching
        self._reshared = reshared

    async def run(self) -> None:
        """Take part once all is listed, and take over until cancelled."""
        await self._watching.complete.wait()
        self._replicas.go_live()
        if self._replicas.is_alone:
            # since before the first list; and it was told by that
            self._replicas.changed.clear()
            self._replicas.caught_up()
        while True:
            await self._replicas.changed.wait()
            self._replicas.changed.clear()
            for reshared in self._reshared:
                reshared()
            if self._gained():
                await asyncio.sleep(TOGETHER_SECONDS)
                if not await self._take_over():
                    continue
            else:
                self._replicas.caught_up()
            self._log()

    def _gained(self) -> list[NodeName]:
        return self._replicas.gained(sorted(self._placement.nodes()))

    async def _take_over(self) -> bool:
        """Return whether all that was gained is this one's own now, and not more meanwhile."""
        changes = self._replicas.changes
        revision = await self._watching.begin_anew()
        if self._replicas.changes != changes:
            return False  # what was listed may be older than the last word of who left since
        gained = self._gained()
        self._replicas.caught_up()
        for node in gained:
            self._placement.renew(node, revision)
            self._telling.tell(self._placement.everything(node))
            self._telling.tell([StatusesAsked(node)])
        log.info("nodes_taken_over", replica=self._replicas.me, nodes=len(gained))
        return True

    def _log(self) -> None:
        nodes = self._placement.nodes()
        log.info(
            "nodes_shared",
            replica=self._replicas.me,
            replicas=self._replicas.count,
            nodes=sum(map(self._replicas.owns, nodes)),
            of=len(nodes),
        )
