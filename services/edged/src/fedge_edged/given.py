"""What edged relies on in the objects beside pods, checked before one takes the place of another.

Config maps, secrets, service accounts and the node's own object are read in many places, each of
which would have to expect anything. https://kubernetes.io/docs/reference/kubernetes-api/
"""

from typing import Any

import msgspec

from fedge_objects import JsonObject

_Texts = dict[str, str] | None


class _Metadata(msgspec.Struct):
    labels: _Texts = None
    annotations: _Texts = None


class _ConfigMap(msgspec.Struct):
    metadata: _Metadata
    data: _Texts = None
    binary_data: _Texts = msgspec.field(name="binaryData", default=None)


class _Secret(msgspec.Struct):
    metadata: _Metadata
    data: _Texts = None
    type: str | None = None


class _Reference(msgspec.Struct):
    name: str = ""


class _ServiceAccount(msgspec.Struct):
    metadata: _Metadata
    pull_secrets: list[_Reference] | None = msgspec.field(name="imagePullSecrets", default=None)


class _Taint(msgspec.Struct):
    key: str
    effect: str
    value: str | None = None


class _NodeSpec(msgspec.Struct):
    taints: list[_Taint] | None = None


class _Condition(msgspec.Struct):
    type: str
    status: str


class _NodeStatus(msgspec.Struct):
    conditions: list[_Condition] | None = None


class _Node(msgspec.Struct):
    metadata: _Metadata
    spec: _NodeSpec | None = None
    status: _NodeStatus | None = None


_KINDS: dict[str, type[Any]] = {
    "configmaps": _ConfigMap,
    "secrets": _Secret,
    "serviceaccounts": _ServiceAccount,
    "nodes": _Node,
}


def check(resource: str, obj: JsonObject) -> None:
    """Make sure that an object can be read.

    Raises:
        ValueError: a field has the wrong type; the text names it.
    """
    kind = _KINDS.get(resource)
    if kind is not None:
        msgspec.convert(obj, kind)
