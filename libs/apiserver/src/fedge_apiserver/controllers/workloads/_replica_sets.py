"""Keeps as many pods of a template as a ReplicaSet says.

https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/
"""

import asyncio
from typing import Final

from fedge_apiserver.controllers.workloads._amounts import available_in
from fedge_apiserver.controllers.workloads._loop import Loop, is_active, is_ready, pod_of
from fedge_apiserver.errors import ApiError
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import PODS, REPLICA_SETS
from fedge_objects import JsonObject

_AT_ONCE: Final = 100
_PHASES: Final = {"Pending": 0, "Unknown": 1, "Running": 2}


class ReplicaSets(Loop):
    """Follows ReplicaSets and their pods."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, REPLICA_SETS, PODS, "replicaset-controller")

    async def settle(self, value: JsonObject) -> float | None:
        """Make the pods that are missing, or delete those too many."""
        pods = [pod for pod in self.owned.of(value["metadata"]["uid"]) if is_active(pod)]
        missing = value["spec"]["replicas"] - len(pods)
        if missing > 0:
            await self._make(value, min(missing, _AT_ONCE))
        elif missing < 0:
            surplus = sorted(pods, key=_worth)[:-missing]
            await asyncio.gather(*(self.remove(PODS, pod) for pod in surplus))
        return await self._tell(value)

    async def _make(self, value: JsonObject, count: int) -> None:
        namespace = value["metadata"]["namespace"]
        tried = await asyncio.gather(
            *(self.registry.create(PODS, namespace, pod_of(value, {})) for _ in range(count)),
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

    async def _tell(self, value: JsonObject) -> float | None:
        spec = value["spec"]
        pods = [pod for pod in self.owned.of(value["metadata"]["uid"]) if is_active(pod)]
        now = self.registry.now()
        waits = [available_in(pod, spec.get("minReadySeconds", 0), now) for pod in pods]
        labels = (spec["template"]["metadata"].get("labels") or {}).items()
        status: JsonObject = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(
                labels <= (pod["metadata"].get("labels") or {}).items() for pod in pods
            ),
            "readyReplicas": sum(is_ready(pod) for pod in pods),
            "availableReplicas": sum(wait == 0 for wait in waits),
            "observedGeneration": value["metadata"]["generation"],
        }
        await self.write_status(
            value, {key: held for key, held in status.items() if held or key == "replicas"}
        )
        later = [wait for wait in waits if wait]
        return min(later) if later else None


def _worth(pod: JsonObject) -> tuple[bool, int, bool, str]:
    """Return a sort key: those that are least missed come first."""
    created: str = pod["metadata"]["creationTimestamp"]
    newer_first = "".join(chr(0x10FFFF - ord(letter)) for letter in created)
    phase = (pod.get("status") or {}).get("phase", "Pending")
    return (
        bool(pod["spec"].get("nodeName")),
        _PHASES.get(phase, 1),
        is_ready(pod),
        newer_first,
    )
