"""Gives pods to nodes.

The ready node with the fewest pods, among those that the pod's selector, affinity and tolerations
allow. A pod that fits nowhere says why, and is tried again when a node changes.

https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog

from fedge_apiserver.controllers._following import Recorder, follow
from fedge_apiserver.controllers._placing import refusal
from fedge_apiserver.errors import ApiError
from fedge_apiserver.objects import timestamp
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import NODES, PODS
from fedge_apiserver.storage import Entry
from fedge_apiserver.store import decode
from fedge_objects import JsonObject

log = structlog.stdlib.get_logger("fedge.apiserver.scheduler")

NAME: Final = "default-scheduler"


class _Spec(msgspec.Struct):
    nodeName: str = ""  # noqa: N815 - the field's name
    schedulerName: str = NAME  # noqa: N815
    schedulingGates: list[Any] | None = None  # noqa: N815


class _Status(msgspec.Struct):
    phase: str = ""


class _Meta(msgspec.Struct):
    deletionTimestamp: str = ""  # noqa: N815


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _Spec
    status: _Status = msgspec.field(default_factory=_Status)


_glance: Final = msgspec.json.Decoder(_Pod).decode
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Unfit:
    message: str


class Scheduler:
    """Follows pods and nodes, and binds what is unbound."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._recorder = Recorder(registry, NAME)
        self._nodes: dict[str, JsonObject] = {}
        self._assigned: dict[_Key, str] = {}
        self._loads: Counter[str] = Counter()
        self._waiting: dict[_Key, None] = {}
        self._lost: dict[_Key, None] = {}
        self._due: asyncio.Event = asyncio.Event()

    async def run(self) -> None:
        """Schedule until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_nodes(), name="scheduler-nodes")
            tasks.create_task(self._follow_pods(), name="scheduler-pods")
            tasks.create_task(self._work(), name="scheduler-work")

    async def _follow_nodes(self) -> None:
        async for entries in follow(self._registry, NODES):
            for entry in entries:
                if entry.deleted:
                    self._nodes.pop(entry.name, None)
                    is_gone = True
                else:
                    is_gone = entry.name in self._nodes
                    self._nodes[entry.name] = decode(entry.body)
                if entry.deleted or not is_gone:
                    self._lost.update(
                        {key: None for key, node in self._assigned.items() if node == entry.name}
                    )
            self._due.set()

    async def _follow_pods(self) -> None:
        async for entries in follow(self._registry, PODS):
            for entry in entries:
                self._note(entry)
            self._due.set()

    def _note(self, entry: Entry) -> None:
        key = (entry.namespace, entry.name)
        pod = _glance(entry.body)
        is_over = entry.deleted or pod.status.phase in ("Succeeded", "Failed")
        node = "" if is_over else pod.spec.nodeName
        before = self._assigned.pop(key, "")
        self._loads[before] -= 1
        if node:
            self._assigned[key] = node
            self._loads[node] += 1
            if before != node:
                self._lost[key] = None
        if (
            node
            or is_over
            or pod.metadata.deletionTimestamp
            or pod.spec.schedulingGates
            or pod.spec.schedulerName != NAME
        ):
            self._waiting.pop(key, None)
        else:
            self._waiting[key] = None

    async def _work(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            for key in list(self._lost):
                self._lost.pop(key, None)
                await self._check_node(*key)
            for key in list(self._waiting):
                if key in self._waiting:
                    await self._place(*key)

    async def _place(self, namespace: str, name: str) -> None:
        pod = self._registry.read(PODS, namespace, name)
        if pod is None or pod["spec"].get("nodeName"):
            return
        chosen = self._choose(pod)
        try:
            if isinstance(chosen, _Unfit):
                await self._tell_unfit(pod, chosen.message)
                return
            await self._registry.bind(namespace, name, chosen, uid=pod["metadata"]["uid"])
        except ApiError as exc:
            # Deleted, or bound by somebody else meanwhile: its own change comes here next.
            if exc.code not in (404, 409):
                raise
            return
        self._waiting.pop((namespace, name), None)
        log.info("pod_scheduled", pod=f"{namespace}/{name}", node=chosen)
        await self._recorder.record(
            pod, "Normal", "Scheduled", f"Successfully assigned {namespace}/{name} to {chosen}"
        )

    def _choose(self, pod: JsonObject) -> str | _Unfit:
        if not self._nodes:
            return _Unfit("no nodes available to schedule pods")
        fitting: list[str] = []
        refusals: Counter[str] = Counter()
        for name, node in self._nodes.items():
            reason = refusal(pod, node, self._loads[name])
            if reason is None:
                fitting.append(name)
            else:
                refusals[reason] += 1
        if fitting:
            return min(fitting, key=lambda name: (self._loads[name], name))
        reasons = ", ".join(sorted(f"{count} {text}" for text, count in refusals.items()))
        return _Unfit(f"0/{len(self._nodes)} nodes are available: {reasons}.")

    async def _tell_unfit(self, pod: JsonObject, message: str) -> None:
        if await self._set_condition(pod, "False", "Unschedulable", message):
            await self._recorder.record(pod, "Warning", "FailedScheduling", message)

    async def _check_node(self, namespace: str, name: str) -> None:
        """Say of a bound pod that its node is not there, and no more once it is."""
        node = self._assigned.get((namespace, name))
        pod = self._registry.read(PODS, namespace, name)
        if node is None or pod is None:
            return
        held = _scheduled_condition(pod)
        if node in self._nodes:
            if held is not None and held.get("reason") == "NodeNotFound":
                await self._set_condition(pod, "True", None, None)
            return
        message = f'node "{node}" not found'
        if await self._set_condition(pod, "False", "NodeNotFound", message):
            await self._recorder.record(pod, "Warning", "NodeNotFound", message)

    async def _set_condition(
        self, pod: JsonObject, status: str, reason: str | None, message: str | None
    ) -> bool:
        """Set PodScheduled; return whether that changed anything."""
        held = _scheduled_condition(pod)
        wanted: JsonObject = {"type": "PodScheduled", "status": status}
        if reason is not None:
            wanted.update(reason=reason, message=message)
        if held is not None and all(
            held.get(field) == wanted.get(field) for field in ("status", "reason", "message")
        ):
            return False
        is_same_status = held is not None and held.get("status") == status
        now = timestamp(self._registry.now())
        wanted["lastTransitionTime"] = (
            held.get("lastTransitionTime", now) if is_same_status and held else now
        )

        def change(value: JsonObject) -> JsonObject:
            state = value.get("status") or {}
            others = [c for c in state.get("conditions") or () if c.get("type") != "PodScheduled"]
            return {**value, "status": {**state, "conditions": [*others, wanted]}}

        meta = pod["metadata"]
        try:
            await self._registry.update(
                PODS, meta["namespace"], meta["name"], change, subresource="status"
            )
        except ApiError as exc:
            if exc.code not in (404, 409):
                raise
            return False
        return True


def _scheduled_condition(pod: JsonObject) -> JsonObject | None:
    conditions: list[JsonObject] = (pod.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == "PodScheduled"), None)
