"""What every cluster does with validation rules in CEL, over HTTP only."""

import copy
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.apiserver.servers import watch_lines
from tests.integration.apiserver.test_conformance_custom import CRDS, definition
from tests.integration.apiserver.test_conformance_objects import MERGE, made, refused

RULES = "x-kubernetes-validations"
TEXT = {"type": "string", "maxLength": 40}
NUMBER = {"type": "integer"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    RULES: [
        {"rule": "self.metadata.name != 'forbidden'", "message": "this name is taken"},
    ],
    "properties": {
        "spec": {
            "type": "object",
            RULES: [
                {
                    "rule": "self.low <= self.high",
                    "messageExpression": "'%d is above %d'.format([self.low, self.high])",
                    "fieldPath": ".low",
                },
                {"rule": "!has(self.ratio) || self.ratio < 1", "reason": "FieldValueForbidden"},
                {"rule": "!has(self.zone) || self.zone == oldSelf.zone", "message": "zone stays"},
                {
                    "rule": "!has(self.until) || self.until > timestamp('2026-01-01T00:00:00Z')",
                    "message": "too early",
                },
                {
                    "rule": "!has(self.pause) || self.pause <= duration('1h')",
                    "message": "too long",
                },
            ],
            "properties": {
                "low": NUMBER,
                "high": NUMBER,
                "ratio": {"type": "number"},
                "zone": TEXT,
                "until": {"type": "string", "format": "date-time"},
                "pause": {"type": "string", "format": "duration"},
                "x-kind": {**TEXT, RULES: [{"rule": "self.startsWith('k-')"}]},
                "amount": {"x-kubernetes-int-or-string": True},
                "replicas": {
                    **NUMBER,
                    RULES: [{"rule": "self >= oldSelf", "message": "it only grows"}],
                },
                "tags": {
                    "type": "array",
                    "maxItems": 20,
                    "items": TEXT,
                    RULES: [
                        {"rule": "self.all(t, self.exists_one(u, t == u))", "message": "twice"}
                    ],
                },
                "labels": {
                    "type": "object",
                    "maxProperties": 20,
                    "additionalProperties": {**TEXT, RULES: [{"rule": "self != ''"}]},
                    RULES: [{"rule": "self.all(key, key.size() < 5)", "message": "long key"}],
                },
                "ports": {
                    "type": "array",
                    "maxItems": 20,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["port"],
                    "items": {
                        "type": "object",
                        "required": ["port"],
                        "properties": {"port": NUMBER, "protocol": TEXT},
                        RULES: [
                            {
                                "rule": "!has(self.protocol) || !has(oldSelf.protocol) || "
                                "self.protocol == oldSelf.protocol",
                                "message": "protocol stays",
                            }
                        ],
                    },
                },
                "address": {**TEXT, RULES: [{"rule": "isIP(self) && ip(self).family() == 4"}]},
                "memory": {
                    **TEXT,
                    RULES: [
                        {"rule": "isQuantity(self) && quantity(self).isLessThan(quantity('1Gi'))"}
                    ],
                },
            },
        },
        "status": {"type": "object", "properties": {"phase": TEXT}},
    },
}


def ruled(group: str, schema: dict[str, Any]) -> dict[str, Any]:
    body = definition(group)
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema
    del body["spec"]["versions"][0]["additionalPrinterColumns"]
    return body


@pytest.fixture(scope="module")
def group(api: httpx.Client) -> Iterator[str]:
    """An API group with widgets that have rules."""
    name = f"g{uuid4().hex[:8]}.example.com"
    made(api.post(CRDS, json=ruled(name, SCHEMA)))
    watch_lines(
        api,
        CRDS,
        lambda event: any(
            condition["type"] == "Established" and condition["status"] == "True"
            for condition in event["object"].get("status", {}).get("conditions", [])
        ),
        fieldSelector=f"metadata.name=widgets.{name}",
    )
    yield name
    api.delete(f"{CRDS}/widgets.{name}")


class Widgets:
    """The widgets of a namespace."""

    def __init__(self, api: httpx.Client, group: str, namespace: str) -> None:
        self.api = api
        self.version = f"{group}/v1"
        self.path = f"/apis/{group}/v1/namespaces/{namespace}/widgets"

    def make(self, called: str = "w", **spec: Any) -> httpx.Response:
        metadata = {"name": called}
        body = {"apiVersion": self.version, "kind": "Widget", "metadata": metadata}
        return self.api.post(self.path, json={**body, "spec": {"low": 1, "high": 2, **spec}})

    def change(self, called: str = "w", **spec: Any) -> httpx.Response:
        return self.api.patch(f"{self.path}/{called}", json={"spec": spec}, headers=MERGE)


@pytest.fixture
def widgets(api: httpx.Client, group: str, namespace: str) -> Widgets:
    """Widgets in the test's namespace."""
    return Widgets(api, group, namespace)


def causes(answer: httpx.Response) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = refused(answer, 422, "Invalid")["details"]["causes"]
    return found


def test_object_that_keeps_the_rules_is_made(widgets: Widgets) -> None:
    made(
        widgets.make(
            ratio=0.5,
            until="2026-05-01T00:00:00Z",
            pause="30m",
            tags=["a", "b"],
            labels={"k": "v"},
            ports=[{"port": 1}],
            amount="5%",
            address="10.0.0.1",
            memory="512Mi",
            **{"x-kind": "k-1"},
        )
    )


@pytest.mark.parametrize(
    ("spec", "field", "text"),
    [
        ({"low": 3}, "spec.low", "3 is above 2"),
        ({"ratio": 1.5}, "spec", "failed rule: !has(self.ratio) || self.ratio < 1"),
        ({"until": "2025-01-01T00:00:00Z"}, "spec", "too early"),
        ({"pause": "2h"}, "spec", "too long"),
        ({"tags": ["a", "a"]}, "spec.tags", "twice"),
        ({"labels": {"toolong": "v"}}, "spec.labels", "long key"),
        ({"labels": {"k": ""}}, "spec.labels[k]", "failed rule: self != ''"),
        ({"x-kind": "z"}, "spec.x-kind", "failed rule: self.startsWith('k-')"),
        ({"address": "::1"}, "spec.address", "failed rule"),
        ({"memory": "2Gi"}, "spec.memory", "failed rule"),
        ({"memory": "much"}, "spec.memory", "failed rule"),
    ],
)
def test_object_that_breaks_a_rule_is_invalid(
    widgets: Widgets, spec: dict[str, Any], field: str, text: str
) -> None:
    (cause,) = causes(widgets.make(**spec))
    assert cause["field"] == field
    assert text in cause["message"]


def test_reason_of_a_rule_is_told(widgets: Widgets) -> None:
    (cause,) = causes(widgets.make(ratio=2))
    assert cause["reason"] == "FieldValueForbidden"


def test_rule_at_the_root_sees_the_name(widgets: Widgets) -> None:
    (cause,) = causes(widgets.make("forbidden"))
    assert "this name is taken" in cause["message"]


def test_missing_key_is_an_error_of_the_rule(widgets: Widgets) -> None:
    made(widgets.make())
    answer = widgets.change(low=None)
    assert "no such key: low" in causes(answer)[0]["message"]


def test_transition_rule_compares_with_the_state_before(widgets: Widgets) -> None:
    made(widgets.make(zone="a", replicas=2, ports=[{"port": 1, "protocol": "TCP"}]))
    assert "zone stays" in causes(widgets.change(zone="b"))[0]["message"]
    (cause,) = causes(widgets.change(replicas=1))
    assert cause["field"] == "spec.replicas"
    assert "it only grows" in cause["message"]
    made(widgets.change(replicas=3))
    ports = [{"port": 2, "protocol": "UDP"}, {"port": 1, "protocol": "UDP"}]
    (cause,) = causes(widgets.change(ports=ports))
    assert cause["field"] == "spec.ports[1]"
    assert "protocol stays" in cause["message"]


def test_dry_run_applies_the_rules(widgets: Widgets) -> None:
    widgets.path += "?dryRun=All"
    causes(widgets.make(low=9))


def with_rule(rule: dict[str, Any], *, on: str = "spec") -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": copy.deepcopy(NUMBER),
                    "name": copy.deepcopy(TEXT),
                    "list": {"type": "array", "maxItems": 5, "items": copy.deepcopy(TEXT)},
                },
            }
        },
    }
    spec = schema["properties"]["spec"]
    if on == "item":
        spec["properties"]["list"]["items"][RULES] = [rule]
    else:
        spec[RULES] = [rule]
    return schema


@pytest.mark.parametrize(
    ("rule", "field", "text"),
    [
        ({"rule": "self.size <"}, "rule", "compilation failed"),
        ({"rule": "self.nope == 1"}, "rule", "undefined field 'nope'"),
        ({"rule": "other == 1"}, "rule", "undeclared reference to 'other'"),
        ({"rule": "self.size > 'a'"}, "rule", "found no matching overload for '_>_'"),
        ({"rule": "self.list.all(x, x > 1)"}, "rule", "found no matching overload for '_>_'"),
        ({"rule": "self.size"}, "rule", "cel expression must evaluate to a bool"),
        ({"rule": "true", "messageExpression": "1"}, "messageExpression", "must evaluate to a str"),
        ({"rule": "true", "messageExpression": "self.x"}, "messageExpression", "undefined field"),
        ({"rule": ""}, "rule", "Required value"),
        ({"rule": "true", "message": " "}, "message", "message must be"),
        ({"rule": "true", "message": "a\nb"}, "message", "line breaks"),
        ({"rule": "true", "reason": "Because"}, "reason", "Unsupported value"),
        ({"rule": "true", "fieldPath": ".nope"}, "fieldPath", "must be a valid path"),
        ({"rule": "true", "fieldPath": "size"}, "fieldPath", "must be a valid path"),
        ({"rule": "true", "optionalOldSelf": True}, "optionalOldSelf", "oldSelf"),
    ],
)
def test_rule_that_cannot_be_refuses_the_definition(
    api: httpx.Client, rule: dict[str, Any], field: str, text: str
) -> None:
    body = ruled(f"g{uuid4().hex[:8]}.example.com", with_rule(rule))
    path = f"spec.versions[0].schema.openAPIV3Schema.properties[spec].{RULES}[0].{field}"
    found = {c["field"]: c["message"] for c in causes(api.post(CRDS, json=body))}
    assert text in found[path]


def test_transition_rule_needs_items_that_can_be_told_apart(api: httpx.Client) -> None:
    rule = {"rule": "self == oldSelf"}
    body = ruled(f"g{uuid4().hex[:8]}.example.com", with_rule(rule, on="item"))
    assert "uncorrelatable" in causes(api.post(CRDS, json=body))[0]["message"]


@pytest.mark.parametrize(
    "rule",
    [
        "self.size > 1.5",
        "'a' in self.list",
        "self.?size.orValue(0) >= 0",
        "self.list.isSorted() && self.list == self.list.filter(x, x != '')",
        "sets.contains(['a'], self.list)",
        "isURL(self.name) ? url(self.name).getHostname() == 'a' : true",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3')",
        "quantity('1k').add(quantity('1k')).isGreaterThan(quantity('1k'))",
        "self.name.lowerAscii().split('-').map(x, x.trim()).join('-').matches('^[a-z-]*$')",
    ],
)
def test_rules_in_what_a_cluster_knows_are_accepted(api: httpx.Client, rule: str) -> None:
    body = ruled(f"g{uuid4().hex[:8]}.example.com", with_rule({"rule": rule}))
    made(api.post(CRDS, json=body, params={"dryRun": "All"}))
