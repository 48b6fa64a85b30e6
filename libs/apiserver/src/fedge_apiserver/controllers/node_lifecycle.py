"""Notices that a node is silent, and says so in its conditions and taints.

A node is heard by its lease and by its own status. Silence is measured on this server's own clock
from the moment a change was seen, never by the times written in objects: clocks at the edge are
wrong. Pods are left alone: the edge goes on without the cloud, that is what it is for.

https://kubernetes.io/docs/concepts/architecture/nodes/#heartbeats
"""

import asyncio
from typing import Any, Final

import structlog

from fedge_apiserver.controllers._following import Recorder, follow
from fedge_apiserver.errors import ApiError
from fedge_apiserver.objects import timestamp
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import LEASES, NODES
from fedge_apiserver.store import decode
from fedge_objects import JsonObject

log = structlog.stdlib.get_logger("fedge.apiserver.nodes")

LEASE_NAMESPACE: Final = "kube-node-lease"
_CONDITIONS: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_TAINTS: Final = {
    "not-ready": "node.kubernetes.io/not-ready",
    "unreachable": "node.kubernetes.io/unreachable",
    "unschedulable": "node.kubernetes.io/unschedulable",
}


class NodeLifecycle:
    """Follows nodes and their leases."""

    def __init__(self, registry: Registry, grace_seconds: float) -> None:
        self._registry = registry
        self._grace_seconds = grace_seconds
        self._recorder = Recorder(registry, "node-controller")
        self._signs: dict[str, tuple[object, object]] = {}
        self._heard: dict[str, float] = {}
        self._due = asyncio.Event()

    async def run(self) -> None:
        """Watch over the nodes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_nodes(), name="node-lifecycle-nodes")
            tasks.create_task(self._follow_leases(), name="node-lifecycle-leases")
            tasks.create_task(self._work(), name="node-lifecycle-silence")

    async def _follow_nodes(self) -> None:
        async for entries in follow(self._registry, NODES):
            for entry in entries:
                if entry.deleted:
                    self._signs.pop(entry.name, None)
                    self._heard.pop(entry.name, None)
                    continue
                node = decode(entry.body)
                ready = _condition(node, "Ready")
                sign = None
                if ready is not None and ready.get("status") != "Unknown":
                    sign = (ready.get("lastHeartbeatTime"), ready.get("status"))
                self._hear(entry.name, sign, is_lease=False)
                await self._set_taints(node)

    async def _follow_leases(self) -> None:
        async for entries in follow(self._registry, LEASES):
            for entry in entries:
                if entry.namespace == LEASE_NAMESPACE and not entry.deleted:
                    renewed = (decode(entry.body).get("spec") or {}).get("renewTime")
                    self._hear(entry.name, renewed, is_lease=True)

    def _hear(self, node: str, sign: object, *, is_lease: bool) -> None:
        """Note a sign of life, if it is another one than the last."""
        by_status, by_lease = self._signs.get(node, (None, None))
        signs = (by_status, sign) if is_lease else (sign, by_lease)
        is_known = node in self._heard
        if is_known and (sign is None or signs == (by_status, by_lease)):
            return
        self._signs[node] = signs
        self._heard[node] = asyncio.get_running_loop().time()
        if not is_known:
            self._due.set()

    async def _work(self) -> None:
        """Wait until the node that was silent longest has been so for too long."""
        loop = asyncio.get_running_loop()
        while True:
            self._due.clear()
            silent = [
                name
                for name, heard in self._heard.items()
                if loop.time() - heard >= self._grace_seconds
            ]
            for name in silent:
                # It is looked at again only after another grace period, or another sign of life.
                self._heard[name] = loop.time()
                await self._give_up(name)
            first = min(self._heard.values(), default=None)
            try:
                async with asyncio.timeout_at(
                    None if first is None else first + self._grace_seconds
                ):
                    await self._due.wait()
            except TimeoutError:
                continue

    async def _give_up(self, name: str) -> None:
        node = self._registry.read(NODES, "", name)
        if node is None:
            self._heard.pop(name, None)
            return
        now = timestamp(self._registry.now())
        ready = _condition(node, "Ready")
        if ready is not None and ready.get("status") == "Unknown":
            return

        def change(value: JsonObject) -> JsonObject:
            status = value.get("status") or {}
            held = {c.get("type"): c for c in status.get("conditions") or ()}
            unknown = [_unknown(held.get(kind), kind, now) for kind in _CONDITIONS]
            others = [c for kind, c in held.items() if kind not in _CONDITIONS]
            return {**value, "status": {**status, "conditions": [*others, *unknown]}}

        try:
            await self._registry.update(NODES, "", name, change, subresource="status")
        except ApiError as exc:
            if exc.code not in (404, 409):
                raise
            return
        log.warning("node_silent", node=name, grace_seconds=self._grace_seconds)
        await self._recorder.record(
            node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady"
        )

    async def _set_taints(self, node: JsonObject) -> None:
        """Make the node's taints tell of its condition."""
        ready = (_condition(node, "Ready") or {}).get("status")
        wanted = {
            "not-ready": ready not in ("True", "Unknown"),
            "unreachable": ready == "Unknown",
            "unschedulable": bool((node.get("spec") or {}).get("unschedulable")),
        }
        keys = {_TAINTS[name] for name, holds in wanted.items() if holds}
        managed = set(_TAINTS.values())

        def change(value: JsonObject) -> JsonObject:
            spec = value.get("spec") or {}
            taints: list[dict[str, Any]] = spec.get("taints") or []
            kept = [
                taint
                for taint in taints
                if not (taint.get("key") in managed - keys and taint.get("effect") == "NoSchedule")
            ]
            there = {t.get("key") for t in kept if t.get("effect") == "NoSchedule"}
            now = timestamp(self._registry.now())
            added = [
                {"key": key, "effect": "NoSchedule", "timeAdded": now}
                for key in sorted(keys - there)
            ]
            changed = {**spec, "taints": [*kept, *added]}
            if not changed["taints"]:
                del changed["taints"]
            return {**value, "spec": changed}

        if change(node) == node:
            return
        try:
            await self._registry.update(NODES, "", node["metadata"]["name"], change)
        except ApiError as exc:
            if exc.code not in (404, 409):
                raise


def _condition(node: JsonObject, kind: str) -> dict[str, Any] | None:
    conditions: list[dict[str, Any]] = (node.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == kind), None)


def _unknown(held: dict[str, Any] | None, kind: str, now: str) -> dict[str, Any]:
    if held is None:
        return {
            "type": kind,
            "status": "Unknown",
            "reason": "NodeStatusNeverUpdated",
            "message": "Kubelet never posted node status.",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
    return {
        **held,
        "status": "Unknown",
        "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.",
        "lastTransitionTime": now
        if held.get("status") != "Unknown"
        else held.get("lastTransitionTime", now),
    }
