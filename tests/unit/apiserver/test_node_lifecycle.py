"""Silence of nodes, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fedge_apiserver.controllers.node_lifecycle import NodeLifecycle
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import LEASES, NODES, Catalog
from fedge_apiserver.storage import MemoryStorage
from fedge_apiserver.store import Store, decode
from fedge_objects import JsonObject

pytestmark = pytest.mark.looptime
GRACE = 40.0


@asynccontextmanager
async def watched() -> AsyncIterator[Registry]:
    store = Store(MemoryStorage())
    await store.open()
    registry = Registry(store, Catalog())
    await registry.open()
    task = asyncio.create_task(NodeLifecycle(registry, GRACE).run())
    try:
        yield registry
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.close()


async def make_node(registry: Registry) -> None:
    condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    node: JsonObject = {"metadata": {"name": "n"}, "status": {"conditions": [condition]}}
    await registry.create(NODES, "", {"apiVersion": "v1", "kind": "Node", **node})


def ready(registry: Registry) -> dict[str, Any]:
    entry = registry.get(NODES, "", "n")
    conditions: list[dict[str, Any]] = decode(entry.body)["status"]["conditions"]
    return next(c for c in conditions if c["type"] == "Ready")


def taints(registry: Registry) -> list[str]:
    node = decode(registry.get(NODES, "", "n").body)
    return [taint["key"] for taint in node["spec"].get("taints", [])]


async def renew(registry: Registry, beat: int) -> None:
    spec = {"renewTime": f"2026-01-01T00:{beat:02}:00.000000Z"}
    if registry.store.get(LEASES.storage, "kube-node-lease", "n") is None:
        lease = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": {"name": "n"}}
        await registry.create(LEASES, "kube-node-lease", {**lease, "spec": spec})
    else:
        await registry.update(LEASES, "kube-node-lease", "n", lambda lease: {**lease, "spec": spec})


async def test_node_is_unknown_after_the_grace_and_not_before() -> None:
    async with watched() as registry:
        await make_node(registry)
        await asyncio.sleep(GRACE - 1)
        assert ready(registry)["status"] == "True"
        await asyncio.sleep(2)
        assert ready(registry)["status"] == "Unknown"
        assert ready(registry)["message"] == "Kubelet stopped posting node status."
        assert taints(registry) == ["node.kubernetes.io/unreachable"]


async def test_lease_keeps_it_alive_whatever_its_clock_says() -> None:
    async with watched() as registry:
        await make_node(registry)
        for beat in (50, 20, 40, 10, 30):
            await renew(registry, beat)
            await asyncio.sleep(GRACE - 1)
            assert ready(registry)["status"] == "True"
        await asyncio.sleep(2)
        assert ready(registry)["status"] == "Unknown"


async def test_repeated_lease_is_no_sign_of_life() -> None:
    async with watched() as registry:
        await make_node(registry)
        await renew(registry, 1)
        await asyncio.sleep(GRACE - 1)
        await renew(registry, 1)
        await asyncio.sleep(2)
        assert ready(registry)["status"] == "Unknown"


async def test_node_that_is_back_loses_the_taint() -> None:
    async with watched() as registry:
        await make_node(registry)
        await asyncio.sleep(GRACE + 1)
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T01:00:00Z"}

        def change(node: JsonObject) -> JsonObject:
            return {**node, "status": {**node["status"], "conditions": [condition]}}

        await registry.update(NODES, "", "n", change, subresource="status")
        await asyncio.sleep(1)
        assert taints(registry) == []
        await asyncio.sleep(GRACE - 2)
        assert ready(registry)["status"] == "True"
