"""What is next in a job: pure, made anew of what the API holds whenever something changed.

The order matters for a controller that is killed, and for several that run: a node's turn is first
written to the job's status, as a change of the very version that was looked at, and then its task
is made. So no more nodes than wanted are at it, and none is forgotten.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from fedge_controller.jobs.kinds import JobKind
from fedge_controller.jobs.options import InvalidJobError, Options, selects
from fedge_controller.kinds.node_tasks import phase_of
from fedge_objects import JsonObject
from fedge_operations import GROUP, VERSION, JobPhase, TaskPhase, as_spec, task_name

ROLE: Final = "node-role.kubernetes.io/edge"
"""The label that an edge gives itself; other nodes of a cluster take no tasks."""
LATE_SECONDS: Final = 60.0
"""So long after a node's time is up its word is still waited for: it has a way to go, and whoever
takes a version back has to begin the one before."""
MAX_NODES: Final = 5000
"""As many fit into an object of the API with all that may be said of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What follows.

    Attributes:
        status: the job's, to be written if it is another than it has.
        make: tasks that are to be there, of turns that the job's status has already.
        confirm: tasks on which somebody has agreed, by name, with their new specs.
        give_up: names of tasks whose nodes said nothing in time, and what to say of each.
        look_again_at: when time alone changes something, in seconds since 1970.
    """

    status: JsonObject
    make: list[JsonObject] = field(default_factory=list)
    confirm: dict[str, JsonObject] = field(default_factory=dict)
    give_up: dict[str, str] = field(default_factory=dict)
    look_again_at: float | None = None


def decide(
    kind: JobKind,
    job: JsonObject,
    *,
    nodes: Mapping[str, JsonObject],
    tasks: Mapping[str, JsonObject],
    now: float,
) -> Next:
    """Return what is next in a job.

    Args:
        kind: of the job.
        job: as the API has it.
        nodes: all of the cluster's, by name.
        tasks: all node tasks, by name.
        now: seconds since 1970.
    """
    status = job.get("status") or {}
    try:
        options = kind.options(job)
        if not status.get("phase"):
            return Next(status=_begun(kind, job, options, nodes, now))
        return _Round(kind, job, options, nodes=nodes, tasks=tasks, now=now).next()
    except InvalidJobError as exc:
        if (status.get("phase") or JobPhase.INIT) in {JobPhase.COMPLETED, JobPhase.FAILURE}:
            return Next(status=status)
        return Next(status=_ended(status, JobPhase.FAILURE, "Invalid", str(exc), now))


def _begun(
    kind: JobKind, job: JsonObject, options: Options, nodes: Mapping[str, JsonObject], now: float
) -> JsonObject:
    """Return the first status of a job: which nodes it is about is settled here, once."""
    chosen = options.node_names or sorted(
        name
        for name, node in nodes.items()
        if _is_edge(node) and selects(options.selector or {}, _labels(node))
    )
    if not chosen:
        raise InvalidJobError(
            "labelSelector selects no edge of the cluster (`fedge get nodes --show-labels` tells"
            " their labels); make a new job"
        )
    if len(chosen) > MAX_NODES:
        raise InvalidJobError(
            f"{len(chosen)} nodes are meant: make jobs of {MAX_NODES} nodes each at most"
        )
    entries = []
    for name in chosen:
        kind.work(job, name)  # tells what is wrong before anything is begun
        entry: JsonObject = {"nodeName": name, "phase": str(TaskPhase.PENDING)}
        if name not in nodes:
            entry |= _failed(f"there is no node {name!r} in the cluster")
        elif not _is_edge(nodes[name]):
            entry |= _failed(f"node {name!r} is no edge: it lacks the label {ROLE}")
        entries.append(entry)
    return {
        "phase": str(JobPhase.IN_PROGRESS),
        "nodeStatus": entries,
        "startTime": time_of(now),
        **_counts(entries),
    }


class _Round:
    """One look at a job that has begun."""

    def __init__(
        self,
        kind: JobKind,
        job: JsonObject,
        options: Options,
        *,
        nodes: Mapping[str, JsonObject],
        tasks: Mapping[str, JsonObject],
        now: float,
    ) -> None:
        self._kind = kind
        self._job = job
        self._options = options
        self._nodes = nodes
        self._tasks = tasks
        self._now = now
        self._next = Next(status={})
        self._looks: list[float] = []

    def next(self) -> Next:
        """Return what follows."""
        status: JsonObject = self._job["status"]
        entries = [self._entry(each) for each in status.get("nodeStatus") or ()]
        is_over = JobPhase(status["phase"]).is_final
        if not is_over:
            self._give_turns(entries)
        new = {**status, "nodeStatus": entries, **_counts(entries)}
        if not is_over and not any(_in(entry, TaskPhase.IN_PROGRESS) for entry in entries):
            new = self._look_at_end(new, entries)
        elif not is_over and (reason := self._too_many_failed(entries)):
            new["reason"] = reason
        return Next(
            status=new,
            make=self._next.make,
            confirm=self._next.confirm,
            give_up=self._next.give_up,
            look_again_at=min(self._looks, default=None),
        )

    def _entry(self, entry: JsonObject) -> JsonObject:
        """Return what is to be said of a node whose turn has come or not, as its task says it."""
        node, phase = str(entry["nodeName"]), TaskPhase(entry["phase"])
        if phase is TaskPhase.PENDING or (phase.is_told and not self._task(node)):
            return entry
        task = self._task(node)
        if task is None:
            if phase is TaskPhase.IN_PROGRESS:
                self._next.make.append(self._made(node))
            return entry
        told = task.get("status") or {}
        shown: JsonObject = {"nodeName": node, "phase": str(TaskPhase.IN_PROGRESS)}
        if phase_of(task).is_over:
            shown["phase"] = str(phase_of(task))
        if told.get("reason"):
            shown["reason"] = told["reason"]
        if told.get("steps"):
            shown["actionFlow"] = told["steps"]
        shown |= self._kind.shown(told)
        if not phase_of(task).is_over:
            self._look_at_time(node, task)
            self._look_at_confirmation(node, task)
        return shown

    def _look_at_time(self, node: str, task: JsonObject) -> None:
        """See whether a node has had its time."""
        told = task.get("status") or {}
        if told.get("reason") and _waits_for_somebody(told):
            return
        seconds = self._options.timeout_seconds
        until = _since(task, told) + seconds + LATE_SECONDS
        if until > self._now:
            self._looks.append(until)
            return
        said = "it is away" if not _is_ready(self._nodes.get(node)) else "it is there"
        self._next.give_up[task["metadata"]["name"]] = (
            f"the node did not say within {seconds} s how it ended; {said}. What it says later"
            " still counts"
        )

    def _look_at_confirmation(self, node: str, task: JsonObject) -> None:
        wanted = as_spec(self._kind.work(self._job, node))
        was = task["spec"].get("upgrade") or {}
        if (wanted.get("upgrade") or {}).get("confirmed") and not was.get("confirmed"):
            spec = {**task["spec"], "upgrade": {**was, "confirmed": True}}
            self._next.confirm[task["metadata"]["name"]] = spec

    def _give_turns(self, entries: list[JsonObject]) -> None:
        """Give the next nodes their turn, in the status only; who is away is passed over."""
        too_many = self._too_many_failed(entries)
        free = self._options.concurrency - sum(
            _in(entry, TaskPhase.IN_PROGRESS) for entry in entries
        )
        for number, entry in enumerate(entries):
            if not _in(entry, TaskPhase.PENDING):
                continue
            node = str(entry["nodeName"])
            if too_many:
                entries[number] = {**entry, "reason": f"not begun: {too_many}"}
            elif not _is_ready(self._nodes.get(node)):
                entries[number] = self._away(entry)
            elif free > 0:
                free -= 1
                entries[number] = {"nodeName": node, "phase": str(TaskPhase.IN_PROGRESS)}
            else:
                entries[number] = {"nodeName": node, "phase": str(TaskPhase.PENDING)}

    def _away(self, entry: JsonObject) -> JsonObject:
        """Return what is said of a node that is away: its turn comes when it is back, or never."""
        limit = self._options.absent_seconds
        if limit is not None:
            until = _created(self._job) + limit
            if until <= self._now:
                reason = f"the node was away for the {limit:g} s that the job waits"
                return {**entry, "phase": str(TaskPhase.UNKNOWN), "reason": reason}
            self._looks.append(until)
        return {**entry, "reason": "the node is away; its turn comes when it is back"}

    def _look_at_end(self, status: JsonObject, entries: list[JsonObject]) -> JsonObject:
        too_many = self._too_many_failed(entries)
        if too_many:
            return _ended(status, JobPhase.FAILURE, "TooManyFailed", too_many, self._now)
        if any(_in(entry, TaskPhase.PENDING) for entry in entries):
            return status
        counts = _counts(entries)
        text = f"{counts['succeeded']} of {counts['nodes']} nodes succeeded"
        return _ended(status, JobPhase.COMPLETED, "AllHadTheirTurn", text, self._now)

    def _too_many_failed(self, entries: list[JsonObject]) -> str:
        failed = sum(_in(entry, TaskPhase.FAILURE, TaskPhase.UNKNOWN) for entry in entries)
        if failed <= self._options.tolerated * len(entries):
            return ""
        return (
            f"{failed} of {len(entries)} nodes failed, more than the share"
            f" {self._options.tolerated:g} that failureTolerate bears"
        )

    def _task(self, node: str) -> JsonObject | None:
        task = self._tasks.get(task_name(self._kind.kind, self._job["metadata"]["name"], node))
        if task is None or task["metadata"].get("deletionTimestamp"):
            return None
        # of an older job of this name: it goes with that, and then ours is made
        owners = task["metadata"].get("ownerReferences") or ()
        is_ours = any(each.get("uid") == self._job["metadata"]["uid"] for each in owners)
        return task if is_ours else None

    def _made(self, node: str) -> JsonObject:
        metadata = self._job["metadata"]
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "NodeTask",
            "metadata": {
                "name": task_name(self._kind.kind, metadata["name"], node),
                "ownerReferences": [
                    {
                        "apiVersion": self._job["apiVersion"],
                        "kind": self._kind.kind,
                        "name": metadata["name"],
                        "uid": metadata["uid"],
                        "controller": True,
                        "blockOwnerDeletion": False,
                    }
                ],
            },
            "spec": {
                "nodeName": node,
                "job": {"kind": self._kind.kind, "name": metadata["name"]},
                "timeoutSeconds": self._options.timeout_seconds,
                "checkItems": [str(each) for each in self._options.check_items],
                **as_spec(self._kind.work(self._job, node)),
            },
        }


def given_up(task: JsonObject, reason: str) -> JsonObject:
    """Return the status of a task whose node did not say in time how it ended."""
    return {**(task.get("status") or {}), "phase": str(TaskPhase.UNKNOWN), "reason": reason}


def time_of(now: float) -> str:
    """Return a time as the API writes it."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ended(status: JsonObject, phase: JobPhase, reason: str, text: str, now: float) -> JsonObject:
    """Return a status that says that the job is over, as ``kubectl wait`` understands it.

    https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/#JobStatus
    """
    condition = {
        "type": "Complete" if phase is JobPhase.COMPLETED else "Failed",
        "status": "True",
        "reason": reason,
        "message": text,
        "lastTransitionTime": time_of(now),
    }
    return {
        **status,
        "phase": str(phase),
        "reason": text,
        "completionTime": time_of(now),
        "conditions": [condition],
    }


def _counts(entries: Iterable[JsonObject]) -> dict[str, Any]:
    phases = [TaskPhase(entry["phase"]) for entry in entries]
    return {
        "nodes": len(phases),
        "succeeded": phases.count(TaskPhase.SUCCESSFUL),
        "failed": phases.count(TaskPhase.FAILURE) + phases.count(TaskPhase.UNKNOWN),
    }


def _failed(reason: str) -> JsonObject:
    return {"phase": str(TaskPhase.FAILURE), "reason": reason}


def _in(entry: JsonObject, *phases: TaskPhase) -> bool:
    return entry["phase"] in phases


def _waits_for_somebody(told: JsonObject) -> bool:
    steps: list[JsonObject] = told.get("steps") or []
    return bool(steps) and steps[-1].get("status") == "Unknown"


def _since(task: JsonObject, told: JsonObject) -> float:
    """Return when a node's time began: with its task, or when somebody had agreed at last."""
    times = [_created(task)]
    times += [_parsed(each["time"]) for each in told.get("steps") or () if each.get("time")]
    if any(each.get("action") == "WaitingConfirmation" for each in told.get("steps") or ()):
        return max(times)
    return times[0]


def _created(obj: JsonObject) -> float:
    return _parsed(obj["metadata"]["creationTimestamp"])


def _parsed(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _labels(node: JsonObject) -> Mapping[str, str]:
    labels: Mapping[str, str] = node["metadata"].get("labels") or {}
    return labels


def _is_edge(node: JsonObject) -> bool:
    return ROLE in _labels(node)


def _is_ready(node: JsonObject | None) -> bool:
    conditions = ((node or {}).get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)
