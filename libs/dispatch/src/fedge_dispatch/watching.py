"""Following the API's objects, and telling what follows from them."""

import asyncio
from collections.abc import Sequence

import structlog

from fedge_dispatch.placement import Placement
from fedge_dispatch.reports import Reports
from fedge_dispatch.resources import Companion, ResourcePlugin, key_of, revision_of
from fedge_dispatch.telling import Telling
from fedge_kube import Changed, KubeClient, Listed, NotServed, Removed, observe
from fedge_objects import JsonObject, ObjectKey

log = structlog.stdlib.get_logger("fedge.dispatch")


class Watching:
    """Follows the API's objects and tells what follows from them."""

    def __init__(
        self,
        kube: KubeClient,
        placement: Placement,
        telling: Telling,
        reports: Reports,
        companions: Sequence[Companion] = (),
    ) -> None:
        self._kube = kube
        self._placement = placement
        self._telling = telling
        self._reports = reports
        self._companions = companions
        self._not_served: set[str] = set()
        self.complete = asyncio.Event()
        """Set once all that the API serves was listed. A resource that it does not serve yet keeps
        nobody waiting; but then no node is told that its list is complete."""

    async def follow(self, plugin: ResourcePlugin) -> None:
        """Follow one resource until cancelled."""
        async for observation in observe(self._kube, plugin.resource):
            match observation:
                case Listed(items, revision):
                    self._on_list(plugin, items, revision)
                case Changed(obj):
                    self._put(plugin, obj)
                case NotServed():
                    self._not_served.add(plugin.resource.name)
                    self._look_if_complete()
                case Removed(obj):
                    self._remove(key_of(plugin.resource, obj), revision_of(obj))

    def _on_list(self, plugin: ResourcePlugin, items: list[JsonObject], revision: int) -> None:
        resource = plugin.resource
        listed = [key_of(resource, obj) for obj in items]
        for key in self._placement.missing_from(resource.name, listed):
            self._remove(key, revision)
        for obj in items:
            self._put(plugin, obj, decided=revision)
        self._placement.mark_listed(resource.name, revision)
        self._not_served.discard(resource.name)
        log.info("listed", resource=resource.name, objects=len(items), revision=revision)
        if self._placement.is_complete:
            for node in sorted(self._placement.nodes()):
                self._telling.tell(self._placement.everything(node))
        self._look_if_complete()

    def _look_if_complete(self) -> None:
        if self._placement.is_listed_but_for(self._not_served):
            self.complete.set()

    def _put(self, plugin: ResourcePlugin, obj: JsonObject, *, decided: int | None = None) -> None:
        key = key_of(plugin.resource, obj)
        for companion in self._companions:
            companion.saw(key, obj)
        self._telling.tell(
            self._placement.put(
                key,
                plugin.for_node(obj),
                revision_of(obj),
                node=plugin.node_of(obj),
                needs=plugin.needs_of(obj),
                decided=decided,
            )
        )

    def _remove(self, key: ObjectKey, revision: int) -> None:
        for companion in self._companions:
            companion.saw(key, None)
        self._reports.forget(key)
        self._telling.tell(self._placement.remove(key, revision))
