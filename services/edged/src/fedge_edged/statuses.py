"""A pod's status, computed from what it should be and what the runtime has.

Pure. Phases, conditions and container states follow
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fedge_cri import Container as Running
from fedge_cri import ContainerState, ContainerStatus
from fedge_edged.conditions import State, conditions, readiness
from fedge_edged.health import HEALTHY, Health
from fedge_edged.limits import qos_class
from fedge_edged.observed import Observed
from fedge_edged.pods import Container, Pod
from fedge_edged.restarts import should_restart
from fedge_edged.specs import RESTARTS
from fedge_edged.timestamps import from_nanoseconds, from_seconds
from fedge_edged.verdicts import Verdict
from fedge_objects import JsonObject

RESOURCES = "fedge.io/container.resources"
"""Annotation of a container: ``resources_hash`` of what it was made with."""


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
        health: what probes have found out.
        verdict: what the node has decided about the pod for good.
    """

    host_ip: str
    started_at: float
    now: float
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    previous: JsonObject | None = None
    runtime: str = "containerd"
    health: Health = HEALTHY
    verdict: Verdict | None = None


def resources_hash(container: Container) -> str:
    """Return what changes when a container's requests or limits do."""
    asked = {"requests": container.resources.requests, "limits": container.resources.limits}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def compute(pod: Pod, observed: Observed, situation: Situation) -> JsonObject:
    """Return the pod's whole status."""
    spec, verdict = pod.spec, situation.verdict

    def statuses(containers: Iterable[Container], *, init: bool = False) -> list[JsonObject]:
        return [_container_status(pod, c, observed, situation, init=init) for c in containers]

    inits = statuses(spec.init_containers, init=True)
    mains = statuses(spec.containers)
    phase = _phase(pod, inits, mains)
    if verdict is not None and not observed.running():
        phase = verdict.phase
    sandbox = observed.newest_sandbox
    has_sandbox = sandbox is not None and sandbox.is_ready
    status: JsonObject = {
        "phase": phase,
        "hostIP": situation.host_ip,
        "hostIPs": [{"ip": situation.host_ip}],
        "startTime": _started(situation),
        "qosClass": qos_class(pod),
        "conditions": _conditions(pod, phase, inits, mains, observed, situation),
    }
    if verdict is not None and verdict.reason:
        status |= {"reason": verdict.reason, "message": verdict.message}
    if verdict is None or observed.containers:
        status["containerStatuses"] = mains
        if inits:
            status["initContainerStatuses"] = inits
    ephemeral = [
        each
        for each in statuses(spec.ephemeral_containers)
        if "containerID" in each or "waiting" in each["state"]
    ]
    if ephemeral:
        status["ephemeralContainerStatuses"] = [{**each, "ready": False} for each in ephemeral]
    ips = [situation.host_ip] if spec.host_network else list(observed.ips)
    if ips and has_sandbox:
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
        status["started"] = situation.health.has_started(newest.id, container)
        is_init = init and not container.is_sidecar
        status["ready"] = not is_init and situation.health.is_ready(newest.id, container)
    elif newest is not None and known is not None and known.state is ContainerState.EXITED:
        ended = _terminated(known, situation.runtime)
        if waiting is not None:
            status["state"] = _waiting(waiting)
            status["lastState"] = {"terminated": ended}
        else:
            status["state"] = {"terminated": ended}
            status["ready"] = init and known.exit_code == 0 and not container.is_sidecar
    else:
        status["state"] = _waiting(waiting or _not_yet(pod, init=init))
    previous = attempts[1] if len(attempts) > 1 else None
    last = observed.statuses.get(previous.id) if previous else None
    if not status["lastState"] and last is not None and last.state is ContainerState.EXITED:
        status["lastState"] = {"terminated": _terminated(last, situation.runtime)}
    return status


def _not_yet(pod: Pod, *, init: bool) -> Waiting:
    return Waiting("PodInitializing" if init or pod.spec.init_containers else "ContainerCreating")


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


def _has_begun(mains: list[JsonObject]) -> bool:
    """Whether a container proper has ever run, so that initialization is over."""
    return any("running" in each["state"] or _has_ended(each) for each in mains)


def _has_ended(status: JsonObject) -> bool:
    return "terminated" in status["state"] or bool(status["lastState"])


def _is_initialized(pod: Pod, status: JsonObject) -> bool:
    container = pod.find_container(str(status["name"]))
    if container is not None and container.is_sidecar:
        return bool(status["started"])
    return bool(status["ready"])


def _phase(pod: Pod, inits: list[JsonObject], mains: list[JsonObject]) -> str:
    policy = pod.spec.restart_policy
    sidecars = {each.name for each in pod.spec.init_containers if each.is_sidecar}
    for status in inits:
        ended = status["state"].get("terminated")
        if (
            ended
            and status["name"] not in sidecars
            and ended["exitCode"] != 0
            and not should_restart(policy, ended["exitCode"])
        ):
            return "Failed"
    if not _has_begun(mains) and not all(_is_initialized(pod, each) for each in inits):
        return "Pending"
    ended_codes: list[int] = []
    waits = False
    runs = any(each["name"] in sidecars and "running" in each["state"] for each in inits)
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
    pod: Pod,
    phase: str,
    inits: list[JsonObject],
    mains: list[JsonObject],
    observed: Observed,
    situation: Situation,
) -> list[JsonObject]:
    sandbox = observed.newest_sandbox
    sidecars = {each.name for each in pod.spec.init_containers if each.is_sidecar}
    counted = [each for each in inits if each["name"] in sidecars] + mains
    incomplete = [each["name"] for each in inits if not _is_initialized(pod, each)]
    initialized = State(holds=True, reason="PodCompleted" if phase == "Succeeded" else "")
    if incomplete and not _has_begun(mains) and phase == "Pending":
        initialized = State(
            holds=False,
            reason="ContainersNotInitialized",
            message=f"containers with incomplete status: [{' '.join(incomplete)}]",
        )
    containers_ready, ready = readiness(
        pod, phase, unready=[str(each["name"]) for each in counted if not each["ready"]]
    )
    states = {
        "PodReadyToStartContainers": State(holds=sandbox is not None and sandbox.is_ready),
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": containers_ready,
        "PodScheduled": State(holds=True),
    }
    verdict = situation.verdict
    if verdict is not None and verdict.disrupts:
        states["DisruptionTarget"] = State(
            holds=True, reason="TerminationByKubelet", message=verdict.message
        )
    resized = _resized(pod, observed.running())
    if resized:
        states["PodResizePending"] = State(
            holds=True,
            reason="Infeasible",
            message="this node does not resize containers that run; they keep what they were "
            f"started with until the pod is made anew: [{' '.join(resized)}]",
        )
    elif _had(situation.previous, "PodResizePending"):
        states["PodResizePending"] = State(holds=False)
    first = max(
        (
            str(each["state"]["running"]["startedAt"])
            for each in mains
            if "running" in each["state"] and each["state"]["running"]["startedAt"]
        ),
        default=from_seconds(situation.now),
    )
    changed = first if situation.previous is None else from_seconds(situation.now)
    return conditions(states, situation.previous, changed_at=changed)


def _had(previous: JsonObject | None, kind: str) -> bool:
    return any(each["type"] == kind for each in (previous or {}).get("conditions", ()))


def _resized(pod: Pod, running: Iterable[Running]) -> list[str]:
    """Return the running containers whose resources are not those of the spec any more."""
    found = []
    for each in running:
        container = pod.find_container(each.name)
        made_with = each.annotations.get(RESOURCES)
        if container is not None and made_with not in {None, resources_hash(container)}:
            found.append(each.name)
    return sorted(found)
