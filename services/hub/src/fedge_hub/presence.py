"""Asking nodes that are there: one that is away is not asked, and one that goes away not awaited.

Whether a node is there is known by its heartbeats. Without them a question would wait for its whole
time in a queue, and whoever asked would learn no more than that nothing came.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from typing_extensions import override

from fedge_fabric import UnavailableError
from fedge_hub.domain import Nodes
from fedge_hub.ports import Clock, NodeAwayError, RequestLink, Sighting, WantedStore
from fedge_objects import NodeName

_REMEDY = (
    "its pods run on; `fedge logs` and `fedge exec` work on the node itself (FEDGE_EDGE_SOCKET),"
    " as does `fedge device`; `fedge status` tells when it is back"
)


class Presence:
    """Tells whether a node can be asked now."""

    def __init__(self, nodes: Nodes, store: WantedStore, clock: Clock) -> None:
        self._nodes = nodes
        self._store = store
        self._clock = clock

    async def check(self, node: NodeName) -> Sighting:
        """Return when a node was last heard.

        Raises:
            NodeAwayError: it is away.
            UnavailableError: it cannot be told now.
        """
        seen = await self._store.last_seen(node)
        if seen is None:
            raise NodeAwayError(
                f"hub has never heard of node {node!r}: check that its edge runs and can reach the"
                " cloud (`fedge status`)"
            )
        if not self._nodes.is_fresh(seen):
            at = datetime.fromtimestamp(seen.at, UTC).isoformat(timespec="seconds")
            silent = max(0.0, self._clock.now() - seen.at)
            raise NodeAwayError(
                f"node {node!r} is away since {at}, {silent:.0f} s without a heartbeat: {_REMEDY}"
            )
        return seen

    async def until_away(self, node: NodeName) -> NodeAwayError:
        """Wait until a node that is there goes away; return what ``check`` raises then.

        Looks once per heartbeat of the node. What cannot be told now does not count as away.
        """
        wait_seconds = 1.0
        while True:
            try:
                wait_seconds = (await self.check(node)).interval_seconds
            except NodeAwayError as exc:
                return exc
            except UnavailableError:
                pass  # it is asked again, and the answer may come nevertheless
            await asyncio.sleep(wait_seconds)


class PresentNodes(RequestLink):
    """A way to nodes that are there."""

    def __init__(self, requests: RequestLink, presence: Presence) -> None:
        self._requests = requests
        self._presence = presence

    @override
    async def ask(
        self,
        node: NodeName,
        kind: str,
        data: Mapping[str, object],
        *,
        deadline_seconds: float,
        goes_on: bool = False,
        inputs: AsyncIterator[bytes] | None = None,
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield the pieces of the answer; see ``RequestLink.ask``.

        Raises:
            NodeAwayError: the node is away, or went away meanwhile.
        """
        await self._presence.check(node)
        pieces = self._requests.ask(
            node, kind, data, deadline_seconds=deadline_seconds, goes_on=goes_on, inputs=inputs
        )
        away = asyncio.create_task(self._presence.until_away(node), name=f"presence of {node}")
        try:
            async with aclosing(pieces):
                while True:
                    piece = await _next(pieces, away)
                    if piece is None:
                        return
                    yield piece
        finally:
            away.cancel()
            await asyncio.gather(away, return_exceptions=True)


async def _next(
    pieces: AsyncGenerator[Mapping[str, Any], None], away: asyncio.Task[NodeAwayError]
) -> Mapping[str, Any] | None:
    """Return the next piece, None after the last."""
    coming = asyncio.ensure_future(anext(pieces, None))
    try:
        await asyncio.wait({coming, away}, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            raise away.result()
        return coming.result()
    finally:
        if not coming.done():
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
