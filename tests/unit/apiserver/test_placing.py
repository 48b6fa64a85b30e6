"""Which pod may run on which node."""

from typing import Any

import pytest

from fedge_apiserver.controllers._placing import refusal

READY = [{"type": "Ready", "status": "True"}]


def node(
    labels: dict[str, str] | None = None,
    conditions: list[dict[str, str]] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    return {
        "metadata": {"name": "n1", "labels": labels or {}},
        "spec": spec,
        "status": {"conditions": READY if conditions is None else conditions},
    }


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": spec}


def affinity(*terms: dict[str, Any]) -> dict[str, Any]:
    required = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def test_ready_node_takes_a_plain_pod() -> None:
    assert refusal(pod(), node(), 0) is None


def test_cordoned_node_refuses() -> None:
    assert refusal(pod(), node(unschedulable=True), 0) == "node(s) were unschedulable"


@pytest.mark.parametrize(
    ("conditions", "key"),
    [
        ([], "not-ready"),
        ([{"type": "Ready", "status": "False"}], "not-ready"),
        ([{"type": "Ready", "status": "Unknown"}], "unreachable"),
    ],
)
def test_node_that_is_not_ready_refuses(conditions: list[dict[str, str]], key: str) -> None:
    expected = f"node(s) had untolerated taint {{node.kubernetes.io/{key}: }}"
    assert refusal(pod(), node(conditions=conditions), 0) == expected


def test_taint_needs_its_toleration() -> None:
    tainted = node(taints=[{"key": "edge", "value": "yes", "effect": "NoSchedule"}])
    assert refusal(pod(), tainted, 0) == "node(s) had untolerated taint {edge: yes}"
    for toleration in (
        {"key": "edge", "value": "yes"},
        {"key": "edge", "operator": "Exists", "effect": "NoSchedule"},
        {"operator": "Exists"},
    ):
        assert refusal(pod(tolerations=[toleration]), tainted, 0) is None
    assert refusal(pod(tolerations=[{"key": "edge", "value": "no"}]), tainted, 0) is not None


def test_selector_and_affinity_must_match() -> None:
    labelled = node({"zone": "a", "size": "5"})
    unfit = "node(s) didn't match Pod's node affinity/selector"
    assert refusal(pod(nodeSelector={"zone": "a"}), labelled, 0) is None
    assert refusal(pod(nodeSelector={"zone": "b"}), labelled, 0) == unfit
    for expression, fits in (
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "other", "operator": "DoesNotExist"}, True),
        ({"key": "size", "operator": "Gt", "values": ["4"]}, True),
        ({"key": "size", "operator": "Lt", "values": ["4"]}, False),
    ):
        wanted = pod(affinity=affinity({"matchExpressions": [expression]}))
        assert (refusal(wanted, labelled, 0) is None) is fits
    by_name = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
    assert refusal(pod(affinity=affinity({"matchFields": [by_name]})), labelled, 0) is None


def test_full_node_refuses() -> None:
    full = node()
    full["status"]["allocatable"] = {"pods": "2"}
    assert refusal(pod(), full, 1) is None
    assert refusal(pod(), full, 2) == "Too many pods"
