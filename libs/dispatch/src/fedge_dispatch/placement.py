"""Which object concerns which node.

Pure: observations of the API in, decisions out. The version of a decision is made of the cluster's
own revisions (see ``fedge_objects.Version``), so whoever makes it anew, after a restart or beside
this one, comes to the same version or a later one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fedge_objects import Change, JsonObject, NodeName, ObjectKey, Version

GROUP = "group"
"""Resource of keys that name no object: who needs such a key needs whatever has joined it."""


def group_key(kind: str, name: str, namespace: str = "") -> ObjectKey:
    """Return the key of a group of objects, e.g. all config maps of a namespace."""
    return ObjectKey(GROUP, namespace, f"{kind}:{name}")


@dataclass(frozen=True, slots=True)
class Decision:
    """What one node should have of one object."""

    node: NodeName
    change: Change


@dataclass(frozen=True, slots=True)
class Complete:
    """All that a node should have of a resource.

    Attributes:
        node: which node.
        resource: of which resource.
        keys: of all that it should have, and of what it needs and is not there.
        version: it holds for whatever was decided until then, of objects as they were until then.
    """

    node: NodeName
    resource: str
    keys: frozenset[ObjectKey]
    version: Version


@dataclass(frozen=True, slots=True)
class _Known:
    object: JsonObject
    revision: int


@dataclass(frozen=True, slots=True)
class _Lead:
    node: NodeName
    needs: frozenset[ObjectKey]


@dataclass(slots=True)
class _Need:
    """Why a node needs an object: since which revision, and because of what."""

    decided: int
    because: set[ObjectKey] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An object that is made of two of the API's.

    Attributes:
        key: its own; no two of them make the same.
        node: whose it is; None: nobody's.
        object: it; None: there is none, or no longer.
        version: revisions of the object that names the node, and of the other.
    """

    key: ObjectKey
    node: NodeName | None
    object: JsonObject | None
    version: Version


class Placement:
    """The cluster's objects, and where they belong."""

    def __init__(
        self,
        leading: Iterable[str],
        following: Iterable[str],
        made: Mapping[str, tuple[str, str]] | None = None,
        optional: Iterable[str] = (),
    ) -> None:
        """Take the resources.

        Args:
            leading: whose objects name a node.
            following: whose objects follow those.
            made: resources that the API does not have, each with the leading one and the other one
                of which its objects are made.
            optional: those of them that an API may not have. As long as it says so, lists of the
                others are complete without them; never their own.
        """
        self._optional = frozenset(optional)
        self._not_served: set[str] = set()
        self._sources = dict(made or {})
        self._made: dict[ObjectKey, Made] = {}
        self._leading = frozenset(leading)
        self._following = frozenset(following)
        self._objects: dict[ObjectKey, _Known] = {}
        self._leads: dict[ObjectKey, _Lead] = {}
        self._followers_needs: dict[ObjectKey, frozenset[ObjectKey]] = {}
        self._joined: dict[ObjectKey, frozenset[ObjectKey]] = {}
        """Of followers, the groups that they are in."""
        self._needs: dict[NodeName, dict[ObjectKey, _Need]] = defaultdict(dict)
        self._nodes: set[NodeName] = set()
        self._let_go_at_end: list[tuple[NodeName, ObjectKey, frozenset[ObjectKey]]] = []
        self._led_by: set[str] = set()
        """The leading resources of which objects need something."""
        self._listed: set[str] = set()
        self._seen: dict[str, int] = defaultdict(int)
        """Until which revision all of a resource is known."""

    @property
    def is_complete(self) -> bool:
        """Whether every resource has been listed, so that absence means something."""
        return self.is_listed_but_for(self._optional & self._not_served)

    def is_listed_but_for(self, resources: Iterable[str]) -> bool:
        """Whether every resource has been listed, those of ``resources`` aside."""
        others = {other for _, other in self._sources.values()}
        return self._listed >= (self._leading | self._following | others).difference(resources)

    def put(
        self,
        key: ObjectKey,
        obj: JsonObject,
        revision: int,
        *,
        node: NodeName | None,
        needs: frozenset[ObjectKey],
        joins: frozenset[ObjectKey] = frozenset(),
        decided: int | None = None,
    ) -> list[Decision]:
        """Take an object's state and return what follows.

        Args:
            key: which object.
            obj: the object.
            revision: its own revision.
            node: the node that it names.
            needs: what that node needs because of it.
            joins: groups that a following object is in; who needs a group needs the object.
            decided: the revision of the list that it came in. It is later than whatever was decided
                before the list was made, here or by a predecessor; a watched change is that itself.
        """
        known = self._objects.get(key)
        is_listed = decided is not None
        if known is not None and known.revision >= revision:
            if known.revision == revision and is_listed:
                # found again in a list: what is made of it for nodes may be another by now
                self._objects[key] = _Known(obj, revision)
            return []
        if known is not None and known.object == obj and decided is None:
            # a newer revision of the same content: only what is told anew carries it
            self._objects[key] = _Known(known.object, revision)
            return []
        self._objects[key] = _Known(obj, revision)
        if decided is None:  # while a list is taken in, others of it are not known yet
            self._see(key.resource, revision)
        if key.resource in self._following:
            since = decided or revision
            self._stay_for_groups(key, joins, since)
            return [
                # first, so that nobody is told of it who is to have it no longer
                *self._leave_groups(key, joins, since, is_listed=is_listed),
                *self._put_following(key, obj, revision, needs, decided),
                *self._join_groups(key, joins, since),
            ]
        decisions = []
        old = self._leads.get(key)
        if old is not None and old.node != node:
            decisions += self._leave(key, old, revision, is_listed=is_listed)
            old = None
        if node is not None:
            self._leads[key] = _Lead(node, needs)
            if needs:
                self._led_by.add(key.resource)
            before = old.needs if old else frozenset()
            decided = decided or revision
            # what it needs goes first
            decisions += self._need(node, key, needs - before, decided)
            decisions.append(self._decide(node, key, Version(revision, revision), obj))
            decisions += self._let_go(node, key, before - needs, decided, is_listed=is_listed)
        return decisions

    def put_made(self, made: Made) -> list[Decision]:
        """Take an object that was made, or is no longer, and return what follows.

        Made anew of later revisions, with the same content, nothing follows.
        """
        before = self._made.get(made.key)
        if made.node is None or made.object is None:
            if before is None or before.node is None:
                return []
            del self._made[made.key]
            return [self._decide(before.node, made.key, max(made.version, before.version), None)]
        self._made[made.key] = made
        told = self._decide(made.node, made.key, made.version, made.object)
        if before is None or before.node is None:
            return [told]
        if before.node != made.node:
            return [self._decide(before.node, made.key, made.version, None), told]
        return [] if before.object == made.object else [told]

    def see(self, resource: str, revision: int) -> None:
        """Take that all of a resource is known until ``revision``."""
        self._see(resource, revision)

    def remove(self, key: ObjectKey, revision: int) -> list[Decision]:
        """Take that an object is gone since ``revision``, and return what follows."""
        self._see(key.resource, revision)
        if self._objects.pop(key, None) is None:
            return []
        if key.resource in self._following:
            needs = self._followers_needs.pop(key, frozenset())
            decisions = []
            for each, need in self._needing(key):
                decisions.append(self._decide(each, key, Version(need.decided, revision), None))
                decisions += self._need_no_more(each, key, needs, revision)
            left = self._leave_groups(key, frozenset(), revision, is_listed=False)
            return [*decisions, *left]
        lead = self._leads.get(key)
        return [] if lead is None else self._leave(key, lead, revision, is_listed=False)

    def missing_from(self, resource: str, listed: Iterable[ObjectKey]) -> list[ObjectKey]:
        """Return the known objects of ``resource`` that a complete list does not hold."""
        present = set(listed)
        return [key for key in self._objects if key.resource == resource and key not in present]

    def mark_listed(self, resource: str, revision: int) -> list[Decision]:
        """Take that all of ``resource`` as of ``revision`` has been put, then what is gone removed.

        Return what follows from the list as a whole.
        """
        self._not_served.discard(resource)
        self._listed.add(resource)
        self._see(resource, revision)
        let_go, self._let_go_at_end = self._let_go_at_end, []
        decisions = []
        for node, because, keys in let_go:
            decisions += self._need_no_more(node, because, keys, revision)
            if because.resource == GROUP:
                decisions += self._still_needed(node, keys)
        return decisions

    def renew(self, node: NodeName, revision: int) -> None:
        """Take that what ``node`` needs was decided by lists of ``revision`` or later.

        Whoever told of it before may have done so by such a later list as well.
        """
        for need in self._needs.get(node, {}).values():
            need.decided = max(need.decided, revision)

    def mark_not_served(self, resource: str) -> None:
        """Take that the API has no such resource now."""
        self._not_served.add(resource)

    def nodes(self) -> frozenset[NodeName]:
        """Return all nodes that something concerned."""
        return frozenset(self._nodes)

    def everything(self, node: NodeName) -> Iterator[Decision | Complete]:
        """Yield all that ``node`` should have; complete lists last, once they can be told."""
        keys: dict[str, set[ObjectKey]] = {name: set() for name in self._leading | self._following}
        for key, lead in self._leads.items():
            if lead.node == node and (known := self._objects.get(key)):
                keys[key.resource].add(key)
                version = Version(known.revision, known.revision)
                yield self._decide(node, key, version, known.object)
        for key, need in self._needs.get(node, {}).items():
            if key.resource == GROUP:
                continue
            if known := self._objects.get(key):
                keys[key.resource].add(key)
                yield self._decide(node, key, Version(need.decided, known.revision), known.object)
            elif self.is_complete:
                # gone, if it ever was; should it come, it comes to those who need it already
                keys[key.resource].add(key)
                version = Version(need.decided, self._seen[key.resource])
                yield self._decide(node, key, version, None)
        if self.is_complete:
            # what is not known yet of one may lead there what this list does not hold
            leading = self._led_by or self._leading & self._listed
            led_until = min((self._seen[each] for each in leading), default=0)
            for resource, present in keys.items():
                if resource not in self._listed:
                    continue
                seen = self._seen[resource]
                decided = led_until if resource in self._following else seen
                yield Complete(node, resource, frozenset(present), Version(decided, seen))
        yield from self._everything_made(node)

    def _everything_made(self, node: NodeName) -> Iterator[Decision | Complete]:
        keys: dict[str, set[ObjectKey]] = {name: set() for name in self._sources}
        for key, made in self._made.items():
            if made.node == node:
                keys[key.resource].add(key)
                yield self._decide(node, key, made.version, made.object)
        if self.is_complete:
            for resource, (leading, other) in self._sources.items():
                version = Version(self._seen[leading], self._seen[other])
                yield Complete(node, resource, frozenset(keys[resource]), version)

    def _see(self, resource: str, revision: int) -> None:
        self._seen[resource] = max(self._seen[resource], revision)

    def _put_following(
        self,
        key: ObjectKey,
        obj: JsonObject,
        revision: int,
        needs: frozenset[ObjectKey],
        listed: int | None,
    ) -> list[Decision]:
        """Take an object that goes where it is needed, and takes along what it needs itself."""
        decided, is_listed = listed or revision, listed is not None
        before = self._followers_needs.pop(key, frozenset())
        if needs:
            self._followers_needs[key] = needs
        decisions = []
        for each, need in self._needing(key):
            decisions += self._need(each, key, needs - before, decided)
            if need.because > self._let_go_of(each, key):
                decisions.append(self._decide(each, key, Version(need.decided, revision), obj))
            decisions += self._let_go(each, key, before - needs, decided, is_listed=is_listed)
        return decisions

    def _stay_for_groups(self, key: ObjectKey, groups: frozenset[ObjectKey], decided: int) -> None:
        """Let an object stay, as it leaves a group, at the nodes that need a group it joins.

        Told that it is gone they could not be told that it is there: both would be of one revision.
        """
        for group in groups - self._joined.get(key, frozenset()):
            for node, _ in self._needing(group):
                if key in self._needs[node]:
                    self._need(node, group, (key,), decided)

    def _leave_groups(
        self, key: ObjectKey, groups: frozenset[ObjectKey], decided: int, *, is_listed: bool
    ) -> list[Decision]:
        """Take that an object is in no other groups than these any more."""
        before = self._joined.pop(key, frozenset())
        if kept := before & groups:
            self._joined[key] = kept
        decisions = []
        one = frozenset({key})
        for group in before - groups:
            left = self._followers_needs.pop(group) - one
            if left:
                self._followers_needs[group] = left
            for node, _ in self._needing(group):
                decisions += self._let_go(node, group, one, decided, is_listed=is_listed)
        return decisions

    def _join_groups(
        self, key: ObjectKey, groups: frozenset[ObjectKey], decided: int
    ) -> list[Decision]:
        """Take that an object is in all of these groups."""
        before = self._joined.get(key, frozenset())
        if groups:
            self._joined[key] = groups
        decisions = []
        for group in groups - before:
            members = self._followers_needs.get(group, frozenset())
            self._followers_needs[group] = members | {key}
            for node, _ in self._needing(group):
                decisions += self._need(node, group, (key,), decided)
        return decisions

    def _let_go_of(self, node: NodeName, key: ObjectKey) -> set[ObjectKey]:
        """Return because of which groups ``node`` will need ``key`` no more at the end of a list.

        Told of it now, it could not be told that it is gone: both would be of one revision.
        """
        return {
            because
            for each, because, keys in self._let_go_at_end
            if each == node and key in keys and because.resource == GROUP
        }

    def _still_needed(self, node: NodeName, keys: Iterable[ObjectKey]) -> list[Decision]:
        """Tell of what was not told while it was not known whether it is needed at all."""
        return [
            self._decide(node, key, Version(need.decided, known.revision), known.object)
            for key in keys
            if (need := self._needs[node].get(key)) and (known := self._objects.get(key))
        ]

    def _needing(self, key: ObjectKey) -> list[tuple[NodeName, _Need]]:
        return [(node, needs[key]) for node, needs in self._needs.items() if key in needs]

    def _leave(
        self, key: ObjectKey, lead: _Lead, revision: int, *, is_listed: bool
    ) -> list[Decision]:
        del self._leads[key]
        return [
            self._decide(lead.node, key, Version(revision, revision), None),
            *self._let_go(lead.node, key, lead.needs, revision, is_listed=is_listed),
        ]

    def _need(
        self, node: NodeName, because: ObjectKey, keys: Iterable[ObjectKey], revision: int
    ) -> list[Decision]:
        decisions = []
        for key in keys:
            need = self._needs[node].get(key)
            if need is None:
                need = self._needs[node][key] = _Need(revision)
                own = self._followers_needs.get(key, ())
                decisions += self._need(node, key, own, revision)
                if known := self._objects.get(key):
                    version = Version(revision, known.revision)
                    decisions.append(self._decide(node, key, version, known.object))
            need.because.add(because)
        return decisions

    def _let_go(
        self,
        node: NodeName,
        because: ObjectKey,
        keys: frozenset[ObjectKey],
        revision: int,
        *,
        is_listed: bool,
    ) -> list[Decision]:
        """Take that ``because`` needs ``keys`` no more; while a list is taken in, at its end.

        Another of the list may need the same now, by a decision of the same revision.
        """
        if is_listed:
            self._let_go_at_end.append((node, because, keys))
            return []
        return self._need_no_more(node, because, keys, revision)

    def _need_no_more(
        self, node: NodeName, because: ObjectKey, keys: Iterable[ObjectKey], revision: int
    ) -> list[Decision]:
        decisions = []
        for key in keys:
            need = self._needs[node].get(key)
            if need is None:
                continue
            need.because.discard(because)
            if not need.because:
                del self._needs[node][key]
                own = self._followers_needs.get(key, ())
                decisions += self._need_no_more(node, key, own, revision)
                if key.resource == GROUP:
                    continue
                known = self._objects.get(key)
                version = Version(revision, known.revision if known else revision)
                decisions.append(self._decide(node, key, version, None))
        return decisions

    def _decide(
        self, node: NodeName, key: ObjectKey, version: Version, obj: JsonObject | None
    ) -> Decision:
        self._nodes.add(node)
        return Decision(node, Change(key=key, version=version, object=obj))
