"""What nodes report, as it reaches the API."""

import dataclasses
from typing import Any

import pytest

from fedge_controller.kinds.nodes import Nodes
from fedge_controller.kinds.pods import Pods
from fedge_dispatch import Report
from fedge_kube import ConflictError, KubeClient, KubeError, NotFoundError, Resource
from fedge_objects import JsonObject, NodeName, ObjectKey

NODE = NodeName("edge-1")


class Api(KubeClient):
    """Keeps what it is asked to do; fails as told."""

    def __init__(self, *failures: KubeError | None) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self._failures = list(failures)

    def _called(self, what: str, name: str, detail: Any) -> None:
        self.calls.append((what, name, detail))
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: JsonObject,
        *,
        subresource: str = "",
        content_type: str = "",
    ) -> JsonObject:
        assert subresource == "status"
        assert "strategic" in content_type
        self._called("patch", f"{resource.name}/{namespace}/{name}", patch)
        return {}

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        self._called("create", resource.name, obj)
        return obj

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        grace_seconds: int | None = None,
        uid: str | None = None,
    ) -> None:
        self._called("delete", f"{resource.name}/{namespace}/{name}", (grace_seconds, uid))


def report(resource: str, name: str, *, finished: bool = False) -> Report:
    namespace = "d" if resource == "pods" else ""
    return Report(
        node=NODE,
        key=ObjectKey(resource, namespace, name),
        uid="u-1" if resource == "pods" else "",
        status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        labels={"kubernetes.io/os": "linux"},
        finished=finished,
    )


async def test_status_replaces_the_whole_of_what_the_node_owns() -> None:
    api = Api()
    await Pods().report(api, report("pods", "a"))
    [(_, where, patch)] = api.calls
    assert where == "pods/d/a"
    assert patch["metadata"] == {"uid": "u-1"}
    status = patch["status"]
    assert status["phase"] == "Running"
    assert status["podIP"] is None
    # what an older condition said must not outlive it
    [condition] = status["conditions"]
    assert condition == {"type": "Ready", "status": "True", "reason": None, "message": None}


async def test_pod_that_its_node_has_ended_is_deleted_if_it_is_still_that_one() -> None:
    api = Api()
    await Pods().report(api, report("pods", "a", finished=True))
    assert api.calls == [("delete", "pods/d/a", (0, "u-1"))]


@pytest.mark.parametrize("failure", [NotFoundError("gone"), ConflictError("another uid")])
async def test_status_of_a_pod_that_is_no_more_changes_nothing(failure: KubeError) -> None:
    api = Api(failure)
    await Pods().report(api, report("pods", "a"))
    assert len(api.calls) == 1


async def test_node_registers_itself_once_and_reports() -> None:
    api = Api(NotFoundError("no such node"))
    await Nodes().report(api, report("nodes", NODE))
    assert [what for what, _, _ in api.calls] == ["patch", "create", "patch"]
    assert api.calls[1][2]["metadata"]["labels"] == {"kubernetes.io/os": "linux"}


async def test_node_cannot_draw_pods_to_itself_by_labels_of_its_own_choice() -> None:
    api = Api(NotFoundError("no such node"))
    said = {
        "kubernetes.io/arch": "arm64",
        "kubernetes.io/hostname": "another",
        "holds-the-keys": "true",
        "node-restriction.kubernetes.io/vault": "",
        "topology.kubernetes.io/zone": "z",
    }
    await Nodes().report(api, dataclasses.replace(report("nodes", NODE), labels=said))
    for _, _, told in api.calls:
        assert told["metadata"]["labels"] == {
            "kubernetes.io/arch": "arm64",
            "kubernetes.io/hostname": NODE,
        }


async def test_node_that_another_replica_has_just_registered_is_reported() -> None:
    api = Api(NotFoundError("no such node"), ConflictError("exists"))
    await Nodes().report(api, report("nodes", NODE))
    assert [what for what, _, _ in api.calls] == ["patch", "create", "patch"]


def test_node_is_given_its_own_object_without_what_its_heartbeats_change() -> None:
    def node(moment: str, ready: str) -> JsonObject:
        return {
            "metadata": {"name": NODE, "resourceVersion": moment, "labels": {"a": "b"}},
            "spec": {},
            "status": {
                "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": moment}],
                "images": [moment],
            },
        }

    nodes = Nodes()
    assert nodes.for_node(node("1", "True")) == nodes.for_node(node("2", "True"))
    assert nodes.for_node(node("1", "True")) != nodes.for_node(node("1", "Unknown"))


def test_pod_is_given_to_its_node_without_its_status() -> None:
    pod = {
        "metadata": {"name": "a", "resourceVersion": "7", "managedFields": [], "uid": "u"},
        "spec": {"nodeName": NODE},
        "status": {"phase": "Running"},
    }
    assert Pods().for_node(pod) == {
        "metadata": {"name": "a", "uid": "u"},
        "spec": {"nodeName": NODE},
    }
    assert pod["status"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_node_is_told_that_a_pod_has_ended_for_good(phase: str) -> None:
    pod = {"metadata": {"name": "a"}, "spec": {}, "status": {"phase": phase, "podIP": "10.0.0.1"}}
    assert Pods().for_node(pod)["status"] == {"phase": phase}


def test_node_is_told_the_conditions_of_readiness_gates_and_no_others() -> None:
    pod = {
        "metadata": {"name": "a"},
        "spec": {"readinessGates": [{"conditionType": "www.example.com/gate"}]},
        "status": {
            "phase": "Running",
            "conditions": [
                {"type": "www.example.com/gate", "status": "True", "lastProbeTime": "now"},
                {"type": "Ready", "status": "True"},
            ],
        },
    }
    assert Pods().for_node(pod)["status"] == {
        "conditions": [{"type": "www.example.com/gate", "status": "True"}]
    }
