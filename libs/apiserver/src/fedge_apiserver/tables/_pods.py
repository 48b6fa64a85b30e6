"""A pod's row: its state in one word, as kubectl users read it.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from datetime import datetime
from typing import Any

from fedge_apiserver.tables._age import human_age
from fedge_objects import JsonObject


def pod_cells(pod: JsonObject, now: datetime) -> list[Any]:
    """Return NAME READY STATUS RESTARTS AGE IP NODE NOMINATED-NODE READINESS-GATES."""
    spec, status = pod["spec"], pod.get("status") or {}
    statuses: list[dict[str, Any]] = status.get("containerStatuses") or []
    init_statuses: list[dict[str, Any]] = status.get("initContainerStatuses") or []
    sidecars = {
        container["name"]
        for container in spec.get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    }
    counted = [*statuses, *(s for s in init_statuses if s.get("name") in sidecars)]
    ready = sum(bool(item.get("ready")) for item in counted if "running" in _state(item))
    total = len(spec.get("containers") or ()) + len(sidecars)
    word, is_initializing = _word(pod, statuses, init_statuses, sidecars)
    restarted = init_statuses if is_initializing else counted
    return [
        pod["metadata"]["name"],
        f"{ready}/{total}",
        word,
        _restarts(restarted, now),
        human_age(pod["metadata"].get("creationTimestamp"), now),
        _first_ip(status),
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        _gates(spec, status),
    ]


def _state(container: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = container.get("state") or {}
    return state


def _word(
    pod: JsonObject,
    statuses: list[dict[str, Any]],
    init_statuses: list[dict[str, Any]],
    sidecars: set[str],
) -> tuple[str, bool]:
    """Return the pod's state in a word, and whether its init containers still run."""
    status = pod.get("status") or {}
    word = status.get("reason") or status.get("phase") or "Unknown"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            word = "SchedulingGated"
    init_word = _init_word(pod, init_statuses, sidecars)
    word = _main_word(word, statuses, status) if init_word is None else init_word
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            word = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            word = "Terminating"
    return word, init_word is not None


def _init_word(
    pod: JsonObject, init_statuses: list[dict[str, Any]], sidecars: set[str]
) -> str | None:
    total = len(pod["spec"].get("initContainers") or ())
    for index, container in enumerate(init_statuses):
        state = _state(container)
        ended = state.get("terminated")
        waiting = state.get("waiting")
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if container.get("name") in sidecars and container.get("started"):
            continue
        if ended is not None:
            return f"Init:{_ended_word(ended)}"
        if waiting is not None and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{total}"
    return None


def _main_word(word: str, statuses: list[dict[str, Any]], status: dict[str, Any]) -> str:
    is_running = False
    for container in reversed(statuses):
        state = _state(container)
        if reason := (state.get("waiting") or {}).get("reason"):
            word = reason
        elif (ended := state.get("terminated")) is not None:
            word = _ended_word(ended)
        elif container.get("ready") and "running" in state:
            is_running = True
    if word == "Completed" and is_running:
        is_ready = any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in status.get("conditions") or ()
        )
        word = "Running" if is_ready else "NotReady"
    return word


def _ended_word(ended: dict[str, Any]) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _restarts(containers: list[dict[str, Any]], now: datetime) -> str:
    count = sum(int(container.get("restartCount") or 0) for container in containers)
    ends = [
        str(ended["finishedAt"])
        for container in containers
        if (ended := (container.get("lastState") or {}).get("terminated"))
        and ended.get("finishedAt")
    ]
    if count and ends:
        return f"{count} ({human_age(max(ends), now)} ago)"
    return str(count)


def _first_ip(status: dict[str, Any]) -> str:
    addresses = status.get("podIPs") or []
    address = addresses[0].get("ip") if addresses else status.get("podIP")
    return address or "<none>"


def _gates(spec: dict[str, Any], status: dict[str, Any]) -> str:
    gates = spec.get("readinessGates") or []
    if not gates:
        return "<none>"
    true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    return f"{sum(gate.get('conditionType') in true for gate in gates)}/{len(gates)}"
