"""Starts the control loops, each under its own supervisor."""

import asyncio
from collections.abc import Awaitable, Callable

from fedge_apiserver.controllers.disruption import Disruption
from fedge_apiserver.controllers.event_expiry import EventExpiry
from fedge_apiserver.controllers.garbage import GarbageCollector
from fedge_apiserver.controllers.namespaces import Namespaces
from fedge_apiserver.controllers.node_lifecycle import NodeLifecycle
from fedge_apiserver.controllers.role_aggregation import RoleAggregation
from fedge_apiserver.controllers.scheduling import Scheduler
from fedge_apiserver.controllers.workloads import (
    CronJobs,
    DaemonSets,
    Deployments,
    Jobs,
    ReplicaSets,
    StatefulSets,
)
from fedge_apiserver.registry import Registry
from fedge_apiserver.settings import ApiServerSettings
from fedge_service import supervise


async def run_controllers(registry: Registry, settings: ApiServerSettings) -> None:
    """Run the control loops until cancelled; one that fails starts anew and disturbs no other."""
    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "namespaces": lambda: Namespaces(registry).run(),
        "garbage-collector": lambda: GarbageCollector(registry).run(),
        "disruption": lambda: Disruption(registry).run(),
        "deployments": lambda: Deployments(registry).run(),
        "replica-sets": lambda: ReplicaSets(registry).run(),
        "daemon-sets": lambda: DaemonSets(registry).run(),
        "stateful-sets": lambda: StatefulSets(registry).run(),
        "jobs": lambda: Jobs(registry).run(),
        "cron-jobs": lambda: CronJobs(registry).run(),
        "role-aggregation": lambda: RoleAggregation(registry).run(),
        "node-lifecycle": lambda: NodeLifecycle(registry, settings.node_grace_seconds).run(),
        "event-expiry": lambda: EventExpiry(registry, settings.event_ttl_seconds).run(),
    }
    if settings.scheduler:
        loops["scheduler"] = lambda: Scheduler(registry).run()
    async with asyncio.TaskGroup() as tasks:
        for name, work in loops.items():
            tasks.create_task(supervise(name, work), name=f"apiserver-{name}")
