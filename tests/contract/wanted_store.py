"""What every ``WantedStore`` promises, and one in memory for unit tests that keeps it."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from typing_extensions import override

from fedge_fabric.streams import Ledger
from fedge_hub.ports import Applied, Sighting, Wanted, WantedStore
from fedge_objects import Change, NodeName, ObjectKey, Version

NODE, OTHER = NodeName("gw-1.plant.example"), NodeName("gw-2")


def change(
    name: str, decided: int, revision: int, *, gone: bool = False, content: int = 0
) -> Change:
    return Change(
        key=ObjectKey("pods", "d", name),
        version=Version(decided, revision),
        object=None if gone else {"metadata": {"name": name}, "content": content or revision},
        traceparent=f"00-{decided:032x}-{revision:016x}-01",
    )


class WantedStoreContract:
    """Inherited by the tests of each implementation, which give a fixture ``store``."""

    async def test_wanted_object_is_unsent_until_marked(self, store: WantedStore) -> None:
        wanted = change("a", 5, 5)
        await store.want(NODE, wanted)
        assert await store.unsent(NODE) == [wanted]
        assert await store.unsent(NODE, [wanted.key]) == [wanted]
        assert await store.unsent(NODE, [ObjectKey("pods", "d", "b")]) == []
        assert await store.unsent(OTHER) == []
        await store.mark_sent(NODE, wanted)
        assert await store.unsent(NODE) == []

    async def test_older_version_and_repeat_change_nothing(self, store: WantedStore) -> None:
        newest = change("a", 6, 4)
        await store.want(NODE, newest)
        await store.want(NODE, change("a", 5, 9))
        await store.want(NODE, newest)
        assert await store.unsent(NODE) == [newest]

    async def test_many_changes_are_owed_as_one(self, store: WantedStore) -> None:
        for revision in range(1, 51):
            await store.want(NODE, change("a", 1, revision))
        assert await store.unsent(NODE) == [change("a", 1, 50)]

    async def test_tombstone_is_owed_like_an_object(self, store: WantedStore) -> None:
        await store.want(NODE, change("a", 5, 5))
        await store.mark_sent(NODE, change("a", 5, 5))
        await store.want(NODE, change("a", 6, 5, gone=True))
        [owed] = await store.unsent(NODE)
        assert owed.is_gone
        assert owed.version == Version(6, 5)
        await store.mark_sent(NODE, owed)
        await store.want(NODE, change("a", 7, 5))
        assert [each.is_gone for each in await store.unsent(NODE)] == [False]

    async def test_later_decision_about_the_same_object_sends_nothing(
        self, store: WantedStore
    ) -> None:
        await store.want(NODE, change("a", 5, 5))
        await store.mark_sent(NODE, change("a", 5, 5))
        await store.want(NODE, change("a", 9, 5))
        assert await store.unsent(NODE) == []
        await store.want(NODE, change("a", 8, 5, gone=True))
        assert await store.unsent(NODE) == []
        assert (await store.wanted(NODE))[ObjectKey("pods", "d", "a")].version == Version(9, 5)

    async def test_later_decision_about_what_was_not_sent_is_still_owed(
        self, store: WantedStore
    ) -> None:
        await store.want(NODE, change("a", 5, 5))
        await store.want(NODE, change("a", 9, 5))
        assert [each.version for each in await store.unsent(NODE)] == [Version(9, 5)]

    async def test_later_revision_of_the_same_content_sends_nothing(
        self, store: WantedStore
    ) -> None:
        await store.want(NODE, change("a", 5, 5, content=1))
        await store.mark_sent(NODE, change("a", 5, 5, content=1))
        await store.want(NODE, change("a", 9, 9, content=1))
        assert await store.unsent(NODE) == []
        wanted = (await store.wanted(NODE))[ObjectKey("pods", "d", "a")]
        assert (wanted.version, wanted.since) == (Version(9, 9), Version(5, 5))
        await store.want(NODE, change("a", 10, 10, content=2))
        assert [each.version for each in await store.unsent(NODE)] == [Version(10, 10)]

    async def test_what_is_kept_can_be_asked_for_by_key(self, store: WantedStore) -> None:
        for name in "ab":
            await store.want(NODE, change(name, 5, 5))
        key = ObjectKey("pods", "d", "a")
        assert set(await store.wanted(NODE, [key])) == {key}
        assert await store.wanted(NODE, [ObjectKey("pods", "d", "c")]) == {}

    async def test_note_of_an_older_sending_replaces_no_newer(self, store: WantedStore) -> None:
        await store.want(NODE, change("a", 7, 7))
        await store.mark_sent(NODE, change("a", 7, 7))
        await store.mark_sent(NODE, change("a", 5, 5))
        assert await store.unsent(NODE) == []

    async def test_forgotten_sending_is_owed_again(self, store: WantedStore) -> None:
        sent = change("a", 5, 5)
        await store.want(NODE, sent)
        await store.mark_sent(NODE, sent)
        await store.forget_sent(NODE, [])
        assert await store.unsent(NODE) == []
        await store.forget_sent(NODE, [sent.key])
        assert await store.unsent(NODE) == [sent]

    async def test_what_is_kept_shows_sent_and_stored(self, store: WantedStore) -> None:
        wanted = change("a", 5, 5)
        await store.want(NODE, wanted)
        await store.mark_sent(NODE, wanted)
        await store.mark_stored(NODE, wanted.key, wanted.version)
        await store.mark_stored(NODE, wanted.key, Version(4, 4))
        assert await store.wanted(NODE) == {
            wanted.key: Wanted(
                version=Version(5, 5),
                since=Version(5, 5),
                gone=False,
                sent=Version(5, 5),
                stored=Version(5, 5),
            )
        }

    async def test_newest_list_counts(self, store: WantedStore) -> None:
        await store.mark_listed(NODE, "pods", Version(7, 9))
        await store.mark_listed(NODE, "pods", Version(5, 8))
        assert await store.listed(NODE) == {"pods": Version(7, 9)}
        assert await store.listed(OTHER) == {}

    async def test_sighting_is_kept(self, store: WantedStore) -> None:
        assert await store.last_seen(NODE) is None
        await store.mark_seen(NODE, Sighting(at=12.5, interval_seconds=2.0))
        assert await store.last_seen(NODE) == Sighting(at=12.5, interval_seconds=2.0)
        told = Sighting(at=14.5, interval_seconds=2.0, backlog={"event": 7})
        await store.mark_seen(NODE, told)
        assert await store.last_seen(NODE) == told
        assert await store.first_seen(NODE) == 12.5
        assert await store.first_seen(OTHER) is None

    async def test_node_stays_settled_until_it_is_asked_anew(self, store: WantedStore) -> None:
        heard = Sighting(at=12.5, interval_seconds=2.0)
        await store.mark_asked(NODE, 12.0)
        await store.mark_seen(NODE, heard)
        assert await store.last_seen(NODE) == replace(heard, asked_at=12.0)
        await store.mark_settled(NODE)
        await store.mark_seen(NODE, heard)
        assert await store.last_seen(NODE) == replace(heard, settled=True)
        await store.mark_asked(NODE, 13.0)
        await store.mark_seen(NODE, heard)
        assert await store.last_seen(NODE) == replace(heard, asked_at=13.0)

    async def test_what_a_node_has_replaces_what_was_believed(self, store: WantedStore) -> None:
        a, b, c = (ObjectKey("pods", "d", name) for name in "abc")
        await store.mark_stored(NODE, a, Version(9, 9))
        await store.mark_stored(NODE, b, Version(9, 9))
        await store.want(NODE, change("a", 9, 9))
        await store.want(NODE, change("b", 9, 9))
        for name in "ab":
            await store.mark_sent(NODE, change(name, 9, 9))
        await store.replace_stored(NODE, {a: Version(5, 5), c: Version(1, 1)}, [b])
        assert await store.stored(NODE) == {a: Version(5, 5), c: Version(1, 1)}
        assert {each.key for each in await store.unsent(NODE)} == {a, b}
        await store.replace_stored(NODE, {a: Version(9, 9)}, [])
        assert {each.key for each in await store.unsent(NODE)} == {b}

    async def test_last_word_of_an_effect_counts(self, store: WantedStore) -> None:
        key = ObjectKey("pods", "d", "a")
        await store.want(NODE, change("a", 9, 9))
        failed = Applied(version=Version(9, 9), failed=True, reason="ErrImagePull: no such image")
        for each in (failed, Applied(version=Version(9, 9)), failed):
            await store.mark_applied(NODE, {key: each})
            assert (await store.wanted(NODE))[key].applied == each
        await store.mark_applied(NODE, {})

    async def test_ledgers_are_kept_by_stream(self, store: WantedStore) -> None:
        assert await store.ledgers(NODE) == {}
        one = Ledger(next=9, holes=[[2, 3], [5, 7]], lost=4, floor=1, received=2, repeated=3)
        await store.keep_ledgers(NODE, {"s1": one, "s2": Ledger(next=1)})
        assert await store.ledgers(NODE) == {"s1": one, "s2": Ledger(next=1)}
        await store.keep_ledgers(NODE, {"s3": Ledger()}, ["s1"])
        assert set(await store.ledgers(NODE)) == {"s2", "s3"}
        await store.keep_ledgers(NODE, {})


class MemoryWantedStore(WantedStore):
    """Keeps what the contract says, in dictionaries."""

    def __init__(self) -> None:
        self._wanted: dict[NodeName, dict[ObjectKey, Change]] = {}
        self._since: dict[NodeName, dict[ObjectKey, Version]] = {}
        self._sent: dict[NodeName, dict[ObjectKey, Version]] = {}
        self._stored: dict[NodeName, dict[ObjectKey, Version]] = {}
        self._listed: dict[NodeName, dict[str, Version]] = {}
        self._applied: dict[NodeName, dict[ObjectKey, Applied]] = {}
        self._seen: dict[NodeName, Sighting] = {}
        self._first: dict[NodeName, float] = {}
        self._asked: dict[NodeName, float | None] = {}
        """When a node was asked; None: it is settled."""
        self._ledgers: dict[NodeName, dict[str, Ledger]] = {}

    def flush(self) -> None:
        """Lose everything."""
        for each in vars(self).values():
            each.clear()

    @override
    async def want(self, node: NodeName, change: Change) -> None:
        wanted, since = self._wanted.setdefault(node, {}), self._since.setdefault(node, {})
        old = wanted.get(change.key)
        if old is not None and old.version >= change.version:
            return
        if old is None or change.is_gone or old.object != change.object:
            since[change.key] = change.version
        wanted[change.key] = change

    @override
    async def unsent(
        self, node: NodeName, keys: Collection[ObjectKey] | None = None
    ) -> list[Change]:
        sent, since = self._sent.get(node, {}), self._since.get(node, {})
        return [
            each
            for key, each in self._wanted.get(node, {}).items()
            if (keys is None or key in keys) and (key not in sent or sent[key] < since[key])
        ]

    @override
    async def mark_sent(self, node: NodeName, change: Change) -> None:
        sent = self._sent.setdefault(node, {})
        sent[change.key] = max(change.version, sent.get(change.key, change.version))

    @override
    async def mark_stored(self, node: NodeName, key: ObjectKey, version: Version) -> None:
        stored = self._stored.setdefault(node, {})
        stored[key] = max(version, stored.get(key, version))

    @override
    async def stored(self, node: NodeName) -> Mapping[ObjectKey, Version]:
        return dict(self._stored.get(node, {}))

    @override
    async def replace_stored(
        self, node: NodeName, has: Mapping[ObjectKey, Version], lost: Collection[ObjectKey]
    ) -> None:
        for kept in (self._stored.setdefault(node, {}), self._sent.setdefault(node, {})):
            kept.update(has)
            for key in lost:
                kept.pop(key, None)
        for key in lost:
            self._applied.get(node, {}).pop(key, None)

    @override
    async def mark_applied(self, node: NodeName, applied: Mapping[ObjectKey, Applied]) -> None:
        self._applied.setdefault(node, {}).update(applied)

    @override
    async def forget_sent(self, node: NodeName, keys: Collection[ObjectKey]) -> None:
        for key in keys:
            self._sent.get(node, {}).pop(key, None)

    @override
    async def wanted(
        self, node: NodeName, keys: Collection[ObjectKey] | None = None
    ) -> Mapping[ObjectKey, Wanted]:
        sent, stored = self._sent.get(node, {}), self._stored.get(node, {})
        return {
            key: Wanted(
                version=each.version,
                since=self._since[node][key],
                gone=each.is_gone,
                sent=sent.get(key),
                stored=stored.get(key),
                applied=self._applied.get(node, {}).get(key),
            )
            for key, each in self._wanted.get(node, {}).items()
            if keys is None or key in keys
        }

    @override
    async def mark_listed(self, node: NodeName, resource: str, version: Version) -> None:
        listed = self._listed.setdefault(node, {})
        listed[resource] = max(version, listed.get(resource, version))

    @override
    async def listed(self, node: NodeName) -> Mapping[str, Version]:
        return dict(self._listed.get(node, {}))

    @override
    async def mark_seen(self, node: NodeName, sighting: Sighting) -> None:
        self._seen[node] = sighting
        self._first.setdefault(node, sighting.at)

    @override
    async def mark_asked(self, node: NodeName, at: float) -> None:
        self._asked[node] = at

    @override
    async def mark_settled(self, node: NodeName) -> None:
        self._asked[node] = None

    @override
    async def last_seen(self, node: NodeName) -> Sighting | None:
        seen, asked = self._seen.get(node), self._asked.get(node)
        return seen and replace(seen, settled=node in self._asked and asked is None, asked_at=asked)

    @override
    async def first_seen(self, node: NodeName) -> float | None:
        return self._first.get(node)

    @override
    async def ledgers(self, node: NodeName) -> Mapping[str, Ledger]:
        kept = self._ledgers.get(node, {})
        return {stream: Ledger.parse(each.as_text()) for stream, each in kept.items()}

    @override
    async def keep_ledgers(
        self, node: NodeName, ledgers: Mapping[str, Ledger], dropped: Collection[str] = ()
    ) -> None:
        kept = self._ledgers.setdefault(node, {})
        kept.update({stream: Ledger.parse(each.as_text()) for stream, each in ledgers.items()})
        for stream in dropped:
            kept.pop(stream, None)
