"""Keeps one pod of a template on each node that it fits.

A node that is away neither gets nor loses its pod, and it does not hold up a rollout: only pods on
nodes that are there count towards ``maxUnavailable``. At the edge some node is always away.

https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from fedge_apiserver.controllers._placing import refusal
from fedge_apiserver.controllers.workloads._amounts import available_in, share, template_hash
from fedge_apiserver.controllers.workloads._loop import (
    Loop,
    condition,
    is_active,
    is_ready,
    pod_of,
)
from fedge_apiserver.controllers.workloads._revisions import Revisions
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import DAEMON_SETS, NODES, PODS
from fedge_objects import JsonObject

HASH: Final = "controller-revision-hash"
_TOLERATED: Final = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)
_AWAY: Final = ("not-ready", "unreachable")
_FIRST_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 900.0
_FORGOTTEN_SECONDS: Final = 1800.0


@dataclass(slots=True)
class _Backoff:
    """How long the next ended pod is left, and until when this one is, since the epoch."""

    seconds: float
    until: float


class DaemonSets(Loop):
    """Follows DaemonSets, their pods, and the nodes."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, DAEMON_SETS, PODS, "daemonset-controller", beside=[NODES])
        self._revisions = Revisions(self)
        self._failures: dict[tuple[str, str], _Backoff] = {}
        """By DaemonSet's uid and node: pods that end by themselves are not replaced at once."""

    async def settle(self, value: JsonObject) -> float | None:
        """Make the pods that are missing, delete those too many, and take a step of a rollout."""
        nodes = {node["metadata"]["name"]: node for node in self.registry.objects(NODES)}
        mark = template_hash(value["spec"]["template"])
        fits = {name for name, node in nodes.items() if self._fits(value, node)}
        by_node: dict[str, list[JsonObject]] = defaultdict(list)
        for pod in self.owned.of(value["metadata"]["uid"]):
            by_node[pod["spec"].get("nodeName", "")].append(pod)
        later: list[float] = []
        for name, pods in by_node.items():
            for pod in _surplus(pods, mark, wanted=name in fits):
                wait = self._wait(value, name) if _has_ended(pod) else 0.0
                if wait:
                    later.append(wait)
                else:
                    await self.remove(PODS, pod)
        for name in sorted(fits):
            # A pod that ends stays until the node has let go of it: two at once would be one
            # too many for what they share there.
            if not by_node.get(name):
                await self._make(value, name, mark)
        await self._roll(value, nodes, mark)
        held = self._revisions.of(value)
        newest = await self._revisions.newest(value, held)
        await self._revisions.forget(value, held, {newest["metadata"]["name"]})
        if (ready := await self._tell(value, fits, mark)) is not None:
            later.append(ready)
        return min(later, default=None)

    def _wait(self, value: JsonObject, node: str) -> float:
        """Return for how long an ended pod is left; 0: it is to be replaced now."""
        key = (value["metadata"]["uid"], node)
        now = self.registry.now().timestamp()
        held = self._failures.get(key)
        if held is None or now > held.until + _FORGOTTEN_SECONDS:
            self._failures[key] = _Backoff(_FIRST_SECONDS, now + _FIRST_SECONDS)
            return 0.0
        if now < held.until:
            return held.until - now
        held.seconds = min(held.seconds * 2, _LONGEST_SECONDS)
        held.until = now + held.seconds
        return 0.0

    async def _make(self, value: JsonObject, node: str, mark: str) -> None:
        pod = self._pod(value, node, mark)
        namespace = value["metadata"]["namespace"]
        outcome = await self.registry.create(PODS, namespace, pod)
        name = outcome.value["metadata"]["name"]
        await self.recorder.record(value, "Normal", "SuccessfulCreate", f"Created pod: {name}")

    def _pod(self, value: JsonObject, node: str, mark: str) -> JsonObject:
        pod = pod_of(value, {HASH: mark}, nodeName=node)
        held = pod["spec"].get("tolerations") or []
        added = [
            {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect}
            for key, effect in _TOLERATED
        ]
        pod["spec"]["tolerations"] = [*held, *(each for each in added if each not in held)]
        return pod

    def _fits(self, value: JsonObject, node: JsonObject) -> bool:
        """Whether a node is to have a pod; that it is away, or full, makes no difference."""
        pod = self._pod(value, node["metadata"]["name"], "")
        pod["spec"]["tolerations"] += [
            {"key": f"node.kubernetes.io/{key}", "operator": "Exists"} for key in _AWAY
        ]
        return refusal(pod, node, 0) is None

    async def _roll(self, value: JsonObject, nodes: dict[str, JsonObject], mark: str) -> None:
        strategy = value["spec"]["updateStrategy"]
        if strategy["type"] != "RollingUpdate":
            return
        here = [
            pod
            for pod in self.owned.of(value["metadata"]["uid"])
            if _is_there(nodes.get(pod["spec"].get("nodeName", "")))
        ]
        most = max(1, share(strategy["rollingUpdate"].get("maxUnavailable"), len(here), up=True))
        old = [pod for pod in here if is_active(pod) and not _is_of(pod, mark)]
        idle = [pod for pod in old if not is_ready(pod)]
        for pod in idle:
            # It serves nobody as it is: nothing is lost by replacing it.
            await self.remove(PODS, pod)
        unavailable = sum(not is_active(pod) or not is_ready(pod) for pod in here)
        for pod in [pod for pod in old if is_ready(pod)][: max(0, most - unavailable)]:
            await self.remove(PODS, pod)

    async def _tell(self, value: JsonObject, fits: set[str], mark: str) -> float | None:
        now = self.registry.now()
        wait = value["spec"].get("minReadySeconds", 0)
        pods = [pod for pod in self.owned.of(value["metadata"]["uid"]) if is_active(pod)]
        placed = [pod for pod in pods if pod["spec"].get("nodeName") in fits]
        waits = [available_in(pod, wait, now) for pod in placed]
        available = sum(each == 0 for each in waits)
        status: JsonObject = {
            "currentNumberScheduled": len(placed),
            "numberMisscheduled": len(pods) - len(placed),
            "desiredNumberScheduled": len(fits),
            "numberReady": sum(is_ready(pod) for pod in placed),
            "observedGeneration": value["metadata"]["generation"],
        }
        optional = {
            "updatedNumberScheduled": sum(_is_of(pod, mark) for pod in placed),
            "numberAvailable": available,
            "numberUnavailable": len(fits) - available,
        }
        status.update({key: number for key, number in optional.items() if number})
        await self.write_status(value, status)
        later = [each for each in waits if each]
        return min(later) if later else None


def _surplus(pods: list[JsonObject], mark: str, *, wanted: bool) -> list[JsonObject]:
    """Return which of a node's pods are to go: all but the best, and all that have ended."""
    ended = [
        pod for pod in pods if _has_ended(pod) and not pod["metadata"].get("deletionTimestamp")
    ]
    active = [pod for pod in pods if is_active(pod)]
    if not wanted:
        return [*ended, *active]
    best = sorted(
        active,
        key=lambda pod: (
            not _is_of(pod, mark),
            not is_ready(pod),
            pod["metadata"]["creationTimestamp"],
        ),
    )
    return [*ended, *best[1:]]


def _has_ended(pod: JsonObject) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _is_of(pod: JsonObject, mark: str) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get(HASH) == mark)


def _is_there(node: JsonObject | None) -> bool:
    return node is not None and condition(node, "Ready").get("status") == "True"
