"""CustomResourceDefinitions, and the resources that they make.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

import re
from datetime import UTC, datetime
from typing import Any, Final

from fedge_apiserver.errors import Causes
from fedge_apiserver.kinds._metadata import check_label, check_subdomain
from fedge_apiserver.kinds._rules import Rules
from fedge_apiserver.resources import Resource, version_rank
from fedge_apiserver.rules import check_rules, rule_tree
from fedge_apiserver.schema import check_schema
from fedge_objects import JsonObject

_PLAIN_PATH: Final = re.compile(r"(\.[A-Za-z_][\w-]*)+")
_AGE: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")


def resources_of(definition: JsonObject) -> list[Resource]:
    """Return what a definition has served, one resource for each served version."""
    spec = definition["spec"]
    names = spec["names"]
    versions = spec["versions"]
    found: list[Resource] = []
    for version in sorted(versions, key=lambda v: version_rank(v["name"]), reverse=True):
        if not version.get("served"):
            continue
        subresources = version.get("subresources") or {}
        structural = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        found.append(
            Resource(
                group=spec["group"],
                version=version["name"],
                plural=names["plural"],
                kind=names["kind"],
                namespaced=spec["scope"] == "Namespaced",
                storage=f"{names['plural']}.{spec['group']}",
                singular=names["singular"],
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                subresources=tuple(name for name in ("status", "scale") if name in subresources),
                scale=subresources.get("scale"),
                selectable=tuple(
                    field["jsonPath"].removeprefix(".")
                    for field in version.get("selectableFields") or ()
                ),
                structural=structural,
                rules=rule_tree(structural),
                columns=tuple(version.get("additionalPrinterColumns") or (_AGE,)),
                converts=len(versions) > 1,
            )
        )
    return found


def _default(value: JsonObject) -> None:
    spec: dict[str, Any] = value.setdefault("spec", {})
    spec.setdefault("conversion", {"strategy": "None"})
    names: dict[str, Any] = spec.setdefault("names", {})
    kind = names.get("kind", "")
    names.setdefault("listKind", f"{kind}List")
    names.setdefault("singular", kind.lower())


def _accept(value: JsonObject) -> None:
    """Write the status that a cluster writes a moment later: names are free, it is served."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    spec = value["spec"]
    stored = [v["name"] for v in spec.get("versions") or () if v.get("storage")]
    before: dict[str, Any] = value.get("status") or {}
    known = before.get("storedVersions") or []
    conditions = before.get("conditions") or [
        {
            "type": "NamesAccepted",
            "status": "True",
            "lastTransitionTime": now,
            "reason": "NoConflicts",
            "message": "no conflicts found",
        },
        {
            "type": "Established",
            "status": "True",
            "lastTransitionTime": now,
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
        },
    ]
    value["status"] = {
        "conditions": conditions,
        "acceptedNames": dict(spec["names"]),
        "storedVersions": [*known, *(name for name in stored if name not in known)],
    }


def _update(new: JsonObject, old: JsonObject) -> None:
    new["status"] = old.get("status", {})
    if new["spec"] != old["spec"]:
        _accept(new)


def _check(value: JsonObject, causes: Causes) -> None:
    spec = value["spec"]
    group = spec.get("group", "")
    names = spec["names"]
    plural = names.get("plural", "")
    if not group:
        causes.required("spec.group")
    elif "." not in group:
        causes.invalid("spec.group", group, "should be a domain with at least one dot")
    else:
        check_subdomain(group, "spec.group", causes)
    if value["metadata"].get("name") != f"{plural}.{group}":
        causes.invalid(
            "metadata.name",
            value["metadata"].get("name", ""),
            'must be spec.names.plural+"."+spec.group',
        )
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        causes.not_supported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced"))
    for field in ("plural", "singular"):
        if names.get(field):
            check_label(names[field], f"spec.names.{field}", causes)
        else:
            causes.required(f"spec.names.{field}")
    for field in ("kind", "listKind"):
        if not names.get(field):
            causes.required(f"spec.names.{field}")
    if (strategy := spec["conversion"].get("strategy")) != "None":
        causes.not_supported("spec.conversion.strategy", strategy, ("None",))
    _check_versions(spec.get("versions") or [], causes)


def _check_versions(versions: list[dict[str, Any]], causes: Causes) -> None:
    if sum(bool(version.get("storage")) for version in versions) != 1:
        causes.invalid(
            "spec.versions",
            [version.get("name") for version in versions],
            "must have exactly one version marked as storage version",
        )
    seen: set[str] = set()
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        name = version.get("name", "")
        check_label(name, f"{path}.name", causes)
        if name in seen:
            causes.duplicate(f"{path}.name", name)
        seen.add(name)
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        here = f"{path}.schema.openAPIV3Schema"
        if schema is None:
            causes.required(here, "schemas are required")
        else:
            before = len(causes.found)
            check_schema(schema, here, causes)
            if len(causes.found) == before:
                check_rules(schema, here, causes)
            if isinstance(schema, dict) and schema.get("type") not in (None, "object"):
                causes.invalid(f"{here}.type", schema["type"], "must be object at the root")
        _check_scale((version.get("subresources") or {}).get("scale"), path, causes)
        for position, column in enumerate(version.get("additionalPrinterColumns") or ()):
            if column.get("type") not in _COLUMN_TYPES:
                causes.not_supported(
                    f"{path}.additionalPrinterColumns[{position}].type",
                    column.get("type", ""),
                    _COLUMN_TYPES,
                )


def _check_scale(scale: dict[str, Any] | None, path: str, causes: Causes) -> None:
    if scale is None:
        return
    for field, parent in (
        ("specReplicasPath", ".spec."),
        ("statusReplicasPath", ".status."),
        ("labelSelectorPath", (".spec.", ".status.")),
    ):
        held = scale.get(field)
        here = f"{path}.subresources.scale.{field}"
        if not held:
            if field != "labelSelectorPath":
                causes.required(here)
        elif not held.startswith(parent) or not _PLAIN_PATH.fullmatch(held):
            names = " or ".join([parent] if isinstance(parent, str) else parent)
            causes.invalid(here, held, f"should be a json path under {names.replace('. ', ' ')}")


def _check_update(new: JsonObject, old: JsonObject, causes: Causes) -> None:
    for field in ("group", "scope"):
        if new["spec"].get(field) != old["spec"].get(field):
            causes.invalid(f"spec.{field}", new["spec"].get(field), "field is immutable")
    for field in ("kind", "plural"):
        if new["spec"]["names"].get(field) != old["spec"]["names"].get(field):
            causes.invalid(
                f"spec.names.{field}", new["spec"]["names"].get(field), "field is immutable"
            )


DEFINITION_RULES: Final = Rules(
    default=_default,
    create=_accept,
    update=_update,
    check=_check,
    check_update=_check_update,
    counts_generation=True,
)
