"""Placement: whatever happens in the cluster, each node ends with exactly what concerns it."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fedge_dispatch import Complete, Decision, Placement, group_key
from fedge_objects import Change, JsonObject, NodeName, ObjectKey, Version, references

LEADING, FOLLOWING = ("pods",), ("configmaps",)
NODES = (NodeName("a"), NodeName("b"))
PODS = ("p", "q")
MAPS = ("m", "n")
GROUPS = ("x", "y")
Names = frozenset[str]


def pod(
    name: str, node: str | None, needs: Names, revision: int, groups: Names = frozenset()
) -> JsonObject:
    return {
        "metadata": {"name": name, "namespace": "d", "resourceVersion": str(revision)},
        "spec": {
            "nodeName": node,
            "serviceAccountName": "none",
            "volumes": [{"name": each, "configMap": {"name": each}} for each in sorted(needs)],
            "containers": [],
            "groups": sorted(groups),
        },
    }


def config_map(name: str, revision: int, groups: Names = frozenset()) -> JsonObject:
    metadata = {"name": name, "namespace": "d", "resourceVersion": str(revision)}
    return {"metadata": metadata, "groups": sorted(groups)}


def keys_of(groups: list[str]) -> frozenset[ObjectKey]:
    return frozenset(group_key("test", each) for each in groups)


def put(placement: Placement, obj: JsonObject, *, decided: int | None = None) -> list[Decision]:
    kind = "pods" if "spec" in obj else "configmaps"
    key = ObjectKey(kind, "d", obj["metadata"]["name"])
    node = obj["spec"]["nodeName"] if kind == "pods" else None
    needs = (
        frozenset(each for each in references(obj) if each.resource == "configmaps")
        | keys_of(obj["spec"]["groups"])
        if kind == "pods"
        else frozenset()
    )
    revision = int(obj["metadata"]["resourceVersion"])
    return placement.put(
        key,
        obj,
        revision,
        node=NodeName(node) if node else None,
        needs=needs,
        joins=keys_of(obj.get("groups") or []),
        decided=decided,
    )


@dataclass
class Holder:
    """What one node would hold: newest version wins, a complete list removes what it lacks."""

    held: dict[ObjectKey, Change] = field(default_factory=dict)

    def take(self, news: Decision | Complete) -> None:
        if isinstance(news, Decision):
            self._take(news.change)
            return
        for key, change in list(self.held.items()):
            if (
                key.resource == news.resource
                and key not in news.keys
                and change.version.decided <= news.version.decided
                and change.version.revision <= news.version.revision
            ):
                self._take(Change(key=key, version=news.version, object=None))

    def _take(self, change: Change) -> None:
        known = self.held.get(change.key)
        if known is None or change.version > known.version:
            self.held[change.key] = change

    def present(self) -> dict[ObjectKey, JsonObject]:
        return {key: each.object for key, each in self.held.items() if each.object is not None}


class Cluster(RuleBasedStateMachine):
    """A cluster that changes, one controller that is restarted now and then, late messages."""

    def __init__(self) -> None:
        super().__init__()
        self.revision = 10
        self.objects: dict[tuple[str, str], JsonObject] = {}
        self.holders = {node: Holder() for node in NODES}
        self.late: list[Decision | Complete] = []
        self.start()

    def start(self) -> None:
        self.placement = Placement(LEADING, FOLLOWING)
        for kind in ("configmaps", "pods"):
            for (of, _), obj in self.objects.items():
                if of == kind:
                    self.tell(put(self.placement, obj, decided=self.revision))
            self.placement.mark_listed(kind, self.revision)
        for node in NODES:
            self.tell(list(self.placement.everything(node)))

    def tell(self, news: list[Decision] | list[Decision | Complete]) -> None:
        for each in news:
            self.holders[each.node].take(each)
            self.late.append(each)

    @rule(
        name=st.sampled_from(PODS),
        node=st.sampled_from([None, *NODES]),
        needs=st.frozensets(st.sampled_from(MAPS)),
        groups=st.frozensets(st.sampled_from(GROUPS)),
    )
    def put_pod(self, name: str, node: str | None, needs: Names, groups: Names) -> None:
        self.revision += 1
        obj = self.objects[("pods", name)] = pod(name, node, needs, self.revision, groups)
        self.tell(put(self.placement, obj))

    @rule(name=st.sampled_from(MAPS), groups=st.frozensets(st.sampled_from(GROUPS)))
    def put_map(self, name: str, groups: Names) -> None:
        self.revision += 1
        obj = self.objects[("configmaps", name)] = config_map(name, self.revision, groups)
        self.tell(put(self.placement, obj))

    @rule(kind=st.sampled_from(["pods", "configmaps"]), index=st.integers(0, 1))
    def remove(self, kind: str, index: int) -> None:
        name = (PODS if kind == "pods" else MAPS)[index]
        if self.objects.pop((kind, name), None) is not None:
            self.revision += 1
            self.tell(self.placement.remove(ObjectKey(kind, "d", name), self.revision))

    @rule(kinds=st.permutations(["configmaps", "pods"]))
    def list_again(self, kinds: list[str]) -> None:
        """The API's history was over: the same controller lists everything."""
        self.revision += 1
        for kind in kinds:
            for (of, _), obj in self.objects.items():
                if of == kind:
                    self.tell(put(self.placement, obj, decided=self.revision))
            self.tell(self.placement.mark_listed(kind, self.revision))

    @rule(name=st.sampled_from(MAPS), groups=st.frozensets(st.sampled_from(GROUPS)))
    def put_map_while_away(self, name: str, groups: Names) -> None:
        self.revision += 1
        self.objects[("configmaps", name)] = config_map(name, self.revision, groups)
        self.list_again(["pods", "configmaps"])

    @rule()
    def restart(self) -> None:
        self.revision += 1
        self.start()

    @rule()
    def tell_again(self) -> None:
        """Hub's store was emptied: the same controller tells everything."""
        for node in NODES:
            self.tell(list(self.placement.everything(node)))

    @rule(kind=st.sampled_from(["pods", "configmaps"]), index=st.integers(0, 1))
    def remove_while_away(self, kind: str, index: int) -> None:
        name = (PODS if kind == "pods" else MAPS)[index]
        if self.objects.pop((kind, name), None) is not None:
            self.revision += 1
            self.start()

    @rule(data=st.data())
    def repeat_an_old_message(self, data: st.DataObject) -> None:
        if self.late:
            news = data.draw(st.sampled_from(self.late))
            self.holders[news.node].take(news)

    @invariant()
    def every_node_holds_what_concerns_it(self) -> None:
        for node, holder in self.holders.items():
            wanted: dict[ObjectKey, JsonObject] = {}
            for (kind, name), obj in self.objects.items():
                if kind == "pods" and obj["spec"]["nodeName"] == node:
                    wanted[ObjectKey("pods", "d", name)] = obj
                    for key in references(obj):
                        found = self.objects.get(("configmaps", key.name))
                        if key.resource == "configmaps" and found is not None:
                            wanted[key] = found
                    for (of, each), found in self.objects.items():
                        if of == "configmaps" and {*found["groups"]} & {*obj["spec"]["groups"]}:
                            wanted[ObjectKey("configmaps", "d", each)] = found
            assert holder.present() == wanted


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=300, stateful_step_count=25, deadline=None)


@given(st.integers(1, 50))
def test_object_that_was_seen_newer_is_left_alone(revision: int) -> None:
    placement = Placement(LEADING, FOLLOWING)
    assert put(placement, pod("p", "a", frozenset(), 60))
    assert put(placement, pod("p", "b", frozenset(), revision)) == []


def test_absence_is_not_told_before_everything_was_listed() -> None:
    placement = Placement(LEADING, FOLLOWING)
    put(placement, pod("p", "a", frozenset({"m"}), 5))
    placement.mark_listed("pods", 5)
    assert not any(isinstance(each, Complete) for each in placement.everything(NODES[0]))
    placement.mark_listed("configmaps", 6)
    assert any(isinstance(each, Complete) for each in placement.everything(NODES[0]))


def test_newer_revision_of_the_same_content_is_told_to_nobody_until_asked() -> None:
    placement = Placement(LEADING, FOLLOWING)
    key, obj = ObjectKey("pods", "d", "p"), {"metadata": {"name": "p", "namespace": "d"}}
    assert placement.put(key, obj, 5, node=NODES[0], needs=frozenset())
    assert placement.put(key, dict(obj), 6, node=NODES[0], needs=frozenset()) == []
    [told] = [each for each in placement.everything(NODES[0]) if isinstance(each, Decision)]
    assert told.change.version == Version(6, 6)


def test_lists_are_complete_without_an_optional_kind_that_the_api_does_not_serve() -> None:
    placement = Placement(("pods", "tasks"), FOLLOWING, optional=["tasks"])
    put(placement, pod("p", "a", frozenset(), 5))
    placement.mark_listed("pods", 5)
    placement.mark_listed("configmaps", 5)
    assert not placement.is_complete
    placement.mark_not_served("tasks")
    told = [each for each in placement.everything(NODES[0]) if isinstance(each, Complete)]
    # of its own kind nothing is said: that the API does not serve it proves no deletion
    assert sorted(each.resource for each in told) == ["configmaps", "pods"]
    placement.mark_listed("tasks", 7)
    told = [each for each in placement.everything(NODES[0]) if isinstance(each, Complete)]
    assert sorted(each.resource for each in told) == ["configmaps", "pods", "tasks"]
    assert {each.version.decided for each in told if each.resource == "configmaps"} == {5}


def test_lists_are_not_complete_while_a_kind_that_is_needed_is_not_served() -> None:
    placement = Placement(LEADING, FOLLOWING, optional=[])
    placement.mark_listed("pods", 5)
    placement.mark_not_served("configmaps")
    assert not placement.is_complete


def test_config_map_that_one_pod_hands_to_another_in_one_list_stays() -> None:
    """A pod was replaced while nobody watched: both needs are decided by the same list."""
    placement, holder = Placement(LEADING, FOLLOWING), Holder()

    def take(news: list[Decision]) -> None:
        for each in news:
            holder.take(each)

    take(put(placement, config_map("m", 3), decided=5))
    take(put(placement, pod("old", "a", frozenset({"m"}), 4), decided=5))
    placement.mark_listed("pods", 5)
    # the next list, of 9, has another pod that needs it
    take(put(placement, pod("new", "a", frozenset({"m"}), 8), decided=9))
    [old] = placement.missing_from("pods", [ObjectKey("pods", "d", "new")])
    take(placement.remove(old, 9))
    take(placement.mark_listed("pods", 9))
    # and one of 12, in which it does itself
    take(put(placement, pod("new", "a", frozenset(), 11), decided=12))
    take(put(placement, pod("newer", "a", frozenset({"m"}), 12), decided=12))
    take(placement.mark_listed("pods", 12))
    assert {key.name for key in holder.present()} == {"new", "newer", "m"}


def test_list_claims_no_more_than_is_known_of_what_leads_there() -> None:
    """Another replica may know of a later pod, and have told of what it needs."""
    placement = Placement(("pods", "nodes"), FOLLOWING)
    put(placement, pod("p", "a", frozenset({"m"}), 5))
    for resource, revision in (("pods", 5), ("configmaps", 5), ("nodes", 9)):
        placement.mark_listed(resource, revision)
    [listed] = [
        each
        for each in placement.everything(NODES[0])
        if isinstance(each, Complete) and each.resource == "configmaps"
    ]
    assert listed.version == Version(5, 5)


def test_config_map_that_goes_from_one_group_to_another_stays_with_who_needs_both() -> None:
    placement, holder = Placement(LEADING, FOLLOWING), Holder()
    everything = [
        *put(placement, pod("p", "a", frozenset(), 5, frozenset(GROUPS))),
        *put(placement, config_map("m", 6, frozenset({"x"}))),
        *put(placement, config_map("m", 7, frozenset({"y"}))),
    ]
    for each in everything:
        holder.take(each)
    assert holder.present()[ObjectKey("configmaps", "d", "m")]["groups"] == ["y"]
