"""Jobs, and the CronJobs that make them.

https://kubernetes.io/docs/concepts/workloads/controllers/job/
https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from fedge_apiserver.errors import Causes
from fedge_apiserver.kinds._metadata import check_labels, check_subdomain
from fedge_apiserver.kinds._pods import check_spec, default_spec
from fedge_apiserver.kinds._rules import Rules
from fedge_apiserver.schedules import ScheduleError, parse_schedule
from fedge_objects import JsonObject

INDEXED: Final = "Indexed"
UID_LABEL: Final = "batch.kubernetes.io/controller-uid"
NAME_LABEL: Final = "batch.kubernetes.io/job-name"
_OLD_LABELS: Final = {UID_LABEL: "controller-uid", NAME_LABEL: "job-name"}
_ACTIONS: Final = ("Count", "FailIndex", "FailJob", "Ignore")
_INDEXES: Final = re.compile(r"[0-9]{1,9}(-[0-9]{1,9})?(,[0-9]{1,9}(-[0-9]{1,9})?)*")
_BACKOFF_LIMIT: Final = 6
_MOST_INDEXES: Final = 100_000
_LONGEST_CRON_NAME: Final = 52
_NOT_NEGATIVE: Final = "must be greater than or equal to 0"
_AMOUNTS: Final = (
    "parallelism",
    "completions",
    "backoffLimit",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)
_IMMUTABLE: Final = (
    "backoffLimitPerIndex",
    "completionMode",
    "managedBy",
    "podFailurePolicy",
    "selector",
    "successPolicy",
    "template",
)
_NO_LIMIT: Final = 2**31 - 1
_SUSPENDED_MUTABLE: Final = ("affinity", "nodeSelector", "schedulingGates", "tolerations")


def _default_job_spec(spec: dict[str, Any]) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    has_own = "backoffLimitPerIndex" in spec
    spec.setdefault("backoffLimit", _NO_LIMIT if has_own else _BACKOFF_LIMIT)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    has_policy = "podFailurePolicy" in spec
    spec.setdefault("podReplacementPolicy", "Failed" if has_policy else "TerminatingOrFailed")
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        for pattern in rule.get("onPodConditions") or ():
            pattern.setdefault("status", "True")
    template: dict[str, Any] = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    default_spec(template.setdefault("spec", {}))


def _default_job(value: JsonObject) -> None:
    spec: dict[str, Any] = value.setdefault("spec", {})
    spec.setdefault("manualSelector", False)
    _default_job_spec(spec)
    meta = value["metadata"]
    is_new = "resourceVersion" not in meta
    if is_new and not spec["manualSelector"] and "uid" in meta:
        labels: dict[str, str] = dict(spec["template"]["metadata"].get("labels") or {})
        for label, held in ((UID_LABEL, meta["uid"]), (NAME_LABEL, meta.get("name", ""))):
            labels[label] = labels[_OLD_LABELS[label]] = held
        spec["template"]["metadata"]["labels"] = labels
        spec.setdefault("selector", {"matchLabels": {UID_LABEL: meta["uid"]}})
    if is_new and not meta.get("labels") and (labels := spec["template"]["metadata"].get("labels")):
        meta["labels"] = dict(labels)


def _create_job(value: JsonObject) -> None:
    value["status"] = {}


def _check_job(value: JsonObject, causes: Causes) -> None:
    spec, meta = value["spec"], value["metadata"]
    _check_job_spec(spec, "spec", causes)
    labels = spec["template"]["metadata"].get("labels") or {}
    selector = spec.get("selector")
    if not selector:
        causes.required("spec.selector")
    elif not spec.get("manualSelector") and selector != {
        "matchLabels": {UID_LABEL: meta.get("uid")}
    }:
        causes.invalid("spec.selector", selector, "`selector` not auto-generated")
    elif any(labels.get(k) != held for k, held in (selector.get("matchLabels") or {}).items()):
        causes.invalid(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )
    if spec["completionMode"] == INDEXED and (completions := spec.get("completions")):
        # The last pod's host name must be one.
        check_subdomain(f"{meta.get('name', '')}-{completions - 1}", "metadata.name", causes)


def _check_job_spec(spec: dict[str, Any], path: str, causes: Causes) -> None:
    for field in _AMOUNTS:
        if (held := spec.get(field)) is not None and held < 0:
            causes.invalid(f"{path}.{field}", held, _NOT_NEGATIVE)
    modes = (INDEXED, "NonIndexed")
    if spec["completionMode"] not in modes:
        causes.not_supported(f"{path}.completionMode", spec["completionMode"], modes)
    elif spec["completionMode"] == INDEXED:
        if "completions" not in spec:
            causes.required(f"{path}.completions", "when completion mode is Indexed")
        if spec["parallelism"] > _MOST_INDEXES:
            causes.invalid(
                f"{path}.parallelism",
                spec["parallelism"],
                f"must be less than or equal to {_MOST_INDEXES} when completion mode is Indexed",
            )
    policies = ("Failed", "TerminatingOrFailed")
    if spec["podReplacementPolicy"] not in policies:
        causes.not_supported(f"{path}.podReplacementPolicy", spec["podReplacementPolicy"], policies)
    _check_policies(spec, path, causes)
    template = spec["template"]
    check_labels(
        template["metadata"].get("labels") or {}, f"{path}.template.metadata.labels", causes
    )
    inner = Causes()
    check_spec(template, inner)
    causes.found += [replace(cause, path=f"{path}.template.{cause.path}") for cause in inner.found]
    if template["spec"]["restartPolicy"] == "Always":
        causes.required(f"{path}.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')


def _check_policies(spec: dict[str, Any], path: str, causes: Causes) -> None:
    if spec["completionMode"] != INDEXED:
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if field in spec:
                causes.invalid(f"{path}.{field}", spec[field], "requires indexed completion mode")
        if "successPolicy" in spec:
            causes.invalid(
                f"{path}.successPolicy", spec["successPolicy"], "requires indexed completion mode"
            )
    elif "maxFailedIndexes" in spec and "backoffLimitPerIndex" not in spec:
        causes.required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified")
    for index, rule in enumerate((spec.get("successPolicy") or {}).get("rules") or ()):
        here = f"{path}.successPolicy.rules[{index}]"
        if "succeededIndexes" not in rule and "succeededCount" not in rule:
            causes.required(here, "at least one of succeededCount or succeededIndexes")
        _check_indexes(rule.get("succeededIndexes"), spec, f"{here}.succeededIndexes", causes)
    policy = spec.get("podFailurePolicy")
    if policy is None:
        return
    if (restarts := spec["template"]["spec"]["restartPolicy"]) != "Never":
        causes.invalid(
            f"{path}.template.spec.restartPolicy",
            restarts,
            'only "Never" is supported when podFailurePolicy is specified',
        )
    if spec["podReplacementPolicy"] != "Failed":
        causes.not_supported(
            f"{path}.podReplacementPolicy", spec["podReplacementPolicy"], ("Failed",)
        )
    for index, rule in enumerate(policy.get("rules") or ()):
        _check_failure_rule(rule, spec, f"{path}.podFailurePolicy.rules[{index}]", causes)


def _check_failure_rule(
    rule: dict[str, Any], spec: dict[str, Any], path: str, causes: Causes
) -> None:
    action = rule.get("action", "")
    if action not in _ACTIONS:
        causes.not_supported(f"{path}.action", action, _ACTIONS)
    elif action == "FailIndex" and "backoffLimitPerIndex" not in spec:
        causes.invalid(f"{path}.action", action, "requires the backoffLimitPerIndex to be set")
    codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions")
    if (codes is None) is (not patterns):
        causes.invalid(path, rule, "exactly one of `onExitCodes` and `onPodConditions` is required")
    if codes is not None:
        if codes.get("operator") not in ("In", "NotIn"):
            causes.not_supported(
                f"{path}.onExitCodes.operator", codes.get("operator", ""), ("In", "NotIn")
            )
        if not codes.get("values"):
            causes.invalid(f"{path}.onExitCodes.values", [], "at least one value is required")
        elif codes.get("operator") == "In" and 0 in codes["values"]:
            causes.invalid(f"{path}.onExitCodes.values", 0, "must not be 0 for the In operator")


def _check_indexes(text: str | None, spec: dict[str, Any], path: str, causes: Causes) -> None:
    if text is None:
        return
    if not _INDEXES.fullmatch(text):
        causes.invalid(path, text, "error parsing succeededIndexes: want e.g. 0,2-4")
        return
    ends = [int(number) for number in re.findall(r"[0-9]+", text)]
    if ends != sorted(set(ends)) or ends[-1] >= spec.get("completions", 0):
        causes.invalid(path, text, "must be in order, and below the number of completions")


def parse_indexes(text: str) -> Iterator[int]:
    """Yield the indexes of a text like ``0,2-4``."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _check_job_update(new: JsonObject, old: JsonObject, causes: Causes) -> None:
    spec, before = new["spec"], old["spec"]
    for field in _IMMUTABLE:
        wanted, held = spec.get(field), before.get(field)
        if field == "template" and before.get("suspend") and "startTime" not in old["status"]:
            wanted, held = _without_mutable(wanted), _without_mutable(held)
        if wanted != held:
            causes.invalid(f"spec.{field}", wanted, "field is immutable")
    if spec.get("completions") != before.get("completions"):
        is_elastic = (
            spec["completionMode"] == INDEXED and spec.get("completions") == spec["parallelism"]
        )
        if not is_elastic:
            causes.invalid("spec.completions", spec.get("completions"), "field is immutable")


def _without_mutable(template: JsonObject) -> JsonObject:
    """Return a template without what may change in a suspended Job that never ran."""
    rest = copy.deepcopy(template)
    rest.pop("metadata", None)
    for field in _SUSPENDED_MUTABLE:
        rest["spec"].pop(field, None)
    for container in (*rest["spec"].get("containers", ()), *rest["spec"].get("initContainers", ())):
        container.pop("resources", None)
    return rest


def _default_cron_job(value: JsonObject) -> None:
    spec: dict[str, Any] = value.setdefault("spec", {})
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    template: dict[str, Any] = spec.setdefault("jobTemplate", {})
    template.setdefault("metadata", {})
    _default_job_spec(template.setdefault("spec", {}))


def _create_cron_job(value: JsonObject) -> None:
    value["status"] = {}


def _check_cron_job(value: JsonObject, causes: Causes) -> None:
    spec = value["spec"]
    name = value["metadata"].get("name", "")
    if len(name) > _LONGEST_CRON_NAME:
        causes.invalid(
            "metadata.name", name, f"must be no more than {_LONGEST_CRON_NAME} characters"
        )
    schedule = spec.get("schedule", "")
    zone = spec.get("timeZone")
    if not schedule:
        causes.required("spec.schedule")
    elif "TZ" in schedule:
        causes.invalid(
            "spec.schedule", schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone instead"
        )
    else:
        try:
            parse_schedule(schedule)
        except ScheduleError as exc:
            causes.invalid("spec.schedule", schedule, str(exc))
    if zone is not None:
        try:
            parse_schedule("@daily", zone)
        except ScheduleError as exc:
            causes.invalid("spec.timeZone", zone, str(exc))
    policies = ("Allow", "Forbid", "Replace")
    if spec["concurrencyPolicy"] not in policies:
        causes.not_supported("spec.concurrencyPolicy", spec["concurrencyPolicy"], policies)
    for field in (
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ):
        if (held := spec.get(field)) is not None and held < 0:
            causes.invalid(f"spec.{field}", held, _NOT_NEGATIVE)
    template = spec["jobTemplate"]
    if template["spec"].get("manualSelector"):
        causes.not_supported("spec.jobTemplate.spec.manualSelector", "true", ("nil", "false"))
    if "selector" in template["spec"]:
        causes.invalid(
            "spec.jobTemplate.spec.selector",
            template["spec"]["selector"],
            "`selector` will be auto-generated",
        )
    check_labels(
        template["metadata"].get("labels") or {}, "spec.jobTemplate.metadata.labels", causes
    )
    _check_job_spec(template["spec"], "spec.jobTemplate.spec", causes)


JOB_RULES: Final = Rules(
    default=_default_job,
    create=_create_job,
    check=_check_job,
    check_update=_check_job_update,
    counts_generation=True,
)
CRON_JOB_RULES: Final = Rules(
    default=_default_cron_job,
    create=_create_cron_job,
    check=_check_cron_job,
    counts_generation=True,
)
