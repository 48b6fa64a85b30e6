"""Controller, put together."""

import asyncio
import uuid

import structlog

from fedge_controller.handlers import Handlers
from fedge_controller.placement import Placement
from fedge_controller.reports import Reports
from fedge_controller.resources import (
    ResourcePlugin,
    key_of,
    load_resources,
    revision_of,
)
from fedge_controller.settings import ControllerSettings
from fedge_controller.telling import Telling
from fedge_fabric import topology
from fedge_fabric.fabric import Fabric
from fedge_kube import Changed, KubeClient, Listed, Removed, observe
from fedge_objects import JsonObject
from fedge_service import Ready, ServicePlugin

log = structlog.stdlib.get_logger("fedge.controller")


class Watching:
    """Follows the API's objects and tells what follows from them."""

    def __init__(
        self, kube: KubeClient, placement: Placement, telling: Telling, reports: Reports
    ) -> None:
        self._kube = kube
        self._placement = placement
        self._telling = telling
        self._reports = reports
        self.complete = asyncio.Event()

    async def follow(self, plugin: ResourcePlugin) -> None:
        """Follow one resource until cancelled."""
        async for observation in observe(self._kube, plugin.resource):
            match observation:
                case Listed(items, revision):
                    self._on_list(plugin, items, revision)
                case Changed(obj):
                    self._put(plugin, obj)
                case Removed(obj):
                    key = key_of(plugin.resource, obj)
                    self._reports.forget(key)
                    self._telling.tell(self._placement.remove(key, revision_of(obj)))

    def _on_list(self, plugin: ResourcePlugin, items: list[JsonObject], revision: int) -> None:
        resource = plugin.resource
        listed = [key_of(resource, obj) for obj in items]
        for key in self._placement.missing_from(resource.name, listed):
            self._reports.forget(key)
            self._telling.tell(self._placement.remove(key, revision))
        for obj in items:
            self._put(plugin, obj, decided=revision)
        self._placement.mark_listed(resource.name, revision)
        log.info("listed", resource=resource.name, objects=len(items), revision=revision)
        if self._placement.is_complete:
            for node in sorted(self._placement.nodes()):
                self._telling.tell(self._placement.everything(node))
            self.complete.set()

    def _put(self, plugin: ResourcePlugin, obj: JsonObject, *, decided: int | None = None) -> None:
        self._telling.tell(
            self._placement.put(
                key_of(plugin.resource, obj),
                obj,
                revision_of(obj),
                node=plugin.node_of(obj),
                needs=plugin.needs_of(obj),
                decided=decided,
            )
        )


async def run(settings: ControllerSettings, ready: Ready) -> None:
    """Serve until cancelled."""
    plugins = load_resources()
    leading = [name for name, plugin in plugins.items() if plugin.leads]
    fabric = Fabric(
        settings.amqp_url.get_secret_value(),
        service="controller",
        exchanges=topology.CLOUD_EXCHANGES,
    )
    placement = Placement(leading, plugins.keys() - set(leading))
    telling = Telling(fabric)
    async with KubeClient.connected(settings.kubeconfig) as kube:
        reports = Reports(kube, plugins)
        watching = Watching(kube, placement, telling, reports)
        handlers = Handlers(placement=placement, telling=telling, reports=reports)
        handlers.subscribe(fabric, replica=uuid.uuid4().hex[:8], resources=plugins)
        async with fabric.running(), asyncio.TaskGroup() as tasks:
            tasks.create_task(telling.run(), name="telling")
            for name, plugin in plugins.items():
                tasks.create_task(watching.follow(plugin), name=f"watch {name}")
            await watching.complete.wait()
            ready()


plugin = ServicePlugin(
    name="controller",
    side="cloud",
    summary="Kubernetes objects down to the nodes, their status up",
    settings=ControllerSettings,
    run=run,
)
