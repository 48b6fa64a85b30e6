"""What every cluster does with custom resources, over HTTP only."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.apiserver.servers import watch_lines
from tests.integration.apiserver.test_conformance_objects import (
    APPLY,
    MERGE,
    STRATEGIC,
    TABLE,
    made,
    refused,
)

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


STATUS = {
    "phase": {"type": "string"},
    "size": {"type": "integer"},
    "selector": {"type": "string"},
}


def definition(group: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 10},
                    "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                    "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                    "ports": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["port"],
                        "items": {
                            "type": "object",
                            "required": ["port"],
                            "properties": {
                                "port": {"type": "integer"},
                                "protocol": {"type": "string", "default": "TCP"},
                            },
                        },
                    },
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    "either": {"x-kubernetes-int-or-string": True},
                },
            },
            "status": {"type": "object", "properties": STATUS},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.size",
                            "statusReplicasPath": ".status.size",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
                    ],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


@pytest.fixture
def group(api: httpx.Client) -> Iterator[str]:
    """An API group with widgets, served."""
    name = f"g{uuid4().hex[:8]}.example.com"
    meta = made(api.post(CRDS, json=definition(name)))["metadata"]
    watch_lines(
        api,
        CRDS,
        lambda event: any(
            condition["type"] == "Established" and condition["status"] == "True"
            for condition in event["object"].get("status", {}).get("conditions", [])
        ),
        fieldSelector=f"metadata.name={meta['name']}",
    )
    yield name
    api.delete(f"{CRDS}/widgets.{name}")


def widgets(group: str, namespace: str, name: str = "") -> str:
    return f"/apis/{group}/v1/namespaces/{namespace}/widgets" + (f"/{name}" if name else "")


def widget(group: str, called: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{group}/v1",
        "kind": "Widget",
        "metadata": {"name": called},
        "spec": {"size": 1, **spec},
    }


def test_custom_resource_is_discovered(api: httpx.Client, group: str) -> None:
    listing = made(api.get(f"/apis/{group}/v1"))
    found = {resource["name"]: resource for resource in listing["resources"]}
    assert found["widgets"]["kind"] == "Widget"
    assert found["widgets"]["shortNames"] == ["wd"]
    assert "widgets/status" in found
    groups = [item["name"] for item in made(api.get("/apis"))["groups"]]
    assert group in groups


def test_defaults_are_set_and_unknown_fields_pruned(
    api: httpx.Client, group: str, namespace: str
) -> None:
    body = widget(group, "w", extra=1, free={"any": {"thing": 1}}, ports=[{"port": 1, "x": 2}])
    answer = api.post(widgets(group, namespace), json=body)
    value = made(answer)
    assert value["spec"] == {
        "size": 1,
        "color": "red",
        "free": {"any": {"thing": 1}},
        "ports": [{"port": 1, "protocol": "TCP"}],
    }
    assert value["metadata"]["generation"] == 1
    assert 'unknown field \\"spec.extra\\"' in answer.headers["warning"]


def test_strict_validation_refuses_unknown_fields(
    api: httpx.Client, group: str, namespace: str
) -> None:
    body = widget(group, "w", extra=1)
    strict = {"fieldValidation": "Strict"}
    status = refused(
        api.post(widgets(group, namespace), json=body, params=strict), 400, "BadRequest"
    )
    assert status["message"].endswith('strict decoding error: unknown field "spec.extra"')


@pytest.mark.parametrize(
    ("spec", "field", "text"),
    [
        ({"size": 11}, "spec.size", "should be less than or equal to 10"),
        ({"size": 0}, "spec.size", "should be greater than or equal to 1"),
        ({"size": "1"}, "spec.size", "must be of type integer"),
        ({"color": "blue"}, "spec.color", 'supported values: "red", "green"'),
        ({"name": "A"}, "spec.name", "should match '^[a-z]+$'"),
        ({"name": "abcdef"}, "spec.name", "Too long: may not be more than 5"),
        ({"either": True}, "spec.either", "must be of type"),
        ({"ports": [{"port": 1}, {"port": 1}]}, "spec.ports[1]", "Duplicate value"),
        ({"ports": [{}]}, "spec.ports[0].port", "Required value"),
    ],
)
def test_schema_is_enforced(
    api: httpx.Client,
    group: str,
    namespace: str,
    spec: dict[str, Any],
    field: str,
    text: str,
) -> None:
    body = widget(group, "w", **spec)
    status = refused(api.post(widgets(group, namespace), json=body), 422, "Invalid")
    causes = {cause["field"]: cause["message"] for cause in status["details"]["causes"]}
    assert text in causes[field]
    assert status["message"].startswith(f'Widget.{group} "w" is invalid: ')


def test_missing_required_field_is_invalid(api: httpx.Client, group: str, namespace: str) -> None:
    body = widget(group, "w")
    del body["spec"]["size"]
    status = refused(api.post(widgets(group, namespace), json=body), 422, "Invalid")
    assert "spec.size: Required value" in status["message"]


def test_status_and_spec_are_apart(api: httpx.Client, group: str, namespace: str) -> None:
    body = {**widget(group, "w"), "status": {"phase": "Early"}}
    value = made(api.post(widgets(group, namespace), json=body))
    assert "status" not in value
    path = widgets(group, namespace, "w")
    patch = {"status": {"phase": "Ok"}, "spec": {"size": 5}}
    value = made(api.patch(f"{path}/status", json=patch, headers=MERGE))
    assert (value["status"], value["spec"]["size"]) == ({"phase": "Ok"}, 1)
    assert value["metadata"]["generation"] == 1
    value = made(api.patch(path, json=patch, headers=MERGE))
    assert (value["status"], value["spec"]["size"]) == ({"phase": "Ok"}, 5)
    assert value["metadata"]["generation"] == 2


def test_scale_is_where_the_definition_says(api: httpx.Client, group: str, namespace: str) -> None:
    made(api.post(widgets(group, namespace), json=widget(group, "a", size=2)))
    path = widgets(group, namespace, "a")
    status = {"status": {"size": 1, "selector": "app=a"}}
    made(api.patch(f"{path}/status", json=status, headers=MERGE))
    scale = made(api.get(f"{path}/scale"))
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert (scale["spec"], scale["status"]) == (
        {"replicas": 2},
        {"replicas": 1, "selector": "app=a"},
    )
    scale["spec"]["replicas"] = 3
    assert made(api.put(f"{path}/scale", json=scale))["spec"] == {"replicas": 3}
    held = made(api.get(path))
    assert held["spec"]["size"] == 3
    assert held["metadata"]["generation"] == 2
    patch = {"spec": {"replicas": 11}}
    answer = api.patch(f"{path}/scale", json=patch, headers=MERGE)
    refused(answer, 422, "Invalid")


def test_strategic_patch_is_not_for_custom_resources(
    api: httpx.Client, group: str, namespace: str
) -> None:
    made(api.post(widgets(group, namespace), json=widget(group, "w")))
    answer = api.patch(widgets(group, namespace, "w"), json={}, headers=STRATEGIC)
    refused(answer, 415, "UnsupportedMediaType")


def test_apply_merges_lists_by_their_keys(api: httpx.Client, group: str, namespace: str) -> None:
    path = widgets(group, namespace, "w")
    for manager, port in (("one", 1), ("two", 2)):
        body = widget(group, "w", ports=[{"port": port}])
        query = {"fieldManager": manager}
        made(api.patch(path, json=body, headers=APPLY, params=query))
    ports = made(api.get(path))["spec"]["ports"]
    assert [item["port"] for item in ports] == [1, 2]
    body = widget(group, "w")
    made(api.patch(path, json=body, headers=APPLY, params={"fieldManager": "one"}))
    assert [item["port"] for item in made(api.get(path))["spec"]["ports"]] == [2]


def test_update_needs_a_version(api: httpx.Client, group: str, namespace: str) -> None:
    made(api.post(widgets(group, namespace), json=widget(group, "w")))
    answer = api.put(widgets(group, namespace, "w"), json=widget(group, "w"))
    assert "must be specified for an update" in refused(answer, 422, "Invalid")["message"]


def test_printer_columns_are_shown(api: httpx.Client, group: str, namespace: str) -> None:
    made(api.post(widgets(group, namespace), json=widget(group, "w", size=7)))
    table = made(api.get(widgets(group, namespace), headers=TABLE))
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Size", "Phase"]
    assert table["rows"][0]["cells"] == ["w", 7, None]


def test_watch_tells_of_custom_resources(api: httpx.Client, group: str, namespace: str) -> None:
    start = made(api.get(widgets(group, namespace)))["metadata"]["resourceVersion"]
    made(api.post(widgets(group, namespace), json=widget(group, "w")))
    (event,) = watch_lines(api, widgets(group, namespace), 1, resourceVersion=start)
    assert event["type"] == "ADDED"
    assert event["object"]["apiVersion"] == f"{group}/v1"


def test_objects_go_with_their_definition(api: httpx.Client, group: str, namespace: str) -> None:
    start = made(api.post(widgets(group, namespace), json=widget(group, "w")))
    version = start["metadata"]["resourceVersion"]
    made(api.delete(f"{CRDS}/widgets.{group}"))
    watch_lines(
        api,
        CRDS,
        lambda event: event["type"] == "DELETED",
        fieldSelector=f"metadata.name=widgets.{group}",
        resourceVersion=version,
    )
    refused(api.get(widgets(group, namespace)), 404, "NotFound")
    # Served again, it is empty.
    made(api.post(CRDS, json=definition(group)))
    watch_lines(
        api,
        CRDS,
        lambda event: "status" in event["object"],
        fieldSelector=f"metadata.name=widgets.{group}",
    )
    assert made(api.get(widgets(group, namespace)))["items"] == []


def test_scale_of_a_definition_names_fields(api: httpx.Client) -> None:
    for field, path in (("specReplicasPath", ".status.size"), ("statusReplicasPath", "size")):
        body = definition(f"g{uuid4().hex[:8]}.example.com")
        body["spec"]["versions"][0]["subresources"]["scale"][field] = path
        causes = refused(api.post(CRDS, json=body), 422, "Invalid")["details"]["causes"]
        assert [c["field"] for c in causes] == [f"spec.versions[0].subresources.scale.{field}"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"scope": "Galaxy"}, 'supported values: "Cluster", "Namespaced"'),
        ({"group": "short"}, "should be a domain with at least one dot"),
        ({"names": {"plural": "other", "kind": "Other"}}, "must be spec.names.plural"),
        ({"versions": []}, "must have exactly one version marked as storage version"),
    ],
)
def test_bad_definition_is_invalid(api: httpx.Client, change: dict[str, Any], text: str) -> None:
    body = definition(f"g{uuid4().hex[:8]}.example.com")
    body["spec"].update(change)
    assert text in refused(api.post(CRDS, json=body), 422, "Invalid")["message"]
