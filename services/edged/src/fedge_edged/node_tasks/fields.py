"""Which settings may be changed from afar, and what KubeEdge calls them.

A list of what may, not of what may not: paths of the gateway's disk, addresses, keys and commands
are for whoever has the gateway, and no value here becomes part of a command.
KubeEdge's names: https://kubeedge.io/docs/setup/config
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fedge_edged.amounts import amounts_of


class FieldError(ValueError):
    """A setting cannot be changed so; the text names it and says what to do."""


def _as_is(text: str) -> str:
    return text


def _seconds(text: str) -> str:
    """Return seconds of a duration as Go writes it (``1m30s``), or of a bare number."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return text
    if not re.fullmatch(r"(\d+(\.\d+)?(h|m|s|ms))+", text):
        raise FieldError(f"{text!r} is no duration: write 90s or 1m30s")
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    return f"{math.fsum(float(number) * units[unit] for number, unit in parts):g}"


def _mapping(text: str) -> str:
    """Return a JSON object of ``{"memory": "200Mi"}`` or of ``memory=200Mi,cpu=100m``."""
    try:
        found = json.loads(text)
    except ValueError:
        found = dict(each.split("=", 1) for each in text.split(",") if "=" in each)
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise FieldError(f'{text!r} is no mapping: write {{"memory": "200Mi"}}')
    return json.dumps(found)


def _amounts(text: str) -> str:
    found = _mapping(text)
    amounts_of(json.loads(found))
    return found


def _texts(text: str) -> str:
    """Return a JSON list of ``["10.0.0.10"]`` or of ``10.0.0.10,10.0.0.11``."""
    try:
        found = json.loads(text)
    except ValueError:
        found = [each.strip() for each in text.split(",") if each.strip()]
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise FieldError(f"{text!r} is no list of texts")
    return json.dumps(found)


@dataclass(frozen=True, slots=True)
class _Field:
    variable: str
    kubeedge: tuple[str, ...] = ()
    read: Callable[[str], str] = _as_is


_EDGED: Final = "modules.edged."
_KUBELET: Final = "modules.edged.tailoredKubeletConfig."
_FIELDS: Final = (
    _Field("FEDGE_LOG_LEVEL"),
    _Field("FEDGE_TRACE_RATIO"),
    _Field("FEDGE_TRACE_PER_SECOND"),
    _Field("FEDGE_TRACE_BUFFER"),
    _Field("FEDGE_EDGE_HEARTBEAT_SECONDS", ("modules.edgeHub.heartbeat",), _seconds),
    _Field("FEDGE_META_DIGEST_SECONDS"),
    _Field("FEDGE_TWIN_REPORT_EVERY_SECONDS"),
    _Field("FEDGE_TWIN_WORDS_PER_SECOND"),
    _Field("FEDGE_TWIN_WORDS_AT_ONCE"),
    _Field("FEDGE_EDGED_MAX_PODS", (f"{_KUBELET}maxPods",)),
    _Field("FEDGE_EDGED_CLUSTER_DNS", (f"{_KUBELET}clusterDNS",), _texts),
    _Field("FEDGE_EDGED_CLUSTER_DOMAIN", (f"{_KUBELET}clusterDomain",)),
    _Field("FEDGE_EDGED_CONTAINER_LOG_MAX_SIZE", (f"{_KUBELET}containerLogMaxSize",)),
    _Field("FEDGE_EDGED_CONTAINER_LOG_MAX_FILES", (f"{_KUBELET}containerLogMaxFiles",)),
    _Field("FEDGE_EDGED_MAX_PARALLEL_IMAGE_PULLS", (f"{_KUBELET}maxParallelImagePulls",)),
    _Field("FEDGE_EDGED_MAX_PARALLEL_STARTS"),
    _Field("FEDGE_EDGED_IMAGE_GC_HIGH_PERCENT", (f"{_KUBELET}imageGCHighThresholdPercent",)),
    _Field("FEDGE_EDGED_IMAGE_GC_LOW_PERCENT", (f"{_KUBELET}imageGCLowThresholdPercent",)),
    _Field("FEDGE_EDGED_RELIST_SECONDS"),
    _Field(
        "FEDGE_EDGED_REPORT_SECONDS",
        (f"{_KUBELET}nodeStatusReportFrequency", f"{_EDGED}nodeStatusUpdateFrequency"),
        _seconds,
    ),
    _Field("FEDGE_EDGED_SYSTEM_RESERVED", (f"{_KUBELET}systemReserved",), _amounts),
    _Field("FEDGE_EDGED_KUBE_RESERVED", (f"{_KUBELET}kubeReserved",), _amounts),
    _Field("FEDGE_EDGED_EVICTION_HARD", (f"{_KUBELET}evictionHard",), _mapping),
    _Field(
        "FEDGE_EDGED_EVICTION_TRANSITION_SECONDS",
        (f"{_KUBELET}evictionPressureTransitionPeriod",),
        _seconds,
    ),
    _Field("FEDGE_EDGED_SHUTDOWN_GRACE_SECONDS", (f"{_KUBELET}shutdownGracePeriod",), _seconds),
    _Field(
        "FEDGE_EDGED_SHUTDOWN_GRACE_CRITICAL_SECONDS",
        (f"{_KUBELET}shutdownGracePeriodCriticalPods",),
        _seconds,
    ),
    _Field("FEDGE_EDGED_OFFLINE_TOKENS"),
)
_BY_NAME: Final = {name: field for field in _FIELDS for name in (field.variable, *field.kubeedge)}
_REMEDIES: Final = (
    ("modules.edged.hostnameOverride", "the node's name is who it is: join it anew by that name"),
    ("modules.edged.rootDirectory", "it is for the gateway: set FEDGE_EDGE_DATA_DIR there"),
    (f"{_KUBELET}staticPodPath", "it is for the gateway: set FEDGE_EDGED_STATIC_POD_DIR there"),
    (f"{_KUBELET}cgroupDriver", "fedge makes cgroups by their paths and has no driver to choose"),
    (
        f"{_KUBELET}containerRuntimeEndpoint",
        "it is for the gateway: set FEDGE_EDGED_CRI_SOCKET there",
    ),
    ("modules.edged.", "fedge has no setting that says the same"),
    (
        "modules.edgeHub.",
        "an edge learns where its cloud is when it joins: join it anew (`fedge token create`)",
    ),
    ("modules.eventBus.", "the edge's own broker serves MQTT; its port is the image's to publish"),
    ("modules.metaManager.", "meta always keeps what the node was given, and serves it"),
    ("modules.deviceTwin.", "twin always runs; FEDGE_TWIN_REPORT_EVERY_SECONDS paces its reports"),
    ("modules.edgeStream.", "logs and exec need no tunnel here: there is nothing to switch on"),
    ("database.", "it is for the gateway: set FEDGE_EDGE_DATA_DIR there"),
    ("FEDGE_", "it is for the gateway: set it in the environment of the edge there"),
)


def read_fields(updated: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a job's ``updateFields`` mean, and their values.

    Raises:
        FieldError: one may not be changed from afar, is not known, or has a value that is none;
            all of them are named.
    """
    found: dict[str, str] = {}
    wrong: list[str] = []
    for name, value in updated.items():
        field = _BY_NAME.get(name.removeprefix("."))
        if field is None:
            wrong.append(f"{name}: {_remedy(name)}")
            continue
        try:
            text = field.read(value.strip())
        except ValueError as exc:
            wrong.append(f"{name}: {exc}")
            continue
        if found.get(field.variable, text) != text:
            wrong.append(f"{name}: {field.variable} is named twice, with different values")
        found[field.variable] = text
    if wrong:
        raise FieldError("; ".join(wrong))
    return found


def changeable() -> list[tuple[str, tuple[str, ...]]]:
    """Return every variable that may be changed, and KubeEdge's paths that mean it."""
    return [(field.variable, field.kubeedge) for field in _FIELDS]


def _remedy(name: str) -> str:
    for prefix, remedy in _REMEDIES:
        if name.removeprefix(".").startswith(prefix):
            return f"may not be changed from afar; {remedy}"
    return "is no setting of an edge; docs/guides/upgrading.md names those that may be changed"
