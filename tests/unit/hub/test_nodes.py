"""Hub's domain: what is sent, when, and what is never believed."""

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest
from typing_extensions import override

from fedge_fabric import Envelope, InvalidError, UnavailableError, UnroutableError
from fedge_hub.domain import Nodes
from fedge_hub.ports import Applied, Clock, CloudLink, Downlink, NoSealingKeyError, WantedStore
from fedge_objects import Change, NodeName, ObjectKey, Version, VersionTree
from tests.contract.wanted_store import (
    NODE,
    OTHER,
    MemoryWantedStore,
    WantedStoreContract,
    change,
)

KEY = ObjectKey("pods", "d", "a")


class TestMemoryWantedStore(WantedStoreContract):
    """The store of these tests keeps the same promises as Redis does."""

    @pytest.fixture
    def store(self) -> WantedStore:
        return MemoryWantedStore()


@dataclass
class World(Downlink, CloudLink, Clock):
    """Everything around hub: a node that stores what reaches it, the cloud's services, time."""

    time: float = 1000.0
    sent: list[Change] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    linked: bool = True
    broken: bool = False
    keyless: bool = False

    @override
    async def send(self, node: NodeName, change: Change) -> None:
        if self.broken:
            raise UnavailableError("the broker is away")
        if not self.linked:
            raise UnroutableError("never linked")
        if self.keyless and change.key.resource == "secrets":
            raise NoSealingKeyError("no key")
        self.sent.append(change)

    @override
    async def ask_digest(self, node: NodeName, prefixes: Collection[str]) -> None:
        if not self.linked:
            raise UnroutableError("never linked")
        self.asked.append("digest " + " ".join(sorted(prefixes)))

    @override
    async def ask_statuses(self, node: NodeName) -> None:
        if not self.linked:
            raise UnroutableError("never linked")
        self.asked.append("statuses")

    @override
    async def say_heard(self, node: NodeName, heartbeat_id: str) -> None:
        if not self.linked:
            raise UnroutableError("never linked")
        self.asked.append(f"heard {heartbeat_id}")

    @override
    async def waiting(self, node: NodeName) -> int | None:
        return len(self.sent)

    @override
    async def pass_on(self, routing_key: str, envelope: Envelope) -> None:
        self.asked.append(routing_key)

    @override
    async def refuse_write(
        self, node: NodeName, write_id: str, code: int, reason: str, message: str
    ) -> None:
        self.asked.append(f"refused {write_id} {code} {reason}")

    @override
    async def ask_resync(self, node: NodeName) -> None:
        self.asked.append("resync")

    @override
    def now(self) -> float:
        return self.time


@dataclass
class Hub:
    world: World
    store: MemoryWantedStore
    nodes: Nodes

    async def arrives(self, **has: Version) -> None:
        """Have the node say that it is alive, and what it has."""
        await self.nodes.heard(NODE, 10)
        await self.tells(**has)

    async def tells(self, **has: Version) -> None:
        """Have the node tell what it has, as it does when hub and it differ."""
        versions = {ObjectKey("pods", "d", name): each for name, each in has.items()}
        await self.nodes.compare(NODE, {}, {"": versions})


@pytest.fixture
def hub() -> Hub:
    world, store = World(), MemoryWantedStore()
    nodes = Nodes(store=store, down=world, cloud=world, clock=world, absent_after_heartbeats=3)
    return Hub(world, store, nodes)


async def test_present_node_is_sent_a_change_at_once_and_only_once(hub: Hub) -> None:
    await hub.arrives()
    await hub.nodes.want(NODE, change("a", 5, 5))
    await hub.nodes.want(NODE, change("a", 5, 5))
    assert hub.world.sent == [change("a", 5, 5)]


async def test_secret_of_a_node_without_a_key_waits_and_holds_up_nothing_else(hub: Hub) -> None:
    secret = Change(
        key=ObjectKey("secrets", "d", "a"), version=Version(5, 5), object={"metadata": {}}
    )
    hub.world.keyless = True
    await hub.arrives()
    hub.world.time += 31
    await hub.nodes.want(NODE, secret)
    await hub.nodes.want(NODE, change("b", 6, 6))
    await hub.arrives()
    assert hub.world.sent == [change("b", 6, 6)]
    hub.world.keyless = False  # it joined again
    hub.world.time += 31
    await hub.arrives(b=Version(6, 6))
    assert hub.world.sent == [change("b", 6, 6), secret]


async def test_absent_node_is_sent_one_message_per_object_when_it_is_back(hub: Hub) -> None:
    await hub.arrives()
    hub.world.time += 31
    for revision in range(1, 101):
        for name in "abc":
            await hub.nodes.want(NODE, change(name, revision, revision))
    assert hub.world.sent == []
    await hub.arrives()
    assert sorted(each.key.name for each in hub.world.sent) == ["a", "b", "c"]
    assert {each.version for each in hub.world.sent} == {Version(100, 100)}
    assert hub.world.asked.count("digest ") == 4


async def test_node_that_is_back_is_sent_nothing_before_it_has_said_what_it_has(hub: Hub) -> None:
    await hub.arrives()
    await hub.nodes.want(NODE, change("a", 5, 5))
    await hub.nodes.stored(NODE, KEY, Version(5, 5))
    hub.world.time += 31
    await hub.nodes.want(NODE, change("a", 6, 6))
    hub.world.sent.clear()
    await hub.nodes.heard(NODE, 10)
    await hub.nodes.want(NODE, change("b", 7, 7))
    hub.world.time += 10
    await hub.nodes.heard(NODE, 10)
    assert hub.world.sent == []
    await hub.tells(a=Version(5, 5))
    assert [each.key.name for each in hub.world.sent] == ["a", "b"]
    await hub.nodes.heard(NODE, 10)
    assert len(hub.world.sent) == 2


async def test_what_a_node_told_unasked_before_it_was_back_has_nothing_sent_twice(hub: Hub) -> None:
    await hub.arrives(a=Version(5, 5))
    hub.world.time += 31
    await hub.nodes.want(NODE, change("a", 6, 6))
    hub.world.asked.clear()
    waited = {"": VersionTree({str(KEY): "5.5"}).hash()}
    await hub.nodes.compare(NODE, waited, {})
    await hub.nodes.heard(NODE, 10)
    await hub.nodes.compare(NODE, waited, {})
    assert (hub.world.sent, hub.world.asked) == ([], ["digest ", "statuses"])
    await hub.tells(a=Version(5, 5))
    assert [each.version for each in hub.world.sent] == [Version(6, 6)]


async def test_node_that_is_back_and_does_not_say_what_it_has_is_sent_what_it_was_not(
    hub: Hub,
) -> None:
    await hub.arrives()
    await hub.nodes.want(NODE, change("a", 5, 5))
    hub.world.time += 1000
    await hub.nodes.want(NODE, change("b", 6, 6))
    hub.world.sent.clear()
    for _ in range(4):
        await hub.nodes.heard(NODE, 10)
        assert hub.world.sent == []
        hub.world.time += 10
    await hub.nodes.heard(NODE, 10)
    assert [each.key.name for each in hub.world.sent] == ["b"]
    assert await hub.nodes.is_present(NODE)


async def test_new_node_has_everything_told_again(hub: Hub) -> None:
    await hub.nodes.heard(NODE, 10)
    assert hub.world.asked == ["resync", "digest ", "statuses"]
    await hub.nodes.heard(NODE, 10)
    assert hub.world.asked == ["resync", "digest ", "statuses"]


async def test_flushed_store_has_everything_told_again_and_only_the_difference_sent(
    hub: Hub,
) -> None:
    await hub.arrives()
    for name in "abc":
        await hub.nodes.want(NODE, change(name, 5, 5))
    hub.store.flush()
    hub.world.sent.clear()
    await hub.nodes.heard(NODE, 10)
    assert hub.world.asked.count("resync") == 2
    for name in "abcd":
        await hub.nodes.want(NODE, change(name, 5, 5))
    assert hub.world.sent == []
    await hub.tells(a=Version(5, 5), b=Version(4, 4), c=Version(5, 5))
    assert [each.key.name for each in hub.world.sent] == ["b", "d"]


async def test_node_that_does_not_say_what_it_has_is_sent_everything_in_the_end(hub: Hub) -> None:
    await hub.nodes.heard(NODE, 10)
    await hub.nodes.want(NODE, change("a", 5, 5))
    for _ in range(4):
        hub.world.time += 10
        await hub.nodes.heard(NODE, 10)
    assert [each.key.name for each in hub.world.sent] == ["a"]
    assert await hub.nodes.is_present(NODE)


async def test_node_that_cannot_be_reached_yet_does_not_count_as_present(hub: Hub) -> None:
    hub.world.linked = False
    await hub.nodes.heard(NODE, 10)
    assert not await hub.nodes.is_present(NODE)
    hub.world.linked = True
    await hub.arrives()
    assert await hub.nodes.is_present(NODE)


async def test_node_that_wants_an_answer_has_one_if_anything_reaches_it(hub: Hub) -> None:
    await hub.nodes.answer(NODE, "1")
    hub.world.linked = False
    await hub.nodes.answer(NODE, "2")
    assert hub.world.asked == ["heard 1"]


async def test_clock_that_was_set_back_leaves_no_node_present_for_ever(hub: Hub) -> None:
    await hub.arrives()
    hub.world.time -= 3600
    assert not await hub.nodes.is_present(NODE)
    await hub.arrives()
    assert await hub.nodes.is_present(NODE)


async def test_equal_hash_ends_the_comparison_and_a_different_one_goes_down_the_tree(
    hub: Hub,
) -> None:
    await hub.arrives(a=Version(5, 5))
    hub.world.asked.clear()
    tree = VersionTree({str(KEY): "5.5"})
    await hub.nodes.compare(NODE, {"": tree.hash()}, {})
    assert hub.world.asked == ["digest "]
    other = VersionTree({str(KEY): "6.6"})
    await hub.nodes.compare(NODE, {"": other.hash()}, {})
    assert hub.world.asked[-1] == "digest "
    assert len(hub.world.asked) == 2
    await hub.nodes.compare(NODE, other.hashes(""), {})
    [branch] = [each for each in other.hashes("") if other.versions(each)]
    assert hub.world.asked[-1] == f"digest {branch}"


async def test_what_a_node_lost_from_a_branch_is_sent_again_and_no_more(hub: Hub) -> None:
    names = [f"p{number}" for number in range(50)]
    await hub.arrives()
    for name in names:
        await hub.nodes.want(NODE, change(name, 5, 5))
    has = {ObjectKey("pods", "d", name): Version(5, 5) for name in names}
    tree = VersionTree({str(key): str(version) for key, version in has.items()})
    await hub.nodes.compare(NODE, {}, {"": has})
    hub.world.sent.clear()
    branch = max(tree.hashes(""), key=lambda each: len(tree.versions(each)))
    lost, *kept = sorted(tree.versions(branch))
    await hub.nodes.compare(NODE, {}, {branch: {ObjectKey.parse(k): Version(5, 5) for k in kept}})
    assert [str(each.key) for each in hub.world.sent] == [lost]


async def test_a_node_is_asked_again_what_became_of_what_it_has_until_that_is_known(
    hub: Hub,
) -> None:
    await hub.arrives()
    await hub.nodes.want(NODE, change("a", 5, 5))
    tree = VersionTree({str(KEY): "5.5"})
    applied = Applied(version=Version(5, 5))
    await hub.nodes.compare(NODE, {}, {"": {KEY: Version(5, 5)}})
    await hub.nodes.applied(NODE, {KEY: applied})
    await hub.nodes.compare(NODE, {}, {"": {}})  # an answer of before it was stored comes late
    hub.world.asked.clear()
    await hub.nodes.compare(NODE, {}, {"": {KEY: Version(5, 5)}})
    await hub.nodes.compare(NODE, {"": tree.hash()}, {})
    assert "statuses" in hub.world.asked
    await hub.nodes.applied(NODE, {KEY: applied})
    hub.world.asked.clear()
    await hub.nodes.compare(NODE, {"": tree.hash()}, {})
    assert "statuses" not in hub.world.asked
    assert (await hub.store.wanted(NODE))[KEY].applied == applied


async def test_only_what_a_node_should_have_can_be_applied(hub: Hub) -> None:
    await hub.arrives()
    await hub.nodes.want(NODE, change("a", 5, 5))
    applied = Applied(version=Version(5, 5))
    await hub.nodes.applied(NODE, {KEY: applied, ObjectKey("pods", "d", "x"): applied})
    assert (await hub.store.wanted(NODE))[KEY].applied == applied
    assert set(await hub.store.wanted(NODE)) == {KEY}


async def test_change_is_owed_when_the_broker_fails_after_it_was_kept(hub: Hub) -> None:
    await hub.arrives()
    hub.world.broken = True
    with pytest.raises(UnavailableError):
        await hub.nodes.want(NODE, change("a", 5, 5))
    hub.world.broken = False
    await hub.nodes.want(NODE, change("a", 5, 5))  # the message comes again
    assert hub.world.sent == [change("a", 5, 5)]


async def test_complete_list_ends_what_it_lacks_and_leaves_what_is_newer(hub: Hub) -> None:
    await hub.arrives()
    await hub.nodes.want(NODE, change("gone", 5, 5))
    await hub.nodes.want(NODE, change("kept", 6, 6))
    await hub.nodes.want(NODE, change("newer", 20, 20))
    hub.world.sent.clear()
    await hub.nodes.listed(NODE, "pods", {ObjectKey("pods", "d", "kept")}, Version(10, 10))
    [tombstone] = hub.world.sent
    assert (tombstone.key.name, tombstone.is_gone) == ("gone", True)
    assert tombstone.version == Version(10, 10)


async def test_node_that_lacks_objects_is_sent_them(hub: Hub) -> None:
    await hub.arrives()
    for name in "ab":
        await hub.nodes.want(NODE, change(name, 5, 5))
    hub.world.sent.clear()
    await hub.tells(a=Version(5, 5))
    assert [each.key.name for each in hub.world.sent] == ["b"]
    stored = (await hub.store.wanted(NODE))[KEY].stored
    assert stored == Version(5, 5)


async def test_unknown_object_of_a_node_is_ended_only_with_a_later_list_as_proof(hub: Hub) -> None:
    await hub.arrives()
    await hub.tells(a=Version(5, 5))
    assert hub.world.sent == []
    await hub.nodes.listed(NODE, "pods", set(), Version(4, 4))
    await hub.tells(a=Version(5, 5))
    assert hub.world.sent == []
    await hub.nodes.listed(NODE, "pods", set(), Version(9, 9))
    await hub.tells(a=Version(5, 5))
    assert [(each.key, each.is_gone) for each in hub.world.sent] == [(KEY, True)]


async def test_list_that_overtakes_its_objects_ends_none_of_them(hub: Hub) -> None:
    await hub.arrives()
    with pytest.raises(UnavailableError, match="did not come yet"):
        await hub.nodes.listed(NODE, "pods", {KEY}, Version(9, 9))
    await hub.tells(a=Version(5, 5))
    assert hub.world.sent == []
    await hub.nodes.want(NODE, change("a", 9, 5))
    await hub.nodes.listed(NODE, "pods", {KEY}, Version(9, 9))
    await hub.tells(a=Version(5, 5))
    assert not any(each.is_gone for each in hub.world.sent)


async def test_list_ends_nothing_that_changed_after_it(hub: Hub) -> None:
    await hub.arrives()
    await hub.nodes.want(NODE, change("a", 5, 20))
    hub.world.sent.clear()
    await hub.nodes.listed(NODE, "pods", set(), Version(9, 10))
    assert hub.world.sent == []


async def test_list_older_than_one_that_was_taken_is_over(hub: Hub) -> None:
    await hub.nodes.listed(NODE, "pods", set(), Version(9, 9))
    await hub.nodes.listed(NODE, "pods", {KEY}, Version(8, 8))
    assert await hub.store.listed(NODE) == {"pods": Version(9, 9)}


async def test_node_may_report_about_its_own_objects_only(hub: Hub) -> None:
    await hub.nodes.want(NODE, change("a", 5, 5))
    await hub.nodes.listed(NODE, "pods", {KEY}, Version(6, 6))
    await hub.nodes.listed(OTHER, "pods", set(), Version(6, 6))
    await hub.nodes.check_speaks_for_itself(NODE, KEY)
    await hub.nodes.check_speaks_for_itself(NODE, ObjectKey("nodes", "", NODE))
    with pytest.raises(InvalidError, match="not its own"):
        await hub.nodes.check_speaks_for_itself(OTHER, KEY)
    with pytest.raises(InvalidError, match="reports about node"):
        await hub.nodes.check_speaks_for_itself(OTHER, ObjectKey("nodes", "", NODE))


async def test_report_waits_while_it_is_not_known_what_the_node_should_have(hub: Hub) -> None:
    with pytest.raises(UnavailableError, match="not known yet"):
        await hub.nodes.check_speaks_for_itself(NODE, KEY)


async def test_report_of_what_nobody_tells_of_is_refused_in_the_end_and_asked_for_later(
    hub: Hub,
) -> None:
    lease = ObjectKey("leases", "kube-node-lease", "another")
    for wait in (120, 1):
        with pytest.raises(UnavailableError, match="not known yet"):
            await hub.nodes.check_speaks_for_itself(NODE, lease)
        hub.world.time += wait
    with pytest.raises(InvalidError, match="no service has told of its leases"):
        await hub.nodes.check_speaks_for_itself(NODE, lease)
    await hub.nodes.listed(NODE, "leases", set(), Version(6, 6))
    await hub.nodes.listed(NODE, "leases", set(), Version(7, 7))
    assert hub.world.asked == ["statuses"]


async def test_what_one_hub_refused_is_asked_for_once_another_was_told_of_it(hub: Hub) -> None:
    other = Nodes(
        store=hub.store,
        down=hub.world,
        cloud=hub.world,
        clock=hub.world,
        absent_after_heartbeats=3,
    )
    lease = ObjectKey("leases", "d", "a")
    await hub.arrives()
    with pytest.raises(UnavailableError):
        await hub.nodes.check_speaks_for_itself(NODE, lease)
    hub.world.asked.clear()
    await hub.nodes.heard(NODE, 10)
    assert hub.world.asked == []
    await other.listed(NODE, "leases", set(), Version(6, 6))
    for _ in range(2):
        await hub.nodes.heard(NODE, 10)
        assert hub.world.asked == ["statuses"]


async def test_statuses_are_asked_of_a_node_that_is_there(hub: Hub) -> None:
    await hub.nodes.ask_statuses(NODE)
    assert hub.world.asked == []
    await hub.arrives()
    hub.world.asked.clear()
    await hub.nodes.ask_statuses(NODE)
    assert hub.world.asked == ["statuses"]
    hub.world.time += 31
    await hub.nodes.ask_statuses(NODE)
    assert hub.world.asked == ["statuses"]
    hub.world.time -= 31
    hub.world.linked = False
    await hub.nodes.ask_statuses(NODE)


async def test_node_that_has_the_same_content_in_an_older_version_lacks_nothing(hub: Hub) -> None:
    await hub.arrives()
    await hub.nodes.want(NODE, change("a", 5, 5, content=1))
    await hub.nodes.want(NODE, change("a", 90, 90, content=1))
    hub.world.sent.clear()
    await hub.tells(a=Version(5, 5))
    assert hub.world.sent == []
