"""Write the fields and types of the built-in kinds that fedge_apiserver serves.

The source is the OpenAPI description inside the official ``kubernetes`` package, so it runs where
that package is installed; the result is committed, because the server must not import the package:
it costs 80 MB. Run it again when the package's Kubernetes version changes::

    python scripts/generate_schemas.py
"""

import json
import typing
from importlib.metadata import version
from pathlib import Path

from kubernetes.client import models
from pydantic import BaseModel

TARGET = Path(__file__).parent.parent / "libs/apiserver/src/fedge_apiserver/schema/builtin.json"

ROOTS = (
    "AuthenticationV1TokenRequest",
    "V1Binding",
    "V1ClusterRole",
    "V1ClusterRoleBinding",
    "V1ConfigMap",
    "V1ControllerRevision",
    "V1CronJob",
    "V1CustomResourceDefinition",
    "V1DaemonSet",
    "V1DeleteOptions",
    "V1Deployment",
    "V1Eviction",
    "V1Job",
    "V1Lease",
    "V1LocalSubjectAccessReview",
    "V1Namespace",
    "V1Node",
    "V1Pod",
    "V1PodDisruptionBudget",
    "V1ReplicaSet",
    "V1Role",
    "V1RoleBinding",
    "V1Scale",
    "V1Secret",
    "V1SelfSubjectAccessReview",
    "V1SelfSubjectReview",
    "V1SelfSubjectRulesReview",
    "V1ServiceAccount",
    "V1StatefulSet",
    "V1SubjectAccessReview",
    "V1TokenReview",
    "CoreV1Event",
    "EventsV1Event",
)

SCALARS = {
    "str": "s",
    "int": "i",
    "bool": "b",
    "float": "n",
    "datetime": "t",
    "bytes": "y",
    "object": "o",
}
# The package types quantities as plain text; the API takes numbers too.
QUANTITY_MAPS = {"limits", "requests", "capacity", "allocatable", "overhead"}
QUANTITIES = {"sizeLimit", "divisor"}


def short(model: str) -> str:
    """Return a model's name as Kubernetes' Go types call it, as far as that is unique."""
    return model.removeprefix("V1")


def is_int_or_string(model: type[BaseModel], attribute: str) -> bool:
    """Tell an IntOrString from an arbitrary value; the type table calls both ``object``."""
    field = model.model_fields.get(attribute)
    text = str(field.annotation) if field is not None else ""
    return "int" in text and "str" in text.replace("Strict", "").replace("strict", "")


def compact(model: type[BaseModel], attribute: str, name: str, kind: str) -> str:
    """Return a type's code: a scalar, ``[`` list of, ``{`` map of, ``#`` model."""
    if kind.startswith("List["):
        return "[" + compact(model, attribute, name, kind[5:-1])
    if kind.startswith("Dict[str, "):
        if name in QUANTITY_MAPS and kind == "Dict[str, str]":
            return "{q"
        return "{" + compact(model, attribute, name, kind[10:-1])
    if kind == "object" and is_int_or_string(model, attribute):
        return "x"
    if kind == "str" and name in QUANTITIES:
        return "q"
    return SCALARS.get(kind) or "#" + short(kind)


def collect(name: str, into: dict[str, dict[str, typing.Any]]) -> None:
    """Add a model and all it refers to."""
    if short(name) in into:
        return
    model = getattr(models, name)
    fields: dict[str, str] = {}
    into[short(name)] = {"f": fields}
    required = []
    for attribute, kind in model.openapi_types.items():
        key = model.attribute_map[attribute]
        fields[key] = compact(model, attribute, key, kind)
        field = model.model_fields.get(attribute)
        if field is not None and field.is_required():
            required.append(key)
        referred = kind
        while referred.startswith(("List[", "Dict[")):
            referred = referred[5:-1] if referred[0] == "L" else referred[10:-1]
        if referred not in SCALARS:
            collect(referred, into)
    if required:
        into[short(name)]["r"] = required


def main() -> None:
    """Write the file."""
    types: dict[str, dict[str, typing.Any]] = {}
    for root in ROOTS:
        collect(root, types)
    data = {
        "source": f"kubernetes {version('kubernetes')}",
        "types": dict(sorted(types.items())),
    }
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(data, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{TARGET.name}: {len(types)} types, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
