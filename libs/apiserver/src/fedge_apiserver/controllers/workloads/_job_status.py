"""What a Job's pods say of it: which have ended, and how."""

from dataclasses import dataclass
from datetime import datetime
from itertools import count, groupby, islice
from typing import Any, Final, Self

from fedge_apiserver.controllers.workloads._job_policies import failures_of, verdict_of
from fedge_apiserver.controllers.workloads._loop import condition
from fedge_apiserver.kinds import parse_indexes
from fedge_apiserver.objects import timestamp
from fedge_objects import JsonObject

TRACKING: Final = "batch.kubernetes.io/job-tracking"
INDEX: Final = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The pods of a Job that have ended.

    Attributes:
        succeeded, failed: pods that are still held until they are counted.
        successes, failures: how many there were in all, these included.
        indexes: of an Indexed Job, those that are done.
        failed_indexes: of one that limits the failures of each index, those that failed for good.
        failure: why the Job is to fail at once, by its policy; empty if it is not.
        uncounted: the uids of pods that the status counts by name only, these included.
    """

    succeeded: list[JsonObject]
    failed: list[JsonObject]
    successes: int
    failures: int
    indexes: frozenset[int]
    failed_indexes: frozenset[int]
    failure: str
    uncounted: dict[str, list[str]]

    @classmethod
    def of(cls, job: JsonObject, pods: list[JsonObject]) -> Self:
        """Look at a Job's status and pods."""
        spec, status = job["spec"], job.get("status") or {}
        is_indexed = spec["completionMode"] == "Indexed"
        waits_for_end = spec["podReplacementPolicy"] == "Failed"
        held = [pod for pod in pods if TRACKING in (pod["metadata"].get("finalizers") or ())]
        succeeded = [pod for pod in held if is_succeeded(pod)]
        failed = [pod for pod in held if is_failed(pod, waits_for_end=waits_for_end)]
        verdicts = {
            pod["metadata"]["uid"]: verdict_of(pod, spec.get("podFailurePolicy")) for pod in failed
        }
        counted = [p for p in failed if verdicts[p["metadata"]["uid"]].action != "Ignore"]
        failure = next((v.why for v in verdicts.values() if v.action == "FailJob"), "")
        before = status.get("uncountedTerminatedPods") or {}
        by_name = {
            "succeeded": _joined(before, "succeeded", [] if is_indexed else succeeded),
            "failed": _joined(before, "failed", counted),
        }
        indexes: frozenset[int] = frozenset()
        failed_indexes: frozenset[int] = frozenset()
        most = spec.get("backoffLimitPerIndex")
        successes = status.get("succeeded", 0) + len(by_name["succeeded"])
        if is_indexed:
            completions = spec.get("completions", 0)
            done = {*parse_indexes(status.get("completedIndexes", "")), *map(index_of, succeeded)}
            indexes = frozenset(index for index in done if 0 <= index < completions)
            successes = len(indexes)
            lost = {
                index_of(pod)
                for pod in counted
                if most is not None
                and (
                    failures_of(pod) >= most
                    or verdicts[pod["metadata"]["uid"]].action == "FailIndex"
                )
            }
            lost.update(parse_indexes(status.get("failedIndexes", "")))
            failed_indexes = frozenset(lost) - indexes
        return cls(
            succeeded=succeeded,
            failed=failed,
            successes=successes,
            failures=status.get("failed", 0) + len(by_name["failed"]),
            indexes=indexes,
            failed_indexes=failed_indexes,
            failure=failure,
            uncounted={key: uids for key, uids in by_name.items() if uids},
        )

    @property
    def held(self) -> list[JsonObject]:
        """All pods that are held."""
        return [*self.succeeded, *self.failed]


def _joined(before: dict[str, list[str]], key: str, pods: list[JsonObject]) -> list[str]:
    return list(dict.fromkeys([*before.get(key, ()), *(pod["metadata"]["uid"] for pod in pods)]))


def _phase(pod: JsonObject) -> str:
    phase: str = (pod.get("status") or {}).get("phase", "")
    return phase


def is_succeeded(pod: JsonObject) -> bool:
    """Whether a pod has done its work."""
    return _phase(pod) == "Succeeded"


def is_failed(pod: JsonObject, *, waits_for_end: bool = False) -> bool:
    """Whether a pod counts as failed: it failed, or is being deleted before it could succeed.

    Args:
        pod: the pod.
        waits_for_end: one that is being deleted counts only when it has ended, or never began.
    """
    phase = _phase(pod)
    if phase in ("Failed", "Succeeded") or not pod["metadata"].get("deletionTimestamp"):
        return phase == "Failed"
    return not waits_for_end or phase == "Pending"


def is_terminating(pod: JsonObject) -> bool:
    """Whether a pod is being deleted and has not ended."""
    is_ended = _phase(pod) in ("Failed", "Succeeded")
    return bool(pod["metadata"].get("deletionTimestamp")) and not is_ended


def is_finished(job: JsonObject) -> bool:
    """Whether a Job has come to an end."""
    return any(condition(job, kind).get("status") == "True" for kind in ("Complete", "Failed"))


def restarts_of(pod: JsonObject) -> int:
    """Return how often a pod's containers were started again."""
    status = pod.get("status") or {}
    fields = ("initContainerStatuses", "containerStatuses")
    return sum(each.get("restartCount", 0) for field in fields for each in status.get(field) or ())


def index_of(pod: JsonObject) -> int:
    """Return the index of an Indexed Job's pod; -1 if it has none."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdecimal() else -1


def first_indexes(completions: int, taken: frozenset[int], most: int) -> list[int]:
    """Return the lowest indexes that are neither done nor worked at."""
    return list(islice((index for index in range(completions) if index not in taken), most))


def format_indexes(indexes: frozenset[int]) -> str:
    """Return indexes as a text like ``0,2-4``."""
    counter = count()
    parts = []
    for _, run in groupby(sorted(indexes), key=lambda index: index - next(counter)):
        held = list(run)
        between = "," if len(held) == 2 else "-"  # noqa: PLR2004 - two are named, more spanned
        parts.append(f"{held[0]}{between}{held[-1]}" if len(held) > 1 else str(held[0]))
    return ",".join(parts)


def add_condition(
    status: dict[str, Any],
    kind: str,
    reason: str,
    message: str,
    now: datetime,
    *,
    holds: bool = True,
) -> None:
    """Put a condition into a status, in place of one of the same kind."""
    moment = timestamp(now)
    others = [held for held in status.get("conditions") or () if held["type"] != kind]
    added = {
        "type": kind,
        "status": "True" if holds else "False",
        "lastProbeTime": moment,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }
    status["conditions"] = [*others, added]
