"""The conditions of a pod.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-conditions
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedge_edged.pods import Pod
from fedge_objects import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Whether a condition holds, and why."""

    holds: bool
    reason: str = ""
    message: str = ""


def readiness(pod: Pod, phase: str, *, unready: Sequence[str]) -> tuple[State, State]:
    """Return the states of ``ContainersReady`` and ``Ready``.

    Args:
        pod: its readiness gates count for the second; who sets them, sets the pod's conditions.
        phase: the pod's.
        unready: names of containers that are not ready.
    """
    if phase in {"Succeeded", "Failed"}:
        done = State(holds=False, reason="PodCompleted" if phase == "Succeeded" else "PodFailed")
        return done, done
    if unready:
        waits = State(
            holds=False,
            reason="ContainersNotReady",
            message=f"containers with unready status: [{' '.join(unready)}]",
        )
        return waits, waits
    told = _told(pod)
    missing = []
    for gate in pod.spec.readiness_gates:
        kind = gate.condition_type
        if kind not in told:
            missing.append(
                f'corresponding condition of pod readiness gate "{kind}" does not exist.'
            )
        elif told[kind] != "True":
            missing.append(
                f'the status of pod readiness gate "{kind}" is not "True", but {told[kind]}'
            )
    if missing:
        gated = State(holds=False, reason="ReadinessGatesNotReady", message=", ".join(missing))
        return State(holds=True), gated
    return State(holds=True), State(holds=True)


def conditions(
    states: Mapping[str, State], previous: JsonObject | None, *, changed_at: str
) -> list[JsonObject]:
    """Return the conditions; one that holds as it did keeps its transition time."""
    before = {each["type"]: each for each in (previous or {}).get("conditions", [])}
    found = []
    for kind, state in states.items():
        value = "True" if state.holds else "False"
        known = before.get(kind)
        same = known is not None and known["status"] == value
        condition: JsonObject = {
            "type": kind,
            "status": value,
            "lastProbeTime": None,
            "lastTransitionTime": known["lastTransitionTime"] if known and same else changed_at,
        }
        if state.reason:
            condition["reason"] = state.reason
        if state.message:
            condition["message"] = state.message
        found.append(condition)
    return found


def _told(pod: Pod) -> dict[str, str]:
    """Return the conditions that others have set."""
    status = pod.raw.get("status") or {}
    return {str(each["type"]): str(each["status"]) for each in status.get("conditions") or ()}
