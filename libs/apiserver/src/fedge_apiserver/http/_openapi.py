"""OpenAPI documents, as far as clients use them: validation and ``kubectl explain``.

``kubectl`` looks for the ``fieldValidation`` parameter of a kind's PATCH; where it finds it, it
leaves validation to the server.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

import hashlib
from typing import Any, Final

from fedge_apiserver.http._messages import encode
from fedge_apiserver.resources import Catalog, Resource
from fedge_apiserver.schema import type_table
from fedge_apiserver.strategic import MERGE_KEYS
from fedge_objects import JsonObject

_PREFIX: Final = "io.fedge.api."
V2_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_VERSION: Final = "v1.32.0"
_SCALARS: Final[dict[str, dict[str, Any]]] = {
    "s": {"type": "string"},
    "i": {"type": "integer", "format": "int64"},
    "b": {"type": "boolean"},
    "n": {"type": "number", "format": "double"},
    "t": {"type": "string", "format": "date-time"},
    "y": {"type": "string", "format": "byte"},
    "q": {"type": "string"},
    "x": {"type": "string", "format": "int-or-string"},
    "o": {"type": "object"},
}
_PATCH_TYPES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


class OpenApi:
    """Makes the documents from what is served at the moment."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def v2(self) -> JsonObject:
        """Return the one document of version 2."""
        paths: JsonObject = {}
        definitions: JsonObject = {}
        for resource in self._catalog:
            for path, item in _paths(resource, is_v3=False).items():
                paths[path] = item
            _add_schemas(resource, "#/definitions/", definitions)
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": _VERSION},
            "paths": paths,
            "definitions": definitions,
        }

    def v2_protobuf(self) -> bytes:
        """Return a document of version 2 that describes nothing, in gnostic's encoding.

        ``kubectl`` asks for it only for kinds that are not in version 3, to validate what no server
        would; where it finds no description, it goes on to say that there is no such kind.
        """

        def text(number: int, content: bytes) -> bytes:
            return bytes([number << 3 | 2, len(content)]) + content

        info = text(1, b"Kubernetes") + text(2, _VERSION.encode())
        return text(1, b"2.0") + text(2, info) + text(8, b"") + text(9, b"")

    def v3_index(self) -> JsonObject:
        """Return where the documents of version 3 lie, one for each group and version."""
        paths: JsonObject = {}
        for group, versions in self._catalog.versions().items():
            for version in versions:
                path = f"apis/{group}/{version}" if group else f"api/{version}"
                document = encode(self.v3(group, version) or {})
                digest = hashlib.sha256(document).hexdigest().upper()
                paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return {"paths": paths}

    def v3(self, group: str, version: str) -> JsonObject | None:
        """Return the document of a group's version; None if it is not served."""
        served = [r for r in self._catalog if r.group == group and r.version == version]
        if not served:
            return None
        paths: JsonObject = {}
        schemas: JsonObject = {}
        for resource in served:
            paths.update(_paths(resource, is_v3=True))
            _add_schemas(resource, "#/components/schemas/", schemas)
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": _VERSION},
            "paths": paths,
            "components": {"schemas": schemas},
        }


def _schema_name(resource: Resource) -> str:
    if resource.schema is not None:
        return _PREFIX + resource.schema
    domain = ".".join(reversed(resource.group.split(".")))
    return f"{domain}.{resource.version}.{resource.kind}"


def _gvk(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _paths(resource: Resource, *, is_v3: bool) -> JsonObject:
    root = f"/apis/{resource.group}" if resource.group else "/api"
    scope = "/namespaces/{namespace}" if resource.namespaced else ""
    collection = f"{root}/{resource.version}{scope}/{resource.plural}"
    paths: JsonObject = {collection: {"post": _operation(resource, "post", is_v3=is_v3)}}
    if resource.storage:
        paths[collection]["get"] = _operation(resource, "list", is_v3=is_v3)
        paths[f"{collection}/{{name}}"] = {
            method: _operation(resource, method, is_v3=is_v3)
            for method in ("get", "put", "patch", "delete")
        }
    return paths


def _operation(resource: Resource, action: str, *, is_v3: bool) -> JsonObject:
    value: JsonObject = {
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(resource),
    }
    if action in ("post", "put", "patch"):
        kinds = ("dryRun", "fieldManager", "fieldValidation", "pretty")
        value["parameters"] = [_parameter(name, is_v3=is_v3) for name in kinds]
        types = _PATCH_TYPES if action == "patch" else ("application/json", "application/yaml")
        if is_v3:
            content = {name: {"schema": {"type": "object"}} for name in types}
            value["requestBody"] = {"content": content}
        else:
            value["consumes"] = list(types)
    return value


def _parameter(name: str, *, is_v3: bool) -> JsonObject:
    kind = {"schema": {"type": "string", "uniqueItems": True}} if is_v3 else {"type": "string"}
    return {"name": name, "in": "query", **kind}


def _add_schemas(resource: Resource, root: str, into: JsonObject) -> None:
    name = _schema_name(resource)
    if resource.schema is not None:
        _add_type(resource.schema, root, into)
        into[name] = {**into[name], "x-kubernetes-group-version-kind": [_gvk(resource)]}
        return
    _add_type("ObjectMeta", root, into)
    schema = dict(resource.structural or {})
    schema["properties"] = {
        **schema.get("properties", {}),
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"$ref": f"{root}{_PREFIX}ObjectMeta"},
    }
    schema["type"] = "object"
    schema["x-kubernetes-group-version-kind"] = [_gvk(resource)]
    into[name] = schema


def _add_type(type_name: str, root: str, into: JsonObject) -> None:
    if _PREFIX + type_name in into:
        return
    described = type_table()[type_name]
    schema: JsonObject = {"type": "object", "properties": {}}
    into[_PREFIX + type_name] = schema
    for field, code in described["f"].items():
        schema["properties"][field] = _described(code, root, into)
    # Without these kubectl takes a merged list for one that is replaced.
    for field, key in MERGE_KEYS.get(type_name, {}).items():
        strategy = "merge,retainKeys" if field == "volumes" else "merge"
        schema["properties"][field]["x-kubernetes-patch-strategy"] = strategy
        if key:
            schema["properties"][field]["x-kubernetes-patch-merge-key"] = key
    if required := described.get("r"):
        schema["required"] = required


def _described(code: str, root: str, into: JsonObject) -> JsonObject:
    match code[0]:
        case "[":
            return {"type": "array", "items": _described(code[1:], root, into)}
        case "{":
            return {"type": "object", "additionalProperties": _described(code[1:], root, into)}
        case "#":
            _add_type(code[1:], root, into)
            return {"$ref": f"{root}{_PREFIX}{code[1:]}"}
        case _:
            return dict(_SCALARS[code])
