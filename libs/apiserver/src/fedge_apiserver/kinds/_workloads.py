"""Kinds that keep pods of a template: Deployments, ReplicaSets, DaemonSets, StatefulSets.

https://kubernetes.io/docs/concepts/workloads/controllers/
"""

import re
from dataclasses import replace
from typing import Any, Final

from fedge_apiserver.errors import Causes
from fedge_apiserver.kinds._metadata import check_labels
from fedge_apiserver.kinds._pods import check_spec, default_spec
from fedge_apiserver.kinds._rules import Rules
from fedge_apiserver.selectors import matches_labels
from fedge_objects import JsonObject

_PERCENT: Final = re.compile(r"[0-9]+%")
_HISTORY: Final = 10
_PROGRESS_SECONDS: Final = 600
_ORDERED: Final = "OrderedReady"
_MAY_CHANGE: Final = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_QUARTER: Final = "25%"


def _default_template(spec: dict[str, Any]) -> None:
    template: dict[str, Any] = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    default_spec(template.setdefault("spec", {}))


def _default_deployment(value: JsonObject) -> None:
    spec: dict[str, Any] = value.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", _HISTORY)
    spec.setdefault("progressDeadlineSeconds", _PROGRESS_SECONDS)
    strategy: dict[str, Any] = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", _QUARTER)
        rolling.setdefault("maxSurge", _QUARTER)
    _default_template(spec)


def _default_replica_set(value: JsonObject) -> None:
    spec: dict[str, Any] = value.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _default_template(spec)


def _default_daemon_set(value: JsonObject) -> None:
    spec: dict[str, Any] = value.setdefault("spec", {})
    spec.setdefault("revisionHistoryLimit", _HISTORY)
    strategy: dict[str, Any] = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    _default_template(spec)


def _default_stateful_set(value: JsonObject) -> None:
    spec: dict[str, Any] = value.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", _HISTORY)
    spec.setdefault("podManagementPolicy", _ORDERED)
    keeps = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for field in ("whenDeleted", "whenScaled"):
        keeps.setdefault(field, "Retain")
    strategy: dict[str, Any] = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    _default_template(spec)


def _check(value: JsonObject, causes: Causes) -> None:
    spec: dict[str, Any] = value["spec"]
    selector: dict[str, Any] = spec.get("selector") or {}
    template = spec["template"]
    labels: dict[str, str] = template["metadata"].get("labels") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        if "selector" not in spec:
            causes.required("spec.selector")
        else:
            causes.invalid("spec.selector", selector, "empty selector is invalid for this kind")
    elif not matches_labels(selector, labels):
        causes.invalid(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )
    check_labels(labels, "spec.template.metadata.labels", causes)
    inner = Causes()
    check_spec(template, inner)
    causes.found += [replace(cause, path=f"spec.template.{cause.path}") for cause in inner.found]
    if template["spec"]["restartPolicy"] != "Always":
        causes.not_supported(
            "spec.template.spec.restartPolicy", template["spec"]["restartPolicy"], ("Always",)
        )
    for field in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        if (held := spec.get(field)) is not None and held < 0:
            causes.invalid(f"spec.{field}", held, "must be greater than or equal to 0")


def _check_amounts(rolling: dict[str, Any], path: str, causes: Causes) -> None:
    for field in ("maxUnavailable", "maxSurge"):
        held = rolling.get(field)
        if isinstance(held, str) and not _PERCENT.fullmatch(held):
            causes.invalid(
                f"{path}.{field}",
                held,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. "
                "'1%',  or '93%', regex used for validation is '[0-9]+%')",
            )
        elif isinstance(held, int) and held < 0:
            causes.invalid(f"{path}.{field}", held, "must be greater than or equal to 0")
    if _is_zero(rolling.get("maxUnavailable")) and _is_zero(rolling.get("maxSurge")):
        causes.invalid(f"{path}.maxUnavailable", 0, "may not be 0 when `maxSurge` is 0")


def _is_zero(amount: Any) -> bool:
    return amount is None or str(amount).rstrip("%").strip("0") == ""


def _check_deployment(value: JsonObject, causes: Causes) -> None:
    _check(value, causes)
    strategy = value["spec"]["strategy"]
    kinds = ("Recreate", "RollingUpdate")
    if strategy["type"] not in kinds:
        causes.not_supported("spec.strategy.type", strategy["type"], kinds)
    elif strategy["type"] == "RollingUpdate":
        _check_amounts(strategy["rollingUpdate"], "spec.strategy.rollingUpdate", causes)
    elif "rollingUpdate" in strategy:
        causes.forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        )


def _check_daemon_set(value: JsonObject, causes: Causes) -> None:
    _check(value, causes)
    strategy = value["spec"]["updateStrategy"]
    kinds = ("OnDelete", "RollingUpdate")
    if strategy["type"] not in kinds:
        causes.not_supported("spec.updateStrategy.type", strategy["type"], kinds)
    elif strategy["type"] == "RollingUpdate":
        path = "spec.updateStrategy.rollingUpdate"
        _check_amounts(strategy["rollingUpdate"], path, causes)
        if not _is_zero(strategy["rollingUpdate"]["maxSurge"]):
            causes.not_supported(f"{path}.maxSurge", strategy["rollingUpdate"]["maxSurge"], ("0",))


def _check_stateful_set(value: JsonObject, causes: Causes) -> None:
    _check(value, causes)
    spec = value["spec"]
    policies = (_ORDERED, "Parallel")
    if spec["podManagementPolicy"] not in policies:
        causes.not_supported("spec.podManagementPolicy", spec["podManagementPolicy"], policies)
    strategy = spec["updateStrategy"]
    kinds = ("OnDelete", "RollingUpdate")
    if strategy["type"] not in kinds:
        causes.not_supported("spec.updateStrategy.type", strategy["type"], kinds)
    elif strategy["type"] == "RollingUpdate" and strategy["rollingUpdate"]["partition"] < 0:
        causes.invalid(
            "spec.updateStrategy.rollingUpdate.partition",
            strategy["rollingUpdate"]["partition"],
            "must be greater than or equal to 0",
        )
    if (start := (spec.get("ordinals") or {}).get("start", 0)) < 0:
        causes.invalid("spec.ordinals.start", start, "must be greater than or equal to 0")
    if spec.get("volumeClaimTemplates"):
        causes.forbidden(
            "spec.volumeClaimTemplates",
            "this server has no volume claims: name a hostPath or an emptyDir in the template",
        )


def _check_stateful_set_update(new: JsonObject, old: JsonObject, causes: Causes) -> None:
    wanted, held = (
        {k: v for k, v in s["spec"].items() if k not in _MAY_CHANGE} for s in (new, old)
    )
    if wanted != held:
        names = ", ".join(f"'{name}'" for name in _MAY_CHANGE[:-1])
        causes.forbidden(
            "spec",
            f"updates to statefulset spec for fields other than {names} and '{_MAY_CHANGE[-1]}' "
            "are forbidden",
        )


def _check_update(new: JsonObject, old: JsonObject, causes: Causes) -> None:
    if new["spec"].get("selector") != old["spec"].get("selector"):
        causes.invalid("spec.selector", new["spec"].get("selector"), "field is immutable")


DEPLOYMENT_RULES: Final = Rules(
    default=_default_deployment,
    check=_check_deployment,
    check_update=_check_update,
    counts_generation=True,
)
REPLICA_SET_RULES: Final = Rules(
    default=_default_replica_set,
    check=_check,
    check_update=_check_update,
    counts_generation=True,
)
STATEFUL_SET_RULES: Final = Rules(
    default=_default_stateful_set,
    check=_check_stateful_set,
    check_update=_check_stateful_set_update,
    counts_generation=True,
)
DAEMON_SET_RULES: Final = Rules(
    default=_default_daemon_set,
    check=_check_daemon_set,
    check_update=_check_update,
    counts_generation=True,
)
