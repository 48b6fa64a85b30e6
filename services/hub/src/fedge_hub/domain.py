"""What each node should have, and what it was sent.

Level-triggered: the store holds the newest version per object, and whatever differs from what the
node was sent is sent. So a repeat costs nothing, an absent node is owed one message per object, and
after a crash between two steps the next message, heartbeat or inventory finishes the work.
Nothing is deleted for being absent from somewhere: a tombstone needs a deletion seen, or a complete
list of a later revision without the object.
"""

from collections.abc import Collection, Mapping

import structlog

from fedge_fabric import InvalidError, UnavailableError, UnroutableError
from fedge_hub.ports import Clock, CloudLink, Downlink, Sighting, Wanted, WantedStore
from fedge_objects import Change, NodeName, ObjectKey, Version

log = structlog.stdlib.get_logger("fedge.hub")


class Nodes:
    """All nodes' wanted objects and presence."""

    def __init__(
        self,
        *,
        store: WantedStore,
        down: Downlink,
        cloud: CloudLink,
        clock: Clock,
        absent_after_heartbeats: float,
    ) -> None:
        self._store = store
        self._down = down
        self._cloud = cloud
        self._clock = clock
        self._absent_after = absent_after_heartbeats

    async def want(self, node: NodeName, change: Change) -> None:
        """Take note of what ``node`` should have, and send it if the node is there."""
        await self._store.want(node, change)
        if await self.is_present(node):
            await self._send_unsent(node, [change.key])

    async def listed(
        self, node: NodeName, resource: str, keys: Collection[ObjectKey], revision: int
    ) -> None:
        """Take note that ``keys`` are all of ``resource`` that ``node`` should have."""
        version = Version(revision, revision)
        missing = [
            key
            for key, wanted in (await self._store.wanted(node)).items()
            if key.resource == resource
            and key not in keys
            and not wanted.gone
            and wanted.version.decided <= revision
        ]
        for key in missing:
            await self._store.want(node, Change(key=key, version=version, object=None))
        await self._store.mark_listed(node, resource, revision)
        if missing and await self.is_present(node):
            await self._send_unsent(node, missing)

    async def heard(self, node: NodeName, interval_seconds: float) -> None:
        """Take note of a sign of life; after an absence, bring the node up to date.

        The note is made after the questions: should one fail, the next sign begins again. What
        is lost after it, the inventory that was asked for brings to light.
        """
        before = await self._store.last_seen(node)
        try:
            if before is None:
                # a new node, or a store that was emptied: whoever knows must tell again
                await self._cloud.ask_resync(node)
                await self._down.ask_inventory(node)
                log.info("node_new", node=node)
            elif not self._is_fresh(before):
                await self._down.ask_inventory(node)
                away = self._clock.now() - before.at
                log.info("node_back", node=node, away_seconds=round(away, 1))
        except UnroutableError:
            log.info("node_not_linked_down", node=node)
            return
        await self._store.mark_seen(
            node, Sighting(at=self._clock.now(), interval_seconds=interval_seconds)
        )
        if before is None or not self._is_fresh(before):
            await self._send_unsent(node)

    async def is_present(self, node: NodeName) -> bool:
        """Whether the node was heard of late."""
        seen = await self._store.last_seen(node)
        return seen is not None and self._is_fresh(seen)

    async def stored(self, node: NodeName, key: ObjectKey, version: Version) -> None:
        """Take note of what the node has on disk."""
        await self._store.mark_stored(node, key, version)

    async def compare(self, node: NodeName, has: Mapping[ObjectKey, Version]) -> None:
        """Send whatever the node has not, and tombstones for what is proved to be gone."""
        wanted = await self._store.wanted(node)
        for key, version in has.items():
            if (known := wanted.get(key)) is not None and version >= known.since:
                await self._store.mark_stored(node, key, version)
        lacking = [key for key, each in wanted.items() if _lacks(has.get(key), each)]
        await self._store.forget_sent(node, lacking)
        listed = await self._store.listed(node)
        unknown = [
            Change(key=key, version=Version(revision, revision), object=None)
            for key, version in has.items()
            if key not in wanted and (revision := listed.get(key.resource, -1)) >= version.decided
        ]
        for change in unknown:
            await self._store.want(node, change)
        await self._send_unsent(node)
        log.info("node_compared", node=node, has=len(has), wanted=len(wanted), lacking=len(lacking))

    async def check_speaks_for_itself(self, node: NodeName, key: ObjectKey) -> None:
        """Make sure that ``node`` may report about ``key``.

        Raises:
            InvalidError: the object does not concern the node.
            UnavailableError: not known yet, because the store is being filled.
        """
        if key.resource == "nodes":
            if key.name != node:
                raise InvalidError(f"node {node!r} reports about node {key.name!r}")
            return
        if key in await self._store.wanted(node, [key]):
            return
        if key.resource in await self._store.listed(node):
            raise InvalidError(f"node {node!r} reports about {key}, which is not its own")
        raise UnavailableError(f"it is not known yet what node {node!r} should have")

    async def _send_unsent(self, node: NodeName, keys: Collection[ObjectKey] | None = None) -> None:
        for change in await self._store.unsent(node, keys):
            try:
                await self._down.send(node, change)
            except UnroutableError:
                log.info("node_never_linked", node=node)
                return
            await self._store.mark_sent(node, change)

    def _is_fresh(self, seen: Sighting) -> bool:
        return self._clock.now() - seen.at <= seen.interval_seconds * self._absent_after


def _lacks(has: Version | None, wanted: Wanted) -> bool:
    """Whether a node that has ``has`` must be sent what is ``wanted``."""
    if has is None:
        return not wanted.gone
    return has < wanted.since
