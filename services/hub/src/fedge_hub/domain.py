"""What each node should have, and what it was sent.

Level-triggered: the store holds the newest version per object, and whatever differs from what the
node was sent is sent. So a repeat costs nothing, an absent node is owed one message per object, and
after a crash between two steps the next message, heartbeat or digest finishes the work.
Nothing is deleted for being absent from somewhere: a tombstone needs a deletion seen, or a complete
list of a later revision without the object.
"""

from collections.abc import Collection, Mapping

import structlog

from fedge_fabric import InvalidError, UnavailableError, UnroutableError
from fedge_hub.ports import (
    Applied,
    Clock,
    CloudLink,
    Downlink,
    NoSealingKeyError,
    Sighting,
    Wanted,
    WantedStore,
)
from fedge_objects import Change, NodeName, ObjectKey, Version, VersionTree, lying_below

log = structlog.stdlib.get_logger("fedge.hub")

MAX_OBJECTS = 200_000
"""More are not believed to be on one node; else it could fill the store by only saying so."""


BELIEVED_UNKNOWN_SECONDS = 120.0
"""For so long a node's words about what nobody has told of yet wait, from the first of them."""


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
        believed_unknown_seconds: float = BELIEVED_UNKNOWN_SECONDS,
    ) -> None:
        self._store = store
        self._down = down
        self._cloud = cloud
        self._clock = clock
        self._absent_after = absent_after_heartbeats
        self._believed_unknown = believed_unknown_seconds
        self._unknown_since: dict[NodeName, tuple[float, str]] = {}
        """Since when, and of which resource first, a node reports what nobody has told of."""

    async def want(self, node: NodeName, change: Change) -> None:
        """Take note of what ``node`` should have, and send it if the node is there."""
        await self._store.want(node, change)
        if await self.is_present(node):
            await self._send_unsent(node, [change.key])

    async def listed(
        self, node: NodeName, resource: str, keys: Collection[ObjectKey], version: Version
    ) -> None:
        """Take note that ``keys`` are all of ``resource`` that ``node`` should have.

        Args:
            node: which node.
            resource: which resource.
            keys: of all that it should have.
            version: the list holds for what was decided until ``decided``, about objects as they
                were until ``revision``.

        Raises:
            UnavailableError: one of them is not known yet. A list that is believed before its
                objects came would make them look like objects that should be gone.
        """
        before = (await self._store.listed(node)).get(resource)
        if before is not None and _is_covered(version, before):
            return  # a repeat, or an older list tried again
        known = await self._store.wanted(node)
        unknown = [key for key in keys if key not in known]
        if unknown:
            raise UnavailableError(
                f"{len(unknown)} listed {resource} of node {node!r} did not come yet, {unknown[0]}"
            )
        missing = [
            key
            for key, wanted in known.items()
            if key.resource == resource
            and key not in keys
            and not wanted.gone
            and _is_covered(wanted.version, version)
        ]
        for key in missing:
            await self._store.want(node, Change(key=key, version=version, object=None))
        await self._store.mark_listed(node, resource, version)
        if before is None and self._unknown_since.pop(node, None) is not None:
            # what it said of these meanwhile may have been refused
            await self._ask_statuses(node)
        if missing and await self.is_present(node):
            await self._send_unsent(node, missing)

    async def heard(
        self,
        node: NodeName,
        interval_seconds: float,
        backlog: Mapping[str, int] | None = None,
    ) -> None:
        """Take note of a sign of life; after an absence, have the node say what it has.

        It is sent what it lacks when it has said so, and nothing before: what is under way while
        it says so would look like something that it lacks, and be sent again.
        The note is made after the questions: should one fail, the next sign begins again. What
        is lost after it, the digest that was asked for brings to light.
        """
        before = await self._store.last_seen(node)
        is_back = before is None or not self.is_fresh(before)
        if is_back:
            # before the questions: their answer may come at once
            await self._store.mark_asked(node, self._clock.now())
        try:
            if before is None:
                # a new node, or a store that was emptied: whoever knows must tell again
                await self._cloud.ask_resync(node)
                await self._ask_all(node)
                log.info("node_new", node=node)
            elif is_back:
                await self._ask_all(node)
                away = self._clock.now() - before.at
                log.info("node_back", node=node, away_seconds=round(away, 1))
        except UnroutableError:
            log.info("node_not_linked_down", node=node)
            return
        now = self._clock.now()
        await self._store.mark_seen(
            node, Sighting(at=now, interval_seconds=interval_seconds, backlog=backlog)
        )
        await self._ask_once_known(node)
        if before is None or is_back or before.settled:
            return
        asked_at = before.asked_at
        if asked_at is None or abs(now - asked_at) > interval_seconds * self._absent_after:
            # it does not say what it has, so it is sent whatever it was not sent yet
            log.warning("node_not_compared", node=node)
            await self._store.mark_settled(node)
            await self._send_unsent(node)

    async def answer(self, node: NodeName, heartbeat_id: str) -> None:
        """Tell a node that asks that its heartbeat was heard."""
        try:
            await self._down.say_heard(node, heartbeat_id)
        except UnroutableError:
            log.info("node_not_linked_down", node=node)

    async def _ask_once_known(self, node: NodeName) -> None:
        """Ask for what may have been refused here, once another replica of hub was told of it."""
        unknown = self._unknown_since.get(node)
        if unknown is None or unknown[1] not in await self._store.listed(node):
            return
        if self._unknown_since.pop(node, None) is not None:
            await self._ask_statuses(node)

    async def ask_statuses(self, node: NodeName) -> None:
        """Have a node report all its statuses again; one that is away does so when it is back."""
        seen = await self._store.last_seen(node)
        if seen is not None and self.is_fresh(seen):
            await self._ask_statuses(node)

    async def is_present(self, node: NodeName) -> bool:
        """Whether the node was heard of late, and what it has is known."""
        seen = await self._store.last_seen(node)
        return seen is not None and seen.settled and self.is_fresh(seen)

    async def stored(self, node: NodeName, key: ObjectKey, version: Version) -> None:
        """Take note of what the node has on disk; of no others than it should have.

        What else it has, a comparison brings to light.
        """
        if await self._store.wanted(node, [key]):
            await self._store.mark_stored(node, key, version)

    async def applied(self, node: NodeName, applied: Mapping[ObjectKey, Applied]) -> None:
        """Take note of what became of objects on the node; of no others than it should have."""
        known = await self._store.wanted(node, applied)
        await self._store.mark_applied(
            node, {key: each for key, each in applied.items() if key in known}
        )

    async def compare(
        self,
        node: NodeName,
        hashes: Mapping[str, str],
        versions: Mapping[str, Mapping[ObjectKey, Version]],
    ) -> None:
        """Find what the node lacks, a branch at a time, and send exactly that.

        Compared is what the node has with what it said that it has: where these agree, what is
        lacking can be seen from here. A hash of all that a node told unasked counts only while it
        is present: one that is back is asked, and an older word beside its answer would have sent
        twice what is under way.

        Args:
            node: who tells.
            hashes: of branches of what the node has (``fedge_objects.VersionTree``).
            versions: all that the node has in other branches.

        Raises:
            InvalidError: it has more objects than any node may have.
        """
        is_unasked = not versions and hashes.keys() == {""}
        if is_unasked and not await self.is_present(node):
            return
        believed = await self._store.stored(node)
        if versions:
            has = {key: each for branch in versions.values() for key, each in branch.items()}
            over = len(believed.keys() | has.keys())
            if over > MAX_OBJECTS:
                raise InvalidError(
                    f"node {node!r} says that it has {over} objects: no more than {MAX_OBJECTS} are"
                    " believed; if it has them, spread them over more nodes"
                )
            in_question = lying_below(map(str, believed), versions.keys())
            lost = [key for key in believed if key not in has and str(key) in in_question]
            await self._store.replace_stored(node, has, lost)
            believed = await self._store.stored(node)
        tree = VersionTree({str(key): str(version) for key, version in believed.items()})
        differing = [prefix for prefix, each in hashes.items() if tree.hash(prefix) != each]
        try:
            if not differing:
                await self._settle(node, believed)
            await self._down.ask_digest(node, differing)
        except UnroutableError:
            log.info("node_not_linked_down", node=node)

    async def _settle(self, node: NodeName, has: Mapping[ObjectKey, Version]) -> None:
        """Send whatever the node has not, and tombstones for what is proved to be gone.

        What it has and is not known to be applied or failed, it is asked about.
        """
        wanted = await self._store.wanted(node)
        lacking = [key for key, each in wanted.items() if _lacks(has.get(key), each)]
        await self._store.forget_sent(node, lacking)
        listed = await self._store.listed(node)
        unknown = [
            Change(key=key, version=until, object=None)
            for key, version in has.items()
            if key not in wanted
            and (until := listed.get(key.resource)) is not None
            and _is_covered(version, until)
        ]
        for change in unknown:
            await self._store.want(node, change)
        await self._store.mark_settled(node)
        await self._send_unsent(node)
        if any(_is_unclear(has.get(key), each) for key, each in wanted.items()):
            # what became of it was not told yet, or was forgotten here
            await self._down.ask_statuses(node)
        if lacking or unknown:
            log.info(
                "node_repaired", node=node, has=len(has), lacking=len(lacking), over=len(unknown)
            )

    async def _ask_all(self, node: NodeName) -> None:
        await self._down.ask_digest(node, [""])
        await self._down.ask_statuses(node)

    async def check_speaks_for_itself(self, node: NodeName, key: ObjectKey) -> None:
        """Make sure that ``node`` may report about ``key``.

        Raises:
            InvalidError: the object does not concern the node, or nobody has told of such objects
                for long: waiting for ever, it would take the place of what others say.
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
        now = self._clock.now()
        since, _ = self._unknown_since.setdefault(node, (now, key.resource))
        if abs(now - since) > self._believed_unknown:
            raise InvalidError(
                f"node {node!r} reports about {key}, and no service has told of its"
                f" {key.resource}: is the one that does running?"
            )
        raise UnavailableError(f"it is not known yet what node {node!r} should have")

    async def _ask_statuses(self, node: NodeName) -> None:
        try:
            await self._down.ask_statuses(node)
        except UnroutableError:
            log.info("node_not_linked_down", node=node)

    async def _send_unsent(self, node: NodeName, keys: Collection[ObjectKey] | None = None) -> None:
        for change in await self._store.unsent(node, keys):
            try:
                await self._down.send(node, change)
            except UnroutableError:
                log.info("node_never_linked", node=node)
                return
            except NoSealingKeyError as exc:
                log.error("not_sent", node=node, reason=str(exc))  # noqa: TRY400 - it says it all
                continue
            await self._store.mark_sent(node, change)

    def is_fresh(self, seen: Sighting) -> bool:
        """Whether a sighting says that the node is there now."""
        # a clock that was set back makes a sighting of the future, which says no more than an old
        return abs(self._clock.now() - seen.at) <= seen.interval_seconds * self._absent_after


def _is_covered(version: Version, until: Version) -> bool:
    """Whether a complete list tells of a version: of the decision, and of the object so far."""
    return version.decided <= until.decided and version.revision <= until.revision


def _lacks(has: Version | None, wanted: Wanted) -> bool:
    """Whether a node that has ``has`` must be sent what is ``wanted``."""
    if has is None:
        return not wanted.gone
    return has < wanted.since


def _is_unclear(has: Version | None, wanted: Wanted) -> bool:
    """Whether a node has what is ``wanted``, and what became of it there is not known."""
    if wanted.gone or has is None or has < wanted.since:
        return False
    return wanted.applied is None or wanted.applied.version < wanted.since
