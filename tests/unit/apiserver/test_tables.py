"""Cells as kubectl users know them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fedge_apiserver.resources import NODES, PODS, Resource
from fedge_apiserver.tables import human_age, make_table

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def cells(resource: Resource, value: dict[str, Any]) -> dict[str, Any]:
    table = make_table(resource, [value], {}, NOW)
    names = [column["name"] for column in table["columnDefinitions"]]
    return dict(zip(names, table["rows"][0]["cells"], strict=True))


def pod(status: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z", **more},
        "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
        "status": status,
    }


def container(**state: Any) -> list[dict[str, Any]]:
    return [{"name": "a", "ready": "running" in state, "restartCount": 0, "state": state}]


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ({"phase": "Pending"}, "Pending"),
        ({"phase": "Running", "containerStatuses": container(running={})}, "Running"),
        (
            {
                "phase": "Running",
                "containerStatuses": container(waiting={"reason": "CrashLoopBackOff"}),
            },
            "CrashLoopBackOff",
        ),
        (
            {
                "phase": "Pending",
                "containerStatuses": container(waiting={"reason": "ErrImagePull"}),
            },
            "ErrImagePull",
        ),
        (
            {
                "phase": "Succeeded",
                "containerStatuses": container(terminated={"reason": "Completed", "exitCode": 0}),
            },
            "Completed",
        ),
        (
            {"phase": "Failed", "containerStatuses": container(terminated={"exitCode": 3})},
            "ExitCode:3",
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": container(terminated={"signal": 9, "exitCode": 1}),
            },
            "Signal:9",
        ),
        ({"phase": "Failed", "reason": "Evicted"}, "Evicted"),
        ({"phase": "Pending", "initContainerStatuses": container(running={})}, "Init:0/1"),
        (
            {"phase": "Pending", "initContainerStatuses": container(terminated={"exitCode": 1})},
            "Init:ExitCode:1",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": container(terminated={"exitCode": 0}),
                "containerStatuses": container(waiting={"reason": "PodInitializing"}),
            },
            "PodInitializing",
        ),
    ],
)
def test_pod_is_told_in_one_word(status: dict[str, Any], word: str) -> None:
    assert cells(PODS, pod(status))["Status"] == word


def test_deleted_pod_is_terminating() -> None:
    value = pod({"phase": "Running"}, deletionTimestamp="2026-01-02T00:00:00Z")
    assert cells(PODS, value)["Status"] == "Terminating"


def test_restarts_tell_when_the_last_one_was() -> None:
    (state,) = container(running={})
    state["restartCount"] = 3
    state["lastState"] = {"terminated": {"finishedAt": "2026-01-01T23:55:00Z"}}
    row = cells(PODS, pod({"phase": "Running", "containerStatuses": [state]}))
    assert row["Restarts"] == "3 (5m ago)"
    assert row["Ready"] == "1/1"


def test_node_tells_state_and_roles() -> None:
    value = {
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/edge": ""}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        },
    }
    row = cells(NODES, value)
    assert row["Status"] == "NotReady,SchedulingDisabled"
    assert row["Roles"] == "edge"
    assert row["Internal-IP"] == "10.0.0.1"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (5 * 3600 + 120, "5h2m"),
        (30 * 3600, "30h"),
        (3 * 86400 + 7200, "3d2h"),
        (400 * 86400, "400d"),
        (3 * 365 * 86400, "3y"),
    ],
)
def test_ages_are_short(seconds: int, text: str) -> None:
    since = (NOW - timedelta(seconds=seconds)).isoformat()
    assert human_age(since, NOW) == text
