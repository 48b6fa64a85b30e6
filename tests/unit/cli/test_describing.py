from datetime import UTC, datetime
from typing import Any

from fedge_cli.describing import describe, event_lines
from fedge_cli.layouts import config_map_lines, field_lines, secret_lines
from fedge_cli.node_layout import node_lines
from fedge_cli.pod_layout import pod_lines
from tests.unit.cli.server import Answer, Handler, Server

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

POD: dict[str, Any] = {
    "metadata": {"name": "hello", "namespace": "default", "uid": "u1", "labels": {"app": "hello"}},
    "spec": {
        "nodeName": "edge-1",
        "containers": [
            {
                "name": "main",
                "image": "hello:1",
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "c"}}],
                "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True}],
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
            }
        ],
        "volumes": [{"name": "v", "configMap": {"name": "c"}}],
    },
    "status": {
        "phase": "Pending",
        "containerStatuses": [
            {
                "name": "main",
                "restartCount": 3,
                "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
            }
        ],
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "main"}
        ],
    },
}


def line_of(lines: list[str], start: str) -> str:
    [found] = [line.strip() for line in lines if line.strip().startswith(start)]
    return " ".join(found.split())


def test_pod_says_why_its_containers_are_as_they_are() -> None:
    lines = list(pod_lines(POD, stale=None))
    assert line_of(lines, "State:") == "State: Waiting (ErrImagePull): no such image"
    assert line_of(lines, "Last State:") == "Last State: Terminated (Error, exitCode 1)"
    assert line_of(lines, "Restart Count:") == "Restart Count: 3"
    assert line_of(lines, "Ready ") == "Ready False ContainersNotReady: main"
    assert line_of(lines, "B from") == "B from key k of secret s"
    assert line_of(lines, "* from") == "* from config map c"
    assert line_of(lines, "/v from") == "/v from v (ro)"
    assert "    Liveness Probe:" in lines


def test_pod_of_a_node_that_is_not_heard_says_how_old_that_is() -> None:
    lines = list(pod_lines(POD, stale=7300.0))
    assert line_of(lines, "Status:") == "Status: Pending (stale 2h: its node is not heard)"


def test_pod_that_is_being_deleted_says_so() -> None:
    metadata = {**POD["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    lines = list(pod_lines({**POD, "metadata": metadata}, stale=None))
    assert line_of(lines, "Status:") == "Status: Terminating"


def test_node_says_how_it_is_and_what_runs_there() -> None:
    node = {
        "metadata": {"name": "edge-1", "labels": {"node-role.kubernetes.io/edge": ""}},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "capacity": {"cpu": "2", "pods": "110"},
            "nodeInfo": {"kubeletVersion": "v1"},
        },
    }
    ended = {**POD, "metadata": {**POD["metadata"], "name": "x"}, "status": {"phase": "Failed"}}
    lines = list(node_lines(node, [POD, ended], stale=65.0))
    assert line_of(lines, "Status:") == "Status: NotReady (stale 65s: it is not heard)"
    assert line_of(lines, "Roles:") == "Roles: edge"
    assert line_of(lines, "Taints:") == "Taints: k:NoSchedule"
    assert line_of(lines, "Capacity:") == "Capacity: cpu 2, pods 110"
    assert lines[-2:] == ["Pods: 1", "  default/hello  Pending (stale 65s)"]
    heard = list(node_lines(node, [POD, ended], stale=None))
    assert heard[-1] == "  default/hello  Pending"


def test_secret_keeps_what_it_keeps() -> None:
    secret = {"metadata": {"name": "s"}, "type": "Opaque", "data": {"password": "Y29ycmVjdA=="}}
    text = "\n".join(secret_lines(secret))
    assert "password: 7 bytes" in text
    assert "Y29ycmVjdA" not in text
    assert "correct" not in text


def test_config_map_shows_its_texts() -> None:
    config_map = {"metadata": {"name": "c"}, "data": {"a": "1", "file.conf": "x=1\ny=2\n"}}
    assert list(config_map_lines(config_map))[-5:] == [
        "Data:", "  a: 1", "  file.conf:", "    x=1", "    y=2",
    ]  # fmt: skip


def test_any_object_is_shown_by_its_fields() -> None:
    value: dict[str, Any] = {
        "spec": {"items": [{"a": 1, "b": {"c": 2}}, "x"], "empty": {}, "none": None}
    }
    assert list(field_lines(value)) == [
        "Spec:", "  Items:", "    - A: 1", "      B:", "        C: 2", "    - x",
    ]  # fmt: skip


def event(reason: str, **times: Any) -> dict[str, Any]:
    return {
        "metadata": {"creationTimestamp": "2026-01-01T11:00:00Z"},
        "involvedObject": {"uid": times.pop("uid", "u1")},
        "reason": reason,
        "type": "Normal",
        "message": f"{reason} it",
        **times,
    }


def test_events_come_in_the_order_they_happened_whichever_api_told_them() -> None:
    events = [
        event("Started", lastTimestamp="2026-01-01T11:59:30Z", count=3),
        event("Scheduled", eventTime="2026-01-01T11:50:00.000000Z", lastTimestamp=None),
        event("Pulled", series={"lastObservedTime": "2026-01-01T11:58:00Z", "count": 2}),
        event("Queued"),
    ]
    lines = list(event_lines(events, NOW))
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "1h Normal Queued Queued it",
        "10m Normal Scheduled Scheduled it",
        "2m (x2) Normal Pulled Pulled it",
        "30s (x3) Normal Started Started it",
    ]


def test_events_of_a_former_object_of_the_name_are_not_shown() -> None:
    path = "GET /api/v1/namespaces/default"
    server = Server(
        {
            f"{path}/pods/hello": POD,
            f"{path}/events": {"items": [event("Old", uid="u0"), event("New")]},
            "GET /api/v1/nodes/edge-1": {"metadata": {"name": "edge-1"}},
        }
    )
    with server.api() as api:
        text = "\n".join(describe(api, api.find_type("pods"), "default", "hello"))
    assert "New it" in text
    assert "Old it" not in text


def test_events_that_cannot_be_had_are_told_as_unknown() -> None:
    server = Server({"GET /api/v1/namespaces/default/pods/hello": POD})
    with server.api() as api:
        *_, last = describe(api, api.find_type("pods"), "default", "hello")
    assert last.startswith("Events: unknown (Error from server (NotFound)")


LEASE = "GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1"
AWAY: dict[str, Answer | Handler] = {
    "GET /api/v1/nodes/edge-1": {
        "metadata": {"name": "edge-1"},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
    },
    LEASE: {"spec": {"renewTime": "2020-01-01T00:00:00Z", "leaseDurationSeconds": 40}},
}


def described(server: Server, kind: str, name: str) -> list[str]:
    with server.api() as api:
        return list(describe(api, api.find_type(kind), "default", name))


def test_pod_that_has_ended_does_not_grow_stale() -> None:
    path = "GET /api/v1/namespaces/default/pods/hello"
    server = Server({**AWAY, path: POD})
    assert "(stale" in line_of(described(server, "pods", "hello"), "Status:")
    server.routes[path] = {**POD, "status": {"phase": "Succeeded"}}
    assert line_of(described(server, "pods", "hello"), "Status:") == "Status: Succeeded"


def test_device_of_a_node_that_is_not_heard_says_so() -> None:
    path = "GET /apis/devices.kubeedge.io/v1beta1/namespaces/default"
    metadata = {"name": "t", "namespace": "default"}
    server = Server(
        {
            **AWAY,
            f"{path}/devices/t": {"metadata": metadata, "spec": {"nodeName": "edge-1"}},
            f"{path}/devicestatuses/t": {"metadata": metadata, "status": {"state": "ok"}},
        }
    )
    for kind in ("devices", "devicestatuses"):
        told = line_of(described(server, kind, "t"), "Node:")
        assert told.startswith("Node: edge-1 (stale ")
        assert told.endswith("d: it is not heard)")
    server.routes[LEASE] = (403, {"message": "no"})
    assert not any(line.startswith("Node:") for line in described(server, "devices", "t"))
