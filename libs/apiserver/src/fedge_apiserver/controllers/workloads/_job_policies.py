"""What a Job's policies make of how its pods ended.

https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
https://kubernetes.io/docs/concepts/workloads/controllers/job/#success-policy
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from fedge_apiserver.kinds import parse_indexes
from fedge_objects import JsonObject

FAILURES: Final = "batch.kubernetes.io/job-index-failure-count"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed pod means.

    Attributes:
        action: ``Count``, ``Ignore``, ``FailIndex`` or ``FailJob``.
        why: for ``FailJob``, what to tell.
    """

    action: str
    why: str = ""


def verdict_of(pod: JsonObject, policy: JsonObject | None) -> Verdict:
    """Return what a failed pod means: what the first rule says that is about it."""
    for index, rule in enumerate((policy or {}).get("rules") or ()):
        action = rule["action"]
        found = _by_exit_code(pod, rule.get("onExitCodes")) or _by_condition(
            pod, rule.get("onPodConditions")
        )
        if found:
            return Verdict(action, f"{found} matching {action} rule at index {index}")
    return Verdict("Count")


def _by_exit_code(pod: JsonObject, wanted: JsonObject | None) -> str:
    if wanted is None:
        return ""
    meta = pod["metadata"]
    for name, code in _exit_codes(pod):
        if wanted.get("containerName") not in (None, name):
            continue
        if (code in wanted["values"]) is (wanted["operator"] == "In"):
            return (
                f"Container {name} for pod {meta['namespace']}/{meta['name']} failed with exit "
                f"code {code}"
            )
    return ""


def _exit_codes(pod: JsonObject) -> Iterator[tuple[str, int]]:
    status = pod.get("status") or {}
    for field in ("initContainerStatuses", "containerStatuses"):
        for held in status.get(field) or ():
            ended = (held.get("state") or {}).get("terminated")
            if ended and ended.get("exitCode", 0):
                yield held["name"], ended["exitCode"]


def _by_condition(pod: JsonObject, wanted: list[Any] | None) -> str:
    meta = pod["metadata"]
    for pattern in wanted or ():
        for held in (pod.get("status") or {}).get("conditions") or ():
            is_meant = held.get("type") == pattern["type"]
            if is_meant and held.get("status") == pattern.get("status", "True"):
                return f"Pod {meta['namespace']}/{meta['name']} has condition {held['type']}"
    return ""


def succeeds(policy: JsonObject | None, done: frozenset[int]) -> str:
    """Return which rule of a success policy holds, to be told; empty if none does."""
    for index, rule in enumerate((policy or {}).get("rules") or ()):
        text = rule.get("succeededIndexes")
        meant = done if text is None else done & frozenset(parse_indexes(text))
        wanted = rule.get("succeededCount")
        if wanted is None:
            wanted = len(frozenset(parse_indexes(text or "")))
        if len(meant) >= wanted:
            return f"Matched rules at index {index}"
    return ""


def failures_of(pod: JsonObject) -> int:
    """Return how often the index of a pod failed before it was made."""
    text = (pod["metadata"].get("annotations") or {}).get(FAILURES, "0")
    return int(text) if text.isdecimal() else 0
