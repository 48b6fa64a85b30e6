"""A pod's status, computed from what it should be and what the runtime has.

Pure. Phases, conditions and container states follow
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedge_cri import ContainerState, ContainerStatus
from fedge_edged.limits import qos_class
from fedge_edged.observed import Observed
from fedge_edged.pods import Container, Pod
from fedge_edged.restarts import should_restart
from fedge_edged.specs import RESTARTS
from fedge_edged.timestamps import from_nanoseconds, from_seconds
from fedge_objects import JsonObject


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not run."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is known of a pod beside its spec and the runtime's view.

    Attributes:
        host_ip: the node's address.
        started_at: when edged took the pod up, seconds since the epoch.
        now: the time.
        waiting: per container that waits, why.
        previous: the status last computed; transition times are kept from it.
        runtime: name of the runtime, which container ids begin with.
    """

    host_ip: str
    started_at: float
    now: float
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    previous: JsonObject | None = None
    runtime: str = "containerd"


def compute(pod: Pod, observed: Observed, situation: Situation) -> JsonObject:
    """Return the pod's whole status."""
    inits = [
        _container_status(pod, c, observed, situation, init=True) for c in pod.spec.init_containers
    ]
    mains = [
        _container_status(pod, c, observed, situation, init=False) for c in pod.spec.containers
    ]
    phase = _phase(pod, inits, mains)
    sandbox = observed.newest_sandbox
    status: JsonObject = {
        "phase": phase,
        "hostIP": situation.host_ip,
        "hostIPs": [{"ip": situation.host_ip}],
        "startTime": _started(situation),
        "qosClass": qos_class(pod),
        "conditions": _conditions(
            phase,
            inits,
            mains,
            has_sandbox=sandbox is not None and sandbox.is_ready,
            situation=situation,
        ),
        "containerStatuses": mains,
    }
    if inits:
        status["initContainerStatuses"] = inits
    ips = [situation.host_ip] if pod.spec.host_network else list(observed.ips)
    if ips and sandbox is not None and sandbox.is_ready:
        status["podIP"] = ips[0]
        status["podIPs"] = [{"ip": ip} for ip in ips]
    return status


def _started(situation: Situation) -> str:
    kept = (situation.previous or {}).get("startTime")
    return str(kept) if kept else from_seconds(situation.started_at)


def _container_status(
    pod: Pod, container: Container, observed: Observed, situation: Situation, *, init: bool
) -> JsonObject:
    attempts = observed.attempts_of(container.name)
    newest = attempts[0] if attempts else None
    known = observed.statuses.get(newest.id) if newest else None
    waiting = situation.waiting.get(container.name)
    status: JsonObject = {
        "name": container.name,
        "image": container.image,
        "imageID": newest.image_ref if newest else "",
        "restartCount": int(newest.annotations.get(RESTARTS, newest.attempt)) if newest else 0,
        "ready": False,
        "started": False,
        "state": {},
        "lastState": {},
    }
    if newest is not None:
        status["containerID"] = f"{situation.runtime}://{newest.id}"
    if newest is not None and known is not None and known.state is ContainerState.RUNNING:
        status["state"] = {"running": {"startedAt": from_nanoseconds(known.started_at)}}
        status["started"] = True
        status["ready"] = not init
    elif newest is not None and known is not None and known.state is ContainerState.EXITED:
        ended = _terminated(known, situation.runtime)
        if waiting is not None:
            status["state"] = _waiting(waiting)
            status["lastState"] = {"terminated": ended}
        else:
            status["state"] = {"terminated": ended}
            status["ready"] = init and known.exit_code == 0
    else:
        status["state"] = _waiting(waiting or _not_yet(pod, init=init))
    previous = attempts[1] if len(attempts) > 1 else None
    last = observed.statuses.get(previous.id) if previous else None
    if not status["lastState"] and last is not None and last.state is ContainerState.EXITED:
        status["lastState"] = {"terminated": _terminated(last, situation.runtime)}
    return status


def _not_yet(pod: Pod, *, init: bool) -> Waiting:
    if pod.spec.init_containers and not init:
        return Waiting("PodInitializing")
    return Waiting("PodInitializing" if init else "ContainerCreating")


def _waiting(waiting: Waiting) -> JsonObject:
    shown: JsonObject = {"reason": waiting.reason}
    if waiting.message:
        shown["message"] = waiting.message
    return {"waiting": shown}


def _terminated(status: ContainerStatus, runtime: str) -> JsonObject:
    shown: JsonObject = {
        "exitCode": status.exit_code,
        "reason": status.reason or ("Completed" if status.exit_code == 0 else "Error"),
        "startedAt": from_nanoseconds(status.started_at),
        "finishedAt": from_nanoseconds(status.finished_at),
        "containerID": f"{runtime}://{status.id}",
    }
    if status.message:
        shown["message"] = status.message
    return shown


def _phase(pod: Pod, inits: list[JsonObject], mains: list[JsonObject]) -> str:
    policy = pod.spec.restart_policy
    for status in inits:
        ended = status["state"].get("terminated")
        if ended and ended["exitCode"] != 0 and not should_restart(policy, ended["exitCode"]):
            return "Failed"
    if any(not status["state"].get("terminated") for status in inits):
        return "Pending"
    ended_codes: list[int] = []
    waits = runs = False
    for status in mains:
        state = status["state"]
        if "running" in state:
            runs = True
        elif "terminated" in state:
            ended_codes.append(state["terminated"]["exitCode"])
        elif status["lastState"]:
            runs = True  # waits for its next start
        else:
            waits = True
    if waits:
        return "Pending"
    if runs or (any(should_restart(policy, code) for code in ended_codes) and not pod.is_deleted):
        return "Running"
    return "Succeeded" if all(code == 0 for code in ended_codes) else "Failed"


def _conditions(
    phase: str,
    inits: list[JsonObject],
    mains: list[JsonObject],
    *,
    has_sandbox: bool,
    situation: Situation,
) -> list[JsonObject]:
    initialized = all(each["ready"] for each in inits)
    unready = [each["name"] for each in mains if not each["ready"]]
    done = phase in {"Succeeded", "Failed"}
    ready: tuple[bool, str, str] = (not unready, "", "")
    if phase == "Succeeded":
        ready = (False, "PodCompleted", "")
    elif phase == "Failed":
        ready = (False, "PodFailed", "")
    elif unready:
        ready = (
            False,
            "ContainersNotReady",
            f"containers with unready status: [{' '.join(unready)}]",
        )
    init_state: tuple[bool, str, str] = (True, "PodCompleted" if phase == "Succeeded" else "", "")
    if not initialized and not done:
        names = " ".join(each["name"] for each in inits if not each["ready"])
        init_state = (
            False,
            "ContainersNotInitialized",
            f"containers with incomplete status: [{names}]",
        )
    states: dict[str, tuple[bool, str, str]] = {
        "PodReadyToStartContainers": (has_sandbox, "", ""),
        "Initialized": init_state,
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": (True, "", ""),
    }
    before = {each["type"]: each for each in (situation.previous or {}).get("conditions", [])}
    first = max(
        (
            each["state"]["running"]["startedAt"]
            for each in mains
            if "running" in each["state"] and each["state"]["running"]["startedAt"]
        ),
        default=from_seconds(situation.now),
    )
    return [
        _condition(kind, state, before.get(kind), situation, first)
        for kind, state in states.items()
    ]


def _condition(
    kind: str, state: tuple[bool, str, str], before: Any, situation: Situation, first: str
) -> JsonObject:
    """Return a condition; ``first`` is since when it holds if nothing was computed before."""
    value = "True" if state[0] else "False"
    changed = first if situation.previous is None else from_seconds(situation.now)
    if before is not None and before["status"] == value:
        changed = before["lastTransitionTime"]
    condition: JsonObject = {
        "type": kind,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": changed,
    }
    if state[1]:
        condition["reason"] = state[1]
    if state[2]:
        condition["message"] = state[2]
    return condition
