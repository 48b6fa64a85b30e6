"""The control loops of a running server: scheduling, lost nodes, garbage, default accounts."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.apiserver.servers import ApiServer, connect, watch_lines
from tests.integration.apiserver.test_conformance_objects import (
    MERGE,
    STRATEGIC,
    config_map,
    made,
    maps,
    pods,
    refused,
)

GRACE_SECONDS = 1.5
NODES = "/api/v1/nodes"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that gives nodes little time."""
    server = ApiServer(
        tmp_path_factory.mktemp("control"),
        environment={"FEDGE_APISERVER_NODE_GRACE_SECONDS": str(GRACE_SECONDS)},
    )
    server.start()
    with connect(server.kubeconfig) as client:
        yield client
    server.stop()


@pytest.fixture
def node(api: httpx.Client) -> Iterator[str]:
    """A node that says it is ready, once."""
    name = f"n-{uuid4().hex[:8]}"
    make_node(api, name)
    yield name
    api.delete(f"{NODES}/{name}")


def make_node(api: httpx.Client, name: str, **spec: Any) -> None:
    meta = {"name": name, "labels": {"kubernetes.io/hostname": name}}
    made(api.post(NODES, json={"metadata": meta, "spec": spec}))
    say_ready(api, name, "2026-01-01T00:00:00Z")


def say_ready(api: httpx.Client, name: str, beat: str) -> None:
    condition = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": beat}
    patch = {"status": {"conditions": [condition]}}
    made(api.patch(f"{NODES}/{name}/status", json=patch, headers=STRATEGIC))


def make_pod(api: httpx.Client, namespace: str, name: str, **spec: Any) -> None:
    containers = [{"name": "main", "image": "busybox:1.36"}]
    body = {"metadata": {"name": name}, "spec": {"containers": containers, **spec}}
    made(api.post(pods(namespace), json=body))


def until(
    api: httpx.Client, path: str, name: str, holds: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return the object once something holds of it."""
    events = watch_lines(
        api, path, lambda event: holds(event["object"]), fieldSelector=f"metadata.name={name}"
    )
    value: dict[str, Any] = events[-1]["object"]
    return value


def condition(value: dict[str, Any], kind: str) -> dict[str, Any]:
    conditions = value.get("status", {}).get("conditions", [])
    found: dict[str, Any] = next((c for c in conditions if c["type"] == kind), {})
    return found


def test_pod_is_given_to_the_node_that_fits(api: httpx.Client, namespace: str, node: str) -> None:
    make_pod(api, namespace, "p", nodeSelector={"kubernetes.io/hostname": node})
    value = until(api, pods(namespace), "p", lambda p: "nodeName" in p["spec"])
    assert value["spec"]["nodeName"] == node
    assert condition(value, "PodScheduled")["status"] == "True"


def test_pod_that_fits_nowhere_says_why_and_waits(api: httpx.Client, namespace: str) -> None:
    selector = {"kubernetes.io/hostname": f"late-{namespace}"}
    make_pod(api, namespace, "p", nodeSelector=selector)
    value = until(api, pods(namespace), "p", lambda p: bool(condition(p, "PodScheduled")))
    held = condition(value, "PodScheduled")
    assert (held["status"], held["reason"]) == ("False", "Unschedulable")
    assert "available" in held["message"]
    events = watch_lines(
        api,
        f"/api/v1/namespaces/{namespace}/events",
        1,
        fieldSelector="involvedObject.name=p,reason=FailedScheduling",
    )
    assert events[0]["object"]["type"] == "Warning"
    name = f"late-{namespace}"
    make_node(api, name)
    value = until(api, pods(namespace), "p", lambda p: "nodeName" in p["spec"])
    assert value["spec"]["nodeName"] == name
    api.delete(f"{NODES}/{name}")


def test_pod_on_a_missing_node_says_so_until_it_comes(api: httpx.Client, namespace: str) -> None:
    name = f"missing-{namespace}"
    make_pod(api, namespace, "p", nodeName=name)
    value = until(api, pods(namespace), "p", lambda p: bool(condition(p, "PodScheduled")))
    assert condition(value, "PodScheduled")["message"] == f'node "{name}" not found'
    make_node(api, name)
    until(api, pods(namespace), "p", lambda p: condition(p, "PodScheduled").get("status") == "True")
    api.delete(f"{NODES}/{name}")


def test_silent_node_is_shown_and_tainted_until_it_is_back(
    api: httpx.Client, namespace: str, node: str
) -> None:
    make_pod(api, namespace, "p", nodeName=node)
    value = until(api, NODES, node, lambda n: condition(n, "Ready").get("status") == "Unknown")
    ready = condition(value, "Ready")
    assert ready["reason"] == "NodeStatusUnknown"
    assert ready["message"] == "Kubelet stopped posting node status."
    value = until(api, NODES, node, lambda n: bool(n["spec"].get("taints")))
    (taint,) = value["spec"]["taints"]
    assert (taint["key"], taint["effect"]) == ("node.kubernetes.io/unreachable", "NoSchedule")
    assert "deletionTimestamp" not in made(api.get(pods(namespace, "p")))["metadata"]
    say_ready(api, node, "2026-01-01T00:01:00Z")
    until(api, NODES, node, lambda n: not n["spec"].get("taints"))


def test_lease_keeps_a_node_ready(api: httpx.Client, node: str) -> None:
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    made(api.post(path, json={"metadata": {"name": node}, "spec": {}}))
    start = made(api.get(f"{NODES}/{node}"))["metadata"]["resourceVersion"]
    for beat in range(4):
        # Each watch lasts a second, in which nothing may happen to the node.
        spec = {"renewTime": f"2026-01-01T00:00:0{beat}.000000Z"}
        made(api.patch(f"{path}/{node}", json={"spec": spec}, headers=MERGE))
        query = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": start}
        answer = api.get(NODES, params={**query, "fieldSelector": f"metadata.name={node}"})
        assert "Unknown" not in answer.text


def test_dependents_go_with_their_owner(api: httpx.Client, namespace: str) -> None:
    owner = made(api.post(maps(namespace), json=config_map("owner")))
    body = config_map("owned")
    body["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "owner",
            "uid": owner["metadata"]["uid"],
        }
    ]
    version = made(api.post(maps(namespace), json=body))["metadata"]["resourceVersion"]
    made(api.delete(maps(namespace, "owner")))
    watch_lines(
        api,
        maps(namespace),
        lambda event: event["type"] == "DELETED" and event["object"]["metadata"]["name"] == "owned",
        resourceVersion=version,
    )
    refused(api.get(maps(namespace, "owned")), 404, "NotFound")


def test_orphaned_dependents_stay(api: httpx.Client, namespace: str) -> None:
    owner = made(api.post(maps(namespace), json=config_map("owner")))
    body = config_map("owned")
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"}
    body["metadata"]["ownerReferences"] = [{**reference, "uid": owner["metadata"]["uid"]}]
    version = made(api.post(maps(namespace), json=body))["metadata"]["resourceVersion"]
    options = {"propagationPolicy": "Orphan"}
    made(api.request("DELETE", maps(namespace, "owner"), json=options))
    watch_lines(
        api,
        maps(namespace),
        lambda event: event["type"] == "DELETED" and event["object"]["metadata"]["name"] == "owner",
        resourceVersion=version,
    )
    assert "ownerReferences" not in made(api.get(maps(namespace, "owned")))["metadata"]


def test_each_namespace_has_a_default_account(api: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    (event,) = watch_lines(api, path, 1)
    assert event["object"]["metadata"]["name"] == "default"
