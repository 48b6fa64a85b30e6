"""Kubernetes' protobuf bodies, as far as ``kubectl`` sends them.

``kubectl create configmap`` and its like, ``kubectl auth can-i`` and typed Go clients write
protobuf; answers they take as JSON. Types come from the table of the built-in kinds; here are only
the field numbers, of the few kinds that are sent so.

https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from fedge_apiserver.schema import fields_of

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\0"

_NUMBERS: Final[dict[str, dict[int, str]]] = {
    "ObjectMeta": {
        1: "name",
        2: "generateName",
        3: "namespace",
        4: "selfLink",
        5: "uid",
        6: "resourceVersion",
        7: "generation",
        8: "creationTimestamp",
        9: "deletionTimestamp",
        10: "deletionGracePeriodSeconds",
        11: "labels",
        12: "annotations",
        13: "ownerReferences",
        14: "finalizers",
    },
    "OwnerReference": {
        1: "kind",
        3: "name",
        4: "uid",
        5: "apiVersion",
        6: "controller",
        7: "blockOwnerDeletion",
    },
    "Namespace": {1: "metadata", 2: "spec", 3: "status"},
    "NamespaceSpec": {1: "finalizers"},
    "NamespaceStatus": {1: "phase"},
    "ConfigMap": {1: "metadata", 2: "data", 3: "binaryData", 4: "immutable"},
    "Secret": {1: "metadata", 2: "data", 3: "type", 4: "stringData", 5: "immutable"},
    "ServiceAccount": {
        1: "metadata",
        2: "secrets",
        3: "imagePullSecrets",
        4: "automountServiceAccountToken",
    },
    "ObjectReference": {
        1: "kind",
        2: "namespace",
        3: "name",
        4: "uid",
        5: "apiVersion",
        6: "resourceVersion",
        7: "fieldPath",
    },
    "LocalObjectReference": {1: "name"},
    "Lease": {1: "metadata", 2: "spec"},
    "LeaseSpec": {
        1: "holderIdentity",
        2: "leaseDurationSeconds",
        3: "acquireTime",
        4: "renewTime",
        5: "leaseTransitions",
        6: "strategy",
        7: "preferredHolder",
    },
    "AuthenticationV1TokenRequest": {1: "metadata", 2: "spec"},
    "TokenRequestSpec": {1: "audiences", 3: "boundObjectRef", 4: "expirationSeconds"},
    "BoundObjectReference": {1: "kind", 2: "apiVersion", 3: "name", 4: "uid"},
    "SelfSubjectAccessReview": {1: "metadata", 2: "spec"},
    "SelfSubjectAccessReviewSpec": {1: "resourceAttributes", 2: "nonResourceAttributes"},
    "SubjectAccessReview": {1: "metadata", 2: "spec"},
    "SubjectAccessReviewSpec": {
        1: "resourceAttributes",
        2: "nonResourceAttributes",
        3: "user",
        4: "groups",
        6: "uid",
    },
    "ResourceAttributes": {
        1: "namespace",
        2: "verb",
        3: "group",
        4: "version",
        5: "resource",
        6: "subresource",
        7: "name",
    },
    "NonResourceAttributes": {1: "path", 2: "verb"},
    "DeleteOptions": {
        1: "gracePeriodSeconds",
        2: "preconditions",
        3: "orphanDependents",
        4: "propagationPolicy",
        5: "dryRun",
    },
    "Preconditions": {1: "uid", 2: "resourceVersion"},
    "SelfSubjectReview": {1: "metadata"},
    "SelfSubjectRulesReview": {1: "metadata", 2: "spec"},
    "SelfSubjectRulesReviewSpec": {1: "namespace"},
    "Role": {1: "metadata", 2: "rules"},
    "ClusterRole": {1: "metadata", 2: "rules", 3: "aggregationRule"},
    "RoleBinding": {1: "metadata", 2: "subjects", 3: "roleRef"},
    "ClusterRoleBinding": {1: "metadata", 2: "subjects", 3: "roleRef"},
    "PolicyRule": {
        1: "verbs",
        2: "apiGroups",
        3: "resources",
        4: "resourceNames",
        5: "nonResourceURLs",
    },
    "AggregationRule": {1: "clusterRoleSelectors"},
    "RbacV1Subject": {1: "kind", 2: "apiGroup", 3: "name", 4: "namespace"},
    "RoleRef": {1: "apiGroup", 2: "kind", 3: "name"},
    "LabelSelector": {1: "matchLabels", 2: "matchExpressions"},
    "LabelSelectorRequirement": {1: "key", 2: "operator", 3: "values"},
    "Eviction": {1: "metadata", 2: "deleteOptions"},
    "PodDisruptionBudget": {1: "metadata", 2: "spec"},
    "PodDisruptionBudgetSpec": {
        1: "minAvailable",
        2: "selector",
        3: "maxUnavailable",
        4: "unhealthyPodEvictionPolicy",
    },
    "Deployment": {1: "metadata", 2: "spec"},
    "DeploymentSpec": {
        1: "replicas",
        2: "selector",
        3: "template",
        4: "strategy",
        5: "minReadySeconds",
        6: "revisionHistoryLimit",
        7: "paused",
        9: "progressDeadlineSeconds",
    },
    "DeploymentStrategy": {1: "type", 2: "rollingUpdate"},
    "RollingUpdateDeployment": {1: "maxUnavailable", 2: "maxSurge"},
    "PodTemplateSpec": {1: "metadata", 2: "spec"},
    "PodSpec": {
        2: "containers",
        3: "restartPolicy",
        4: "terminationGracePeriodSeconds",
        5: "activeDeadlineSeconds",
        6: "dnsPolicy",
        7: "nodeSelector",
        8: "serviceAccountName",
        9: "serviceAccount",
        10: "nodeName",
        11: "hostNetwork",
        12: "hostPID",
        13: "hostIPC",
        16: "hostname",
        17: "subdomain",
        19: "schedulerName",
        20: "initContainers",
        21: "automountServiceAccountToken",
        24: "priorityClassName",
        25: "priority",
    },
    "Container": {
        1: "name",
        2: "image",
        3: "command",
        4: "args",
        5: "workingDir",
        6: "ports",
        7: "env",
        8: "resources",
        9: "volumeMounts",
        13: "terminationMessagePath",
        14: "imagePullPolicy",
        16: "stdin",
        17: "stdinOnce",
        18: "tty",
        20: "terminationMessagePolicy",
    },
    "ContainerPort": {1: "name", 2: "hostPort", 3: "containerPort", 4: "protocol", 5: "hostIP"},
    "EnvVar": {1: "name", 2: "value"},
    "VolumeMount": {1: "name", 2: "readOnly", 3: "mountPath", 4: "subPath"},
    "ResourceRequirements": {},
}
_IGNORED: Final = {
    "Deployment": {3},
    "PodDisruptionBudget": {3},
    "SelfSubjectReview": {2},
    "SelfSubjectRulesReview": {3},
    "ObjectMeta": {17},
    "NamespaceStatus": {2},
    "SelfSubjectAccessReview": {3},
    "AuthenticationV1TokenRequest": {3},
}
"""Fields that the server owns anyway."""


class UnknownTypeError(ValueError):
    """A kind or field that is not read from protobuf."""


def decode_protobuf(body: bytes, type_name: str) -> dict[str, Any]:
    """Return the object in a protobuf body.

    Args:
        body: as received, with Kubernetes' envelope.
        type_name: the built-in type that is expected.

    Raises:
        UnknownTypeError: the type, or a field in it, is not known here: send JSON.
        ValueError: the body is no such message.
    """
    if type_name not in _NUMBERS:
        raise UnknownTypeError(f"{type_name} is not read from protobuf")
    if not body.startswith(_MAGIC):
        raise ValueError("provided data does not appear to be a protobuf message, expected prefix")
    value: dict[str, Any] = {}
    message: dict[str, Any] = {}
    for number, item in _fields(body[len(_MAGIC) :]):
        if number == 1 and isinstance(item, bytes):
            names = {n: _bytes(raw).decode() for n, raw in _fields(item)}
            value = {"apiVersion": names.get(1, ""), "kind": names.get(2, "")}
        elif number == 2 and isinstance(item, bytes):  # noqa: PLR2004 - the envelope's field
            message = _message(item, type_name)
    return {key: item for key, item in value.items() if item} | message


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                number, at = _varint(data, at)
                yield tag >> 3, number
            case 2:
                size, at = _varint(data, at)
                if at + size > len(data):
                    raise ValueError("unexpected EOF")
                yield tag >> 3, data[at : at + size]
                at += size
            case wire:
                raise ValueError(f"proto: illegal wireType {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, at
        shift += 7
        if shift > 63:  # noqa: PLR2004 - 64 bits
            break
    raise ValueError("unexpected EOF")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("proto: wrong wireType")  # noqa: TRY004 - the data is wrong, not the code
    return value


def _message(data: bytes, type_name: str) -> dict[str, Any]:
    numbers = _NUMBERS.get(type_name)
    if numbers is None:
        raise UnknownTypeError(f"{type_name} is not read from protobuf")
    codes = fields_of(type_name)
    value: dict[str, Any] = {}
    for number, item in _fields(data):
        name = numbers.get(number)
        if name is None:
            if number in _IGNORED.get(type_name, ()):
                continue
            raise UnknownTypeError(f"field {number} of {type_name} is not read from protobuf")
        code = codes[name]
        match code[0]:
            case "[":
                value.setdefault(name, []).append(_value(item, code[1:]))
            case "{":
                pair = dict(_fields(_bytes(item)))
                key = _bytes(pair.get(1, b"")).decode()
                value.setdefault(name, {})[key] = _value(pair.get(2, b""), code[1:])
            case _:
                decoded = _value(item, code)
                # Go writes the zero value of every field that is no pointer.
                if decoded not in ("", None) and decoded != {}:
                    value[name] = decoded
    return value


def _value(item: int | bytes, code: str) -> Any:
    match code[0]:
        case "#":
            return _message(_bytes(item), code[1:])
        case "s":
            return _bytes(item).decode()
        case "y":
            return base64.b64encode(_bytes(item)).decode()
        case "b":
            return bool(item)
        case "i":
            if isinstance(item, bytes):
                raise ValueError("proto: wrong wireType")  # noqa: TRY004 - the data is wrong
            return item - 2**64 if item >= 2**63 else item
        case "x":
            return _int_or_string(_bytes(item))
        case "t":
            return _time(_bytes(item))
        case _:
            raise UnknownTypeError(f"a field of type {code!r} is not read from protobuf")


def _int_or_string(data: bytes) -> int | str:
    parts = dict(_fields(data))
    if parts.get(1, 0):
        return _bytes(parts.get(3, b"")).decode()
    number = parts.get(2, 0)
    if isinstance(number, bytes):
        raise ValueError("proto: wrong wireType")  # noqa: TRY004 - the data is wrong
    return number - 2**64 if number >= 2**63 else number


def _time(data: bytes) -> str | None:
    parts = {number: item for number, item in _fields(data) if isinstance(item, int)}
    seconds = parts.get(1, 0)
    if not seconds or seconds >= 2**63:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    if nanos := parts.get(2, 0):
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos // 1000:06d}Z"
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
