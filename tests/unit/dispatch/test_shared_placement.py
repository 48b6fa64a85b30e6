"""Several replicas decide for the same nodes, each for some: whatever each knows and is told late.

Each watches the cluster at its own pace. A node has one of them at a time; whoever gets it lists
everything again, as ``fedge_dispatch.takeover`` does.
"""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fedge_dispatch import Complete, Decision, Placement
from fedge_objects import JsonObject, NodeName, ObjectKey
from tests.unit.dispatch.test_placement import (
    FOLLOWING,
    LEADING,
    MAPS,
    NODES,
    PODS,
    Holder,
    config_map,
    pod,
    put,
)

REPLICAS = 3


@dataclass(frozen=True)
class Event:
    """What a watch says: an object as it is since a revision, or that it is gone."""

    kind: str
    name: str
    object: JsonObject | None
    revision: int


@dataclass
class Replica:
    placement: Placement = field(default_factory=lambda: Placement(LEADING, FOLLOWING))
    seen: dict[str, int] = field(default_factory=lambda: {"pods": 0, "configmaps": 0})
    """How many events of each kind it has seen."""


class Cluster(RuleBasedStateMachine):
    """A cluster that changes, replicas that lag and hand nodes over, and late messages."""

    def __init__(self) -> None:
        super().__init__()
        self.revision = 10
        self.objects: dict[tuple[str, str], JsonObject] = {}
        self.events: dict[str, list[Event]] = {"pods": [], "configmaps": []}
        self.holders = {node: Holder() for node in NODES}
        self.late: list[Decision | Complete] = []
        self.replicas = [Replica() for _ in range(REPLICAS)]
        self.owners = dict.fromkeys(NODES, 0)
        for replica in self.replicas:
            self.list_all(replica)

    def list_all(self, replica: Replica) -> list[Decision]:
        """Have a replica list everything as it is; return what follows."""
        decisions: list[Decision] = []
        placement = replica.placement
        for kind in ("configmaps", "pods"):
            listed = {
                ObjectKey(kind, "d", name): obj
                for (of, name), obj in self.objects.items()
                if of == kind
            }
            for obj in listed.values():
                decisions += put(placement, obj, decided=self.revision)
            for key in placement.missing_from(kind, listed):
                decisions += placement.remove(key, self.revision)
            decisions += placement.mark_listed(kind, self.revision)
            replica.seen[kind] = len(self.events[kind])
        return decisions

    def tell(self, index: int, news: list[Decision] | list[Decision | Complete]) -> None:
        """Tell hub, as far as the nodes are the replica's own."""
        for each in news:
            if self.owners[each.node] == index:
                self.holders[each.node].take(each)
                self.late.append(each)

    def happens(self, kind: str, name: str, obj: JsonObject | None) -> None:
        if obj is None:
            del self.objects[kind, name]
        else:
            self.objects[kind, name] = obj
        self.events[kind].append(Event(kind, name, obj, self.revision))

    @rule(
        name=st.sampled_from(PODS),
        node=st.sampled_from(NODES),
        needs=st.frozensets(st.sampled_from(MAPS)),
    )
    def put_pod(self, name: str, node: NodeName, needs: frozenset[str]) -> None:
        self.revision += 1
        self.happens("pods", name, pod(name, node, needs, self.revision))

    @rule(name=st.sampled_from(MAPS))
    def put_map(self, name: str) -> None:
        self.revision += 1
        self.happens("configmaps", name, config_map(name, self.revision))

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        kind, name = data.draw(st.sampled_from(sorted(self.objects)))
        self.revision += 1
        self.happens(kind, name, None)

    @rule(
        index=st.integers(0, REPLICAS - 1),
        kind=st.sampled_from(["pods", "configmaps"]),
        most=st.integers(1, 4),
    )
    def watch(self, index: int, kind: str, most: int) -> None:
        replica = self.replicas[index]
        for event in self.events[kind][replica.seen[kind] :][:most]:
            key = ObjectKey(kind, "d", event.name)
            if event.object is None:
                news = replica.placement.remove(key, event.revision)
            else:
                news = put(replica.placement, event.object)
            replica.seen[kind] += 1
            self.tell(index, news)

    @rule(index=st.integers(0, REPLICAS - 1))
    def watch_broke(self, index: int) -> None:
        """The API has forgotten where a replica was: it lists anew, and tells all of its nodes."""
        replica = self.replicas[index]
        self.tell(index, self.list_all(replica))
        for node in NODES:
            self.tell(index, list(replica.placement.everything(node)))

    @rule(index=st.integers(0, REPLICAS - 1))
    def restart(self, index: int) -> None:
        self.replicas[index] = Replica()
        self.watch_broke(index)
        for node, owner in self.owners.items():
            if owner == index:
                self.hand_over(node, index)

    @rule(node=st.sampled_from(NODES), index=st.integers(0, REPLICAS - 1))
    def hand_over(self, node: NodeName, index: int) -> None:
        self.owners[node] = index
        replica = self.replicas[index]
        self.tell(index, self.list_all(replica))
        replica.placement.renew(node, self.revision)
        self.tell(index, list(replica.placement.everything(node)))

    @rule(index=st.integers(0, REPLICAS - 1), node=st.sampled_from(NODES))
    def resync(self, index: int, node: NodeName) -> None:
        self.tell(index, list(self.replicas[index].placement.everything(node)))

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def repeat_late(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from(self.late[-30:]))
        self.holders[each.node].take(each)

    @invariant()
    def once_all_is_seen_each_node_has_what_concerns_it(self) -> None:
        for node, owner in self.owners.items():
            seen = self.replicas[owner].seen
            if any(seen[kind] < len(events) for kind, events in self.events.items()):
                continue
            assert self.holders[node].present() == self.wanted(node)

    def wanted(self, node: NodeName) -> dict[ObjectKey, JsonObject]:
        wanted: dict[ObjectKey, JsonObject] = {}
        for (kind, name), obj in self.objects.items():
            if kind == "pods" and obj["spec"]["nodeName"] == node:
                wanted[ObjectKey(kind, "d", name)] = obj
                for each in obj["spec"]["volumes"]:
                    config = self.objects.get(("configmaps", each["name"]))
                    if config is not None:
                        wanted[ObjectKey("configmaps", "d", each["name"])] = config
        return wanted


def test_whoever_decides_each_node_has_what_concerns_it_once_all_is_seen() -> None:
    run_state_machine_as_test(
        Cluster, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )
