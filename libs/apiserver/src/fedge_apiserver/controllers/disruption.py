"""Keeps the status of disruption budgets, which clients and autoscalers read.

An eviction works the numbers out anew; this is for those who look.
"""

import asyncio

from fedge_apiserver.controllers._following import follow
from fedge_apiserver.disruption import budget_status
from fedge_apiserver.errors import ApiError
from fedge_apiserver.objects import timestamp
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import DISRUPTION_BUDGETS, PODS, Resource
from fedge_objects import JsonObject


class Disruption:
    """Follows budgets and pods."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._due: set[str] = set()
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for resource in (DISRUPTION_BUDGETS, PODS):
                tasks.create_task(self._follow(resource), name=f"disruption-{resource.plural}")
            while True:
                await self._news.wait()
                self._news.clear()
                due, self._due = self._due, set()
                for namespace in due:
                    await self._settle(namespace)

    async def _follow(self, resource: Resource) -> None:
        async for entries in follow(self._registry, resource):
            if resource is PODS and not self._registry.store.count(DISRUPTION_BUDGETS.storage):
                continue
            self._due.update(entry.namespace for entry in entries)
            if self._due:
                self._news.set()

    async def _settle(self, namespace: str) -> None:
        budgets = list(self._registry.objects(DISRUPTION_BUDGETS, namespace))
        if not budgets:
            return
        pods = list(self._registry.objects(PODS, namespace))
        for budget in budgets:
            await self._write(budget, budget_status(budget, pods))

    async def _write(self, budget: JsonObject, wanted: JsonObject) -> None:
        meta = budget["metadata"]
        now = timestamp(self._registry.now())
        enough = wanted["disruptionsAllowed"] > 0
        condition = {
            "type": "DisruptionAllowed",
            "status": "True" if enough else "False",
            "reason": "SufficientPods" if enough else "InsufficientPods",
            "message": "",
            "observedGeneration": wanted["observedGeneration"],
            "lastTransitionTime": now,
        }
        status = budget.get("status") or {}
        held = next(iter(status.get("conditions") or ()), None)
        if held is not None and held.get("status") == condition["status"]:
            condition["lastTransitionTime"] = held["lastTransitionTime"]
        wanted = {**wanted, "conditions": [condition]}
        if wanted == status:
            return
        try:
            await self._registry.update(
                DISRUPTION_BUDGETS,
                meta["namespace"],
                meta["name"],
                lambda old: {**old, "status": wanted},
                subresource="status",
            )
        except ApiError as exc:
            if exc.reason != "NotFound":
                raise
