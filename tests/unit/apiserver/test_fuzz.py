"""Whatever is sent by what the OpenAPI documents describe, or nearly so: an answer, never a fault.

Requests are made from the server's own documents: each kind's schema gives bodies, with values of
other types, unknown fields and nulls among them; paths, queries and content types vary too.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from fedge_apiserver.access import bootstrap_roles
from fedge_apiserver.http import ApiApplication
from fedge_apiserver.http._openapi import OpenApi
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import BUILTIN, Catalog, Resource
from fedge_apiserver.storage import MemoryStorage
from fedge_apiserver.store import Store

DEEPEST = 5
NAMES = st.sampled_from(["a", "b", "default", "kube-system", "A_B", "..", "a" * 254, "ä", ""])
ODD: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-5, max_value=5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.just([]),
    st.just({}),
    st.just([{}]),
    st.just([None]),
    st.just({"": None}),
)
TEXTS = st.one_of(
    NAMES,
    st.text(max_size=8),
    st.sampled_from(
        ["Always", "TCP", "10%", "1Gi", "-1", "2026-01-01T00:00:00Z", "v1", "Pod", "NoExecute"]
    ),
)
PROTOBUF = "application/vnd.kubernetes.protobuf"
PATCHES = (
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
)
QUERIES = st.dictionaries(
    st.sampled_from(
        [
            "labelSelector", "fieldSelector", "limit", "continue", "resourceVersion",
            "resourceVersionMatch", "dryRun", "fieldManager", "fieldValidation", "force",
            "propagationPolicy", "gracePeriodSeconds", "pretty", "includeObject",
        ]
    ),
    st.sampled_from(
        ["", "a", "a=b", "a in (b", "!a", "metadata.name=a", "spec.nodeName=x", "0", "1", "-1",
         "99999999999999999999", "All", "Strict", "Ignore", "Exact", "NotOlderThan", "true",
         "Foreground", "Orphan", "None", "eyJ2IjoibWV0YSJ9", "\x00", "²"]
    ),
    max_size=3,
)  # fmt: skip
OPERATIONS = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "?"])},
        optional={
            "path": st.sampled_from(["", "/", "/metadata", "/spec/0", "/metadata/labels/a", "x"]),
            "from": st.sampled_from(["/metadata/name", "/nothing", ""]),
            "value": ODD,
        },
    ),
    max_size=3,
)


def documents() -> dict[str, dict[str, Any]]:
    """Return the schemas that the documents hold, by name."""
    catalog = Catalog()
    openapi = OpenApi(catalog)
    schemas: dict[str, dict[str, Any]] = {}
    for group, versions in catalog.versions().items():
        for version in versions:
            document = openapi.v3(group, version)
            assert document is not None
            schemas.update(document["components"]["schemas"])
    return schemas


SCHEMAS = documents()
BY_KIND = {
    (each["group"], each["kind"]): name
    for name, schema in SCHEMAS.items()
    for each in schema.get("x-kubernetes-group-version-kind", ())
}


def draw_value(  # noqa: PLR0911 - one for each type
    draw: Any, schema: dict[str, Any], depth: int
) -> Any:
    """Return a value for a schema; now and then one that does not fit."""
    if draw(st.integers(min_value=0, max_value=19)) == 0:
        return draw(ODD)
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    match schema.get("type"):
        case "object" if "properties" in schema and depth < DEEPEST:
            fields = sorted(schema["properties"])
            chosen = set(draw(st.lists(st.sampled_from(fields), max_size=4))) if fields else set()
            chosen |= set(schema.get("required", ()))
            value = {
                field: draw_value(draw, schema["properties"][field], depth + 1)
                for field in sorted(chosen)
            }
            if draw(st.integers(min_value=0, max_value=19)) == 0:
                value["unknown"] = draw(ODD)
            return value
        case "object":
            inner = schema.get("additionalProperties")
            if not isinstance(inner, dict) or depth >= DEEPEST:
                return {}
            keys = draw(st.lists(TEXTS, max_size=2))
            return {key: draw_value(draw, inner, depth + 1) for key in keys}
        case "array":
            count = draw(st.integers(min_value=0, max_value=2))
            return [draw_value(draw, schema.get("items", {}), depth + 1) for _ in range(count)]
        case "integer":
            return draw(st.sampled_from([0, 1, -1, 80, 2**31, 2**63, -(2**64)]))
        case "number":
            return draw(st.floats(allow_nan=False))
        case "boolean":
            return draw(st.booleans())
        case _:
            return draw(TEXTS)


@st.composite
def bodies(draw: Any, resource: Resource) -> Any:
    """A body for a kind: mostly an object of it with a name that can be."""
    value = draw_value(draw, SCHEMAS[BY_KIND[resource.group, resource.kind]], 0)
    if isinstance(value, dict):
        if draw(st.booleans()):
            value["apiVersion"], value["kind"] = resource.api_version, resource.kind
        else:
            value.pop("apiVersion", None)
            value.pop("kind", None)
        meta = value.get("metadata")
        if draw(st.integers(min_value=0, max_value=9)):
            kept = meta if isinstance(meta, dict) else {}
            value["metadata"] = {**kept, "name": draw(NAMES)}
            value["metadata"].pop("namespace", None)
            value["metadata"].pop("resourceVersion", None)
    return value


@asynccontextmanager
async def served() -> AsyncIterator[httpx.AsyncClient]:
    """A server in this process, with nothing in it but what every cluster has."""
    store = Store(MemoryStorage())
    await store.open()
    registry = Registry(store, Catalog())
    await registry.open()
    await bootstrap_roles(registry)
    application: Any = ApiApplication(registry)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            yield client
    finally:
        await store.close()


def path_of(resource: Resource, namespace: str, name: str = "", subresource: str = "") -> str:
    root = f"/apis/{resource.group}" if resource.group else "/api"
    where = f"/namespaces/{namespace}" if resource.namespaced else ""
    rest = "".join(f"/{part}" for part in (name, subresource) if part)
    return f"{root}/{resource.version}{where}/{resource.plural}{rest}"


def check(answer: httpx.Response) -> None:
    """Judge an answer: understood, or refused with a Status that says why."""
    assert answer.status_code < 500 or answer.status_code == 504, answer.text
    if answer.status_code >= 400:
        status = answer.json()
        assert status["kind"] == "Status"
        assert status["status"] == "Failure"
        assert status["code"] == answer.status_code
        assert status["reason"]
        assert status["message"]


@pytest.mark.parametrize("resource", BUILTIN, ids=lambda r: f"{r.plural}.{r.group}".rstrip("."))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_kind_answers_whatever_is_sent(resource: Resource, data: DataObject) -> None:
    asyncio.run(ask(resource, data))


async def ask(resource: Resource, data: DataObject) -> None:
    async with served() as api:
        for _ in range(data.draw(st.integers(min_value=1, max_value=4))):
            body = data.draw(bodies(resource))
            meta = body.get("metadata") if isinstance(body, dict) else None
            name = meta.get("name") if isinstance(meta, dict) else None
            name = name if isinstance(name, str) and name and data.draw(st.booleans()) else "a"
            query = data.draw(QUERIES)
            whole = path_of(resource, "default")
            one = path_of(resource, "default", quote(name, safe=""))
            if data.draw(st.booleans()) and resource.subresources:
                one += f"/{data.draw(st.sampled_from(resource.subresources))}"
            content = json.dumps(body).encode()
            kind = {"content-type": "application/json"}
            match data.draw(st.sampled_from(["post", "put", "patch", "get", "list", "delete"])):
                case "post":
                    answer = await api.post(whole, content=content, headers=kind, params=query)
                case "put":
                    answer = await api.put(one, content=content, headers=kind, params=query)
                case "patch":
                    patch_type = data.draw(st.sampled_from(PATCHES))
                    if "json-patch" in patch_type:
                        content = json.dumps(data.draw(OPERATIONS)).encode()
                    headers = {"content-type": patch_type}
                    answer = await api.patch(one, content=content, headers=headers, params=query)
                case "get":
                    answer = await api.get(one, params=query)
                case "list":
                    answer = await api.get(whole, params=query)
                case _:
                    answer = await api.delete(one, params=query)
            check(answer)
            # What was stored can be read, listed and shown as a table.
            if resource.storage and answer.status_code in (200, 201):
                accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
                assert (await api.get(whole)).status_code == 200
                assert (await api.get(whole, headers=accept)).status_code == 200


@settings(max_examples=150, deadline=None)
@given(
    content=st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)),
    kind=st.sampled_from(
        ["application/json", "application/yaml", "text/plain", "", PROTOBUF]
    ),
)  # fmt: skip
def test_bodies_that_are_no_objects_are_refused(content: bytes, kind: str) -> None:
    asyncio.run(post(content, kind))


async def post(content: bytes, kind: str) -> None:
    async with served() as api:
        answer = await api.post(
            "/api/v1/namespaces/default/pods", content=content, headers={"content-type": kind}
        )
        check(answer)
        assert answer.status_code >= 400
