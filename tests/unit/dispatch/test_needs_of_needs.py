"""What a node needs because of something that it needs: a service account's pull secrets."""

from fedge_dispatch import Decision, Placement
from fedge_objects import JsonObject, NodeName, ObjectKey

NODE = NodeName("edge-1")
POD, ACCOUNT = ObjectKey("pods", "d", "p"), ObjectKey("serviceaccounts", "d", "default")
FIRST, SECOND = ObjectKey("secrets", "d", "first"), ObjectKey("secrets", "d", "second")


class Cluster:
    """Objects that change, and what the node holds by what it is told."""

    def __init__(self) -> None:
        self.placement = Placement(["pods"], ["serviceaccounts", "secrets"])
        self.revision = 0
        self.held: dict[ObjectKey, JsonObject | None] = {}

    def put(self, key: ObjectKey, *needs: ObjectKey) -> None:
        self.revision += 1
        obj = {"metadata": {"name": key.name, "resourceVersion": str(self.revision)}}
        node = NODE if key.resource == "pods" else None
        self._take(self.placement.put(key, obj, self.revision, node=node, needs=frozenset(needs)))

    def remove(self, key: ObjectKey) -> None:
        self.revision += 1
        self._take(self.placement.remove(key, self.revision))

    def has(self) -> set[ObjectKey]:
        told = {
            each.change.key
            for each in self.placement.everything(NODE)
            if isinstance(each, Decision)
        }
        held = {key for key, obj in self.held.items() if obj is not None}
        assert told == held
        return held

    def _take(self, decisions: list[Decision]) -> None:
        for each in decisions:
            self.held[each.change.key] = each.change.object


def test_secrets_of_the_account_go_where_the_pod_goes() -> None:
    cluster = Cluster()
    cluster.put(FIRST)
    cluster.put(ACCOUNT, FIRST)
    assert cluster.has() == set()
    cluster.put(POD, ACCOUNT)
    assert cluster.has() == {POD, ACCOUNT, FIRST}


def test_account_that_changes_its_secrets_changes_what_the_node_has() -> None:
    cluster = Cluster()
    cluster.put(POD, ACCOUNT)
    cluster.put(ACCOUNT, FIRST)
    cluster.put(FIRST)
    cluster.put(SECOND)
    assert cluster.has() == {POD, ACCOUNT, FIRST}
    cluster.put(ACCOUNT, SECOND)
    assert cluster.has() == {POD, ACCOUNT, SECOND}
    cluster.remove(ACCOUNT)
    assert cluster.has() == {POD}


def test_secret_that_the_pod_needs_too_stays_when_the_account_lets_it_go() -> None:
    cluster = Cluster()
    cluster.put(FIRST)
    cluster.put(ACCOUNT, FIRST)
    cluster.put(POD, ACCOUNT, FIRST)
    cluster.put(ACCOUNT)
    assert cluster.has() == {POD, ACCOUNT, FIRST}
    cluster.put(POD, ACCOUNT)
    assert cluster.has() == {POD, ACCOUNT}


def test_nothing_stays_of_a_pod_that_is_gone() -> None:
    cluster = Cluster()
    cluster.put(ACCOUNT, FIRST)
    cluster.put(FIRST)
    cluster.put(POD, ACCOUNT)
    cluster.remove(POD)
    assert cluster.has() == set()
