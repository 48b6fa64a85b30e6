"""Runs pods of a template until so many of them have succeeded.

A pod that ended is counted once, whatever is killed: it cannot go before it is counted, because a
finalizer holds it, and its uid stands in ``status.uncountedTerminatedPods`` until it is let go. A
pod on a node that is away has not ended: nobody can know whether its work was done, and it will
be told when the node is back.

https://kubernetes.io/docs/concepts/workloads/controllers/job/
https://kubernetes.io/docs/concepts/workloads/controllers/job/#job-tracking-with-finalizers
"""

import asyncio
import copy
import dataclasses
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fedge_apiserver.controllers.workloads._job_policies import (
    FAILURES,
    failures_of,
    succeeds,
    verdict_of,
)
from fedge_apiserver.controllers.workloads._job_status import (
    INDEX,
    TRACKING,
    Ended,
    add_condition,
    first_indexes,
    format_indexes,
    index_of,
    is_failed,
    is_finished,
    is_terminating,
    restarts_of,
)
from fedge_apiserver.controllers.workloads._loop import (
    Key,
    Loop,
    condition,
    controller_of,
    is_active,
    is_ready,
    pod_of,
)
from fedge_apiserver.errors import ApiError
from fedge_apiserver.objects import timestamp
from fedge_apiserver.registry import DeleteOptions, Registry
from fedge_apiserver.resources import JOBS, PODS
from fedge_apiserver.storage import Entry
from fedge_apiserver.store import Event, decode
from fedge_objects import JsonObject

_TRACKED: Final = TRACKING.encode()
_INDEX_VARIABLE: Final = "JOB_COMPLETION_INDEX"
_CONTROLLER: Final = "kubernetes.io/job-controller"
_AT_ONCE: Final = 100
_BACKOFF_SECONDS: Final = 10.0
_LONGEST_BACKOFF_SECONDS: Final = 600.0
_MOST_DOUBLINGS: Final = 10


@dataclass(slots=True)
class _Backoff:
    """How many pods failed one after another, and until when none is made, since the epoch."""

    failures: int = 0
    until: float = 0.0


@dataclass(slots=True)
class _Look:
    """A Job as it is at one look.

    Attributes:
        value: the Job; its status as it is to be written.
        pods: all its pods.
        active: those that run or will.
        written: the status as it is stored.
        changed: what is told of when the status is written: type, reason, message.
    """

    value: JsonObject
    pods: list[JsonObject]
    active: list[JsonObject]
    written: JsonObject
    changed: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.value["spec"]
        return spec

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.value["status"]
        return status

    @property
    def is_indexed(self) -> bool:
        return bool(self.spec["completionMode"] == "Indexed")

    def slot(self, index: int) -> int:
        """Return what the failures of a pod put off: its index, or the whole Job (-1)."""
        return index if "backoffLimitPerIndex" in self.spec else -1

    @property
    def terminating(self) -> list[JsonObject]:
        return [pod for pod in self.pods if is_terminating(pod)]


class Jobs(Loop):
    """Follows Jobs and their pods."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, JOBS, PODS, "job-controller")
        self._backoffs: dict[str, dict[int, _Backoff]] = {}
        """By the Job's uid, and the index if each has its own limit; -1 if not. After a restart of
        the server they begin anew."""

    async def run(self) -> None:
        """Work until cancelled."""
        for entry in list(self.registry.store.select(PODS.storage)):
            self._note_tracked(entry)
        await super().run()

    def _observe(self, event: Event) -> None:
        super()._observe(event)
        if event.entry.resource == PODS.storage and not event.entry.deleted:
            self._note_tracked(event.entry)

    def _note_tracked(self, entry: Entry) -> None:
        """Have a pod looked at that is held for a Job which may be gone."""
        if _TRACKED in entry.body:
            owner = controller_of(entry)
            self.due((entry.namespace, owner[1] if owner and owner[0] == JOBS.kind else ""))

    async def let_go(self, key: Key, value: JsonObject | None) -> None:
        """Let go of pods whose Job no longer counts them."""
        if value is None:
            live = {each["metadata"]["uid"] for each in self.registry.objects(JOBS, key[0])}
        else:
            live = set()
        for entry in list(self.registry.store.select(PODS.storage, key[0])):
            if _TRACKED not in entry.body:
                continue
            owner = controller_of(entry)
            is_of_job = owner is not None and owner[0] == JOBS.kind
            if value is not None:
                is_loose = owner is not None and owner[2] == value["metadata"]["uid"]
            else:
                is_loose = not is_of_job or (owner is not None and owner[2] not in live)
            if is_loose:
                await self._release(decode(entry.body))

    async def settle(self, value: JsonObject) -> float | None:
        """Count what ended, judge the Job, and make or delete pods."""
        if value["spec"].get("managedBy", _CONTROLLER) != _CONTROLLER:
            return None
        uid = value["metadata"]["uid"]
        pods = self.owned.of(uid)
        if is_finished(value):
            for pod in pods:
                await self._release(pod)
            self._backoffs.pop(uid, None)
            return await self._expire(value)
        written = value.get("status") or {}
        value = {**value, "status": copy.deepcopy(written)}
        look = _Look(value, pods, [pod for pod in pods if is_active(pod)], written)
        self._begin(look)
        ended = self._ended(look)
        verdict = self._judge(look, ended)
        if verdict is not None or look.spec["suspend"]:
            await self._delete(look, look.active)
        else:
            await self._adjust(look, ended)
        await self._count(look, ended)
        look.pods = self.owned.of(uid)
        if verdict is not None and not any(is_active(p) or is_terminating(p) for p in look.pods):
            self._finish(look, verdict)
        await self._tell(look)
        return self._later(look) if verdict is None else None

    def _begin(self, look: _Look) -> None:
        """Note the start, or that the Job is suspended or goes on."""
        spec, status, now = look.spec, look.status, self.registry.now()
        was_suspended = condition(look.value, "Suspended").get("status") == "True"
        if spec["suspend"]:
            if not was_suspended:
                add_condition(status, "Suspended", "JobSuspended", "Job suspended", now)
                look.changed.append(("Normal", "Suspended", "Job suspended"))
            status.pop("startTime", None)
            return
        if was_suspended:
            add_condition(status, "Suspended", "JobResumed", "Job resumed", now, holds=False)
            look.changed.append(("Normal", "Resumed", "Job resumed"))
        if "startTime" not in status:
            status["startTime"] = timestamp(now)

    def _ended(self, look: _Look) -> Ended:
        """Return what ended and was not counted before; a failure puts the next try off."""
        ended = Ended.of(look.value, look.pods)
        uncounted = look.status.get("uncountedTerminatedPods") or {}
        known = {*uncounted.get("succeeded", ()), *uncounted.get("failed", ())}
        uid = look.value["metadata"]["uid"]
        backoffs = self._backoffs.setdefault(uid, {})
        for pod in ended.held:
            if pod["metadata"]["uid"] in known:
                continue
            backoff = backoffs.setdefault(look.slot(index_of(pod)), _Backoff())
            if pod in ended.succeeded:
                backoff.failures = 0
                continue
            backoff.failures += 1
            doubled = _BACKOFF_SECONDS * 2 ** min(backoff.failures - 1, _MOST_DOUBLINGS)
            wait = min(doubled, _LONGEST_BACKOFF_SECONDS)
            backoff.until = self.registry.now().timestamp() + wait
        return ended

    def _judge(self, look: _Look, ended: Ended) -> tuple[str, str, str] | None:
        """Return the condition that ends the Job, with reason and message; None: it goes on."""
        for interim, final in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
            held = condition(look.value, interim)
            if held.get("status") == "True":
                return final, held.get("reason", ""), held.get("message", "")
        verdict = self._failure(look, ended) or self._success(look, ended)
        if verdict is not None:
            interim = "FailureTarget" if verdict[0] == "Failed" else "SuccessCriteriaMet"
            add_condition(look.status, interim, *verdict[1:], self.registry.now())
        return verdict

    def _failure(self, look: _Look, ended: Ended) -> tuple[str, str, str] | None:
        spec, limit = look.spec, look.spec["backoffLimit"]
        if ended.failure:
            return "Failed", "PodFailurePolicy", ended.failure
        if (lost := self._lost(look, ended)) is not None:
            return lost
        restarts = sum(restarts_of(pod) for pod in look.active)
        is_in_place = spec["template"]["spec"]["restartPolicy"] == "OnFailure"
        if ended.failures > limit or (is_in_place and restarts and restarts >= limit):
            return (
                "Failed",
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            )
        if (left := self._deadline_in(look)) is not None and left <= 0:
            return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
        return None

    def _lost(self, look: _Look, ended: Ended) -> tuple[str, str, str] | None:
        """Judge by the indexes that failed for good."""
        most, lost = look.spec.get("maxFailedIndexes"), len(ended.failed_indexes)
        if most is not None and lost > most:
            return (
                "Failed",
                "MaxFailedIndexesExceeded",
                "Job has exceeded the specified maximal number of failed indexes",
            )
        if lost and lost + len(ended.indexes) >= look.spec["completions"]:
            return "Failed", "FailedIndexes", "Job has failed indexes"
        return None

    def _success(self, look: _Look, ended: Ended) -> tuple[str, str, str] | None:
        completions = look.spec.get("completions")
        if matched := succeeds(look.spec.get("successPolicy"), ended.indexes):
            return "Complete", "SuccessPolicy", matched
        if look.is_indexed:
            done = len(ended.indexes) >= look.spec["completions"]
        elif completions is None:
            done = bool(ended.successes) and not look.active and not look.spec["suspend"]
        else:
            done = ended.successes >= completions
        if not done:
            return None
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"

    def _deadline_in(self, look: _Look) -> float | None:
        deadline, started = look.spec.get("activeDeadlineSeconds"), look.status.get("startTime")
        if deadline is None or started is None or look.spec["suspend"]:
            return None
        passed = (self.registry.now() - datetime.fromisoformat(started)).total_seconds()
        return float(deadline - passed)

    async def _adjust(self, look: _Look, ended: Ended) -> None:
        """Make the pods that are missing, or delete those too many."""
        spec, active = look.spec, look.active
        if look.is_indexed:
            outside = [pod for pod in active if index_of(pod) >= spec["completions"]]
            await self._delete(look, outside)
            active = [pod for pod in active if pod not in outside]
        wanted = self._wanted(look, ended)
        if len(active) > wanted:
            await self._delete(look, sorted(active, key=_worth)[: len(active) - wanted])
            return
        waiting = len(look.terminating) if spec["podReplacementPolicy"] == "Failed" else 0
        missing = min(wanted - len(active) - waiting, _AT_ONCE)
        if missing <= 0 or self._backoff_in(look, -1) > 0:
            return
        marks: list[int | None] = [None] * missing
        if look.is_indexed:
            busy = [*active, *(look.terminating if waiting else ())]
            taken = ended.indexes | ended.failed_indexes | {index_of(pod) for pod in busy}
            taken |= self._put_off(look)
            marks = [*first_indexes(spec["completions"], taken, missing)]
        await self._make(look, marks)

    def _wanted(self, look: _Look, ended: Ended) -> int:
        """Return how many pods are to be active."""
        spec = look.spec
        parallelism: int = spec["parallelism"]
        completions = spec.get("completions")
        if completions is None:
            # The pods themselves know when the work is done: when one of them says so.
            return min(parallelism, len(look.active)) if ended.successes else parallelism
        done = ended.successes + len(ended.failed_indexes)
        wanted: int = min(parallelism, completions - done)
        return max(0, wanted)

    async def _make(self, look: _Look, marks: list[int | None]) -> None:
        value = look.value
        namespace = value["metadata"]["namespace"]
        failures = {
            index_of(pod): failures_of(pod) + 1
            for pod in sorted(look.pods, key=failures_of)
            if is_failed(pod)
            and verdict_of(pod, look.spec.get("podFailurePolicy")).action == "Count"
        }
        tried = await asyncio.gather(
            *(
                self.registry.create(
                    PODS,
                    namespace,
                    _pod(value, mark, failures.get(-1 if mark is None else mark, 0)),
                )
                for mark in marks
            ),
            return_exceptions=True,
        )
        for result in tried:
            if isinstance(result, ApiError):
                await self.recorder.record(
                    value, "Warning", "FailedCreate", f"Error creating: {result}"
                )
            if isinstance(result, BaseException):
                raise result
            name = result.value["metadata"]["name"]
            await self.recorder.record(value, "Normal", "SuccessfulCreate", f"Created pod: {name}")

    async def _delete(self, look: _Look, pods: list[JsonObject]) -> None:
        """Delete pods that are no longer wanted; they do not count as failed."""
        for pod in pods:
            await self._release(pod)
            await self.remove(PODS, pod)
            name = pod["metadata"]["name"]
            await self.recorder.record(
                look.value, "Normal", "SuccessfulDelete", f"Deleted pod: {name}"
            )

    async def _release(self, pod: JsonObject) -> None:
        """Take the finalizer away that holds a pod until it is counted."""
        meta = pod["metadata"]
        if TRACKING not in (meta.get("finalizers") or ()):
            return

        def change(held: JsonObject) -> JsonObject:
            rest = [each for each in held["metadata"].get("finalizers") or () if each != TRACKING]
            return {**held, "metadata": {**held["metadata"], "finalizers": rest}}

        try:
            await self.registry.update(PODS, meta["namespace"], meta["name"], change)
        except ApiError as exc:
            if exc.reason != "NotFound":
                raise

    async def _count(self, look: _Look, ended: Ended) -> None:
        """Count what ended: note the uids, let the pods go, then turn uids into numbers."""
        status = look.status
        if look.is_indexed and ended.indexes:
            status["completedIndexes"] = format_indexes(ended.indexes)
        if ended.failed_indexes:
            status["failedIndexes"] = format_indexes(ended.failed_indexes)
        if ended.held:
            look.pods = self.owned.of(look.value["metadata"]["uid"])
            status["uncountedTerminatedPods"] = ended.uncounted
            await self._tell(look)
            for pod in ended.held:
                await self._release(pod)
        status["succeeded"] = ended.successes
        status["failed"] = ended.failures
        status["uncountedTerminatedPods"] = {}

    def _finish(self, look: _Look, verdict: tuple[str, str, str]) -> None:
        kind, reason, message = verdict
        now = self.registry.now()
        add_condition(look.status, kind, reason, message, now)
        if kind == "Complete":
            look.status["completionTime"] = timestamp(now)
            look.changed.append(("Normal", "Completed", "Job completed"))
        else:
            look.changed.append(("Warning", reason, message))

    async def _tell(self, look: _Look) -> None:
        active = [pod for pod in look.pods if is_active(pod)]
        numbers = {
            "active": len(active),
            "ready": sum(is_ready(pod) for pod in active),
            "terminating": sum(is_terminating(pod) for pod in look.pods),
        }
        for field in ("active", "succeeded", "failed"):
            number = numbers.get(field, look.status.get(field, 0))
            look.status.pop(field, None)
            if number:
                look.status[field] = number
        look.status["ready"] = numbers["ready"]
        look.status["terminating"] = numbers["terminating"]
        written, look.written = look.written, copy.deepcopy(look.status)
        await self.write_status({**look.value, "status": written}, look.written)
        changed, look.changed = look.changed, []
        for kind, reason, message in changed:
            await self.recorder.record(look.value, kind, reason, message)

    async def _expire(self, value: JsonObject) -> float | None:
        """Delete a finished Job when its time is over."""
        ttl = value["spec"].get("ttlSecondsAfterFinished")
        if ttl is None:
            return None
        since = next(
            held["lastTransitionTime"]
            for held in value["status"]["conditions"]
            if held["type"] in ("Complete", "Failed") and held["status"] == "True"
        )
        passed = (self.registry.now() - datetime.fromisoformat(since)).total_seconds()
        if passed < ttl:
            return float(ttl - passed)
        meta = value["metadata"]
        options = DeleteOptions(uid=meta["uid"], propagation="Foreground")
        try:
            await self.registry.delete(JOBS, meta["namespace"], meta["name"], options)
        except ApiError as exc:
            if exc.reason not in ("NotFound", "Conflict"):
                raise
        return None

    def _backoff_in(self, look: _Look, slot: int) -> float:
        held = self._backoffs.get(look.value["metadata"]["uid"], {}).get(slot)
        return 0.0 if held is None else held.until - self.registry.now().timestamp()

    def _put_off(self, look: _Look) -> set[int]:
        """Return the indexes whose next try is not due yet."""
        held = self._backoffs.get(look.value["metadata"]["uid"], {})
        return {slot for slot in held if self._backoff_in(look, slot) > 0}

    def _later(self, look: _Look) -> float | None:
        """Return in how many seconds something is due; what became so meanwhile, at once."""
        deadline = self._deadline_in(look)
        waits = [self._backoff_in(look, slot) for slot in self._put_off(look)]
        if deadline is not None:
            waits.append(max(deadline, 0.0))
        return min(waits, default=None)


def _pod(value: JsonObject, index: int | None, failures: int) -> JsonObject:
    """Return a pod of a Job; of an Indexed one, with its index and how often that failed."""
    pod = pod_of(value, {})
    meta, spec = pod["metadata"], pod["spec"]
    meta["finalizers"] = [*meta.get("finalizers", ()), TRACKING]
    if index is None:
        return pod
    name = value["metadata"]["name"]
    meta["generateName"] = f"{name}-{index}-"
    meta["annotations"] = {**meta.get("annotations", {}), INDEX: str(index)}
    if "backoffLimitPerIndex" in value["spec"]:
        meta["annotations"][FAILURES] = str(failures)
    meta["labels"] = {**meta["labels"], INDEX: str(index)}
    spec.setdefault("hostname", f"{name}-{index}")
    reference = {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX}']"}}
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        held = container.get("env") or []
        if all(each.get("name") != _INDEX_VARIABLE for each in held):
            container["env"] = [*held, {"name": _INDEX_VARIABLE, "valueFrom": reference}]
    return pod


def _worth(pod: JsonObject) -> tuple[bool, bool, str]:
    """Return a sort key: those that have done least come first."""
    started = (pod.get("status") or {}).get("startTime") or "~"
    return bool(pod["spec"].get("nodeName")), is_ready(pod), started
