"""Following the API's objects, and telling what follows from them.

Here the trace of a change begins: below the one that an annotation of the object names, where it is
a new one, else anew.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

import fedge_tracing as tracing
from fedge_dispatch.placement import Decision, Placement
from fedge_dispatch.reports import Reports
from fedge_dispatch.resources import Companion, Joining, Maker, ResourcePlugin, key_of, revision_of
from fedge_dispatch.telling import Telling
from fedge_kube import Changed, KubeClient, Listed, NotServed, Progressed, Removed, observe
from fedge_objects import JsonObject, NodeName, ObjectKey
from fedge_tracing import Active, Cause, Spanning, Tracer, names

log = structlog.stdlib.get_logger("fedge.dispatch")

RECENT_SECONDS = 600.0
"""What changed so lately and is found in a list changed while nobody watched."""


class Watching:
    """Follows the API's objects and tells what follows from them."""

    def __init__(
        self,
        kube: KubeClient,
        placement: Placement,
        telling: Telling,
        reports: Reports,
        companions: Sequence[Companion] = (),
        makers: Sequence[Maker] = (),
        *,
        service: str = "dispatch",
        owns: Callable[[NodeName], bool] = lambda _: True,
    ) -> None:
        self._kube = kube
        self._placement = placement
        self._telling = telling
        self._reports = reports
        self._companions = companions
        self._makers = makers
        self._owns = owns
        self._tracer = Tracer(service)
        self._annotated: dict[ObjectKey, str] = {}
        """The trace that an object's annotation named when something was decided because of it."""
        self._sources: dict[str, set[ObjectKey]] = {each.source.name: set() for each in makers}
        self._not_served: set[str] = set()
        self._again = asyncio.Event()
        self._asked: asyncio.Future[int] | None = None
        self._anew: asyncio.Future[int] | None = None
        """Who asked for new lists, before they are begun and while they are made."""
        self._unlisted: set[str] = set()
        self._revisions: list[int] = []
        self.complete = asyncio.Event()
        """Set once all that the API serves was listed. A resource that it does not serve yet keeps
        nobody waiting; but then no node is told that its list is complete, and, unless the resource
        is optional, that any is."""

    async def run(self, plugins: Iterable[ResourcePlugin]) -> None:
        """Follow all resources until cancelled; from a new list on whenever that is asked for."""
        plugins = tuple(plugins)
        while True:
            self._again.clear()
            self._anew, self._asked = self._asked, None
            self._revisions.clear()
            self._unlisted = {each.resource.name for each in plugins} | self._sources.keys()
            async with asyncio.TaskGroup() as tasks:
                following = [
                    tasks.create_task(self._follow(each), name=f"watch {each.resource.name}")
                    for each in plugins
                ]
                following += [
                    tasks.create_task(self._follow_source(each), name=f"watch {each.source.name}")
                    for each in self._makers
                ]
                await self._again.wait()
                for each in following:
                    each.cancel()

    async def begin_anew(self) -> int:
        """List everything again; return the revision until which at least all is known then.

        Nothing is told for that, but what is found to be changed.
        """
        asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked = asked
        self._again.set()
        return await asked

    async def _follow(self, plugin: ResourcePlugin) -> None:
        async for observation in observe(self._kube, plugin.resource):
            match observation:
                case Listed(items, revision):
                    self._on_list(plugin, items, revision)
                case Changed(obj):
                    self._put(plugin, obj)
                case NotServed():
                    self._is_not_served(plugin.resource.name)
                case Progressed(revision):
                    self._placement.see(plugin.resource.name, revision)
                case Removed(obj):
                    self._remove(key_of(plugin.resource, obj), revision_of(obj))

    async def _follow_source(self, maker: Maker) -> None:
        source, known = maker.source, self._sources[maker.source.name]
        async for observation in observe(self._kube, source, field_selector=maker.field_selector):
            match observation:
                case Listed(items, revision):
                    listed = {key_of(source, obj): obj for obj in items}
                    for key in known - listed.keys():
                        self._make_traced(key, None, revision)
                    for key, obj in listed.items():
                        self._make_traced(key, obj, revision_of(obj))
                    known.clear()
                    known.update(listed)
                    self._is_listed(source.name, revision, len(items))
                case Changed(obj):
                    known.add(key_of(source, obj))
                    self._make_traced(key_of(source, obj), obj, revision_of(obj))
                    self._placement.see(source.name, revision_of(obj))
                case NotServed():
                    self._is_not_served(source.name)
                case Progressed(revision):
                    self._placement.see(source.name, revision)
                case Removed(obj):
                    known.discard(key_of(source, obj))
                    self._make_traced(key_of(source, obj), None, revision_of(obj))
                    self._placement.see(source.name, revision_of(obj))

    def _make_traced(self, key: ObjectKey, obj: JsonObject | None, revision: int) -> None:
        with self._observed(key, obj) as active:
            self._make(key, obj, revision, active)
        if active.has_begun:
            self._note(key, obj)

    def _make(self, key: ObjectKey, obj: JsonObject | None, revision: int, active: Active) -> None:
        for maker in self._makers:
            if key.resource in {maker.leading, maker.source.name}:
                for made in maker.saw(key, obj, revision):
                    self._tell(self._placement.put_made(made), active)

    def _on_list(self, plugin: ResourcePlugin, items: list[JsonObject], revision: int) -> None:
        resource = plugin.resource
        listed = [key_of(resource, obj) for obj in items]
        for obj in items:
            self._put(plugin, obj, decided=revision)
        # after all that may need the same
        for key in self._placement.missing_from(resource.name, listed):
            self._remove(key, revision)
        self._is_listed(resource.name, revision, len(items))

    def _is_listed(self, resource: str, revision: int, objects: int) -> None:
        let_go = self._placement.mark_listed(resource, revision)
        self._telling.tell(each for each in let_go if self._owns(each.node))
        self._not_served.discard(resource)
        log.info("listed", resource=resource, objects=objects, revision=revision)
        self._unlisted.discard(resource)
        self._revisions.append(revision)
        if self._anew is None:
            self._tell_if_complete()
        self._look_if_complete()

    def _is_not_served(self, resource: str) -> None:
        was_complete = self._placement.is_complete
        self._placement.mark_not_served(resource)
        self._not_served.add(resource)
        self._unlisted.discard(resource)
        if not was_complete and self._anew is None:
            self._tell_if_complete()
        self._look_if_complete()

    def _tell_if_complete(self) -> None:
        if self._placement.is_complete:
            for node in filter(self._owns, sorted(self._placement.nodes())):
                self._telling.tell(self._placement.everything(node))

    def _look_if_complete(self) -> None:
        if self._placement.is_listed_but_for(self._not_served):
            self.complete.set()
        if self._anew is not None and not self._unlisted:
            if not self._anew.done():  # nor given up
                self._anew.set_result(min(self._revisions, default=0))
            self._anew = None

    def _put(self, plugin: ResourcePlugin, obj: JsonObject, *, decided: int | None = None) -> None:
        key = key_of(plugin.resource, obj)
        for companion in self._companions:
            companion.saw(key, obj)
        with self._observed(key, obj, is_listed=decided is not None) as active:
            decisions = self._placement.put(
                key,
                plugin.for_node(obj),
                revision_of(obj),
                node=plugin.node_of(obj),
                needs=plugin.needs_of(obj),
                joins=plugin.joins(obj) if isinstance(plugin, Joining) else frozenset(),
                decided=decided,
            )
            self._tell(decisions, active)
            self._make(key, obj, revision_of(obj), active)
        if decisions:
            self._note(key, obj)

    def _note(self, key: ObjectKey, obj: JsonObject | None) -> None:
        """Take that an object was acted on: its annotation names what is over now."""
        if named := _annotation(obj):
            self._annotated[key] = named
        else:
            self._annotated.pop(key, None)

    def _remove(self, key: ObjectKey, revision: int) -> None:
        for companion in self._companions:
            companion.saw(key, None)
        self._reports.forget(key)
        with self._observed(key, None) as active:
            self._tell(self._placement.remove(key, revision), active)
            self._make(key, None, revision, active)
        self._annotated.pop(key, None)

    def _tell(self, decisions: Iterable[Decision], active: Active) -> None:
        """Tell what was decided, as part of the change's trace: there is one if anything was."""
        now = time.time()
        self._telling.tell(
            replace(each, change=replace(each.change, traceparent=active.traceparent, since=now))
            for each in decisions
            if self._owns(each.node)
        )

    def _observed(
        self, key: ObjectKey, obj: JsonObject | None, *, is_listed: bool = False
    ) -> Spanning:
        """Return the span of what is decided because of an object."""
        before = self._annotated.get(key, "")
        named = _annotation(obj)
        name = f"observe {key.resource}"
        about = {names.OBJECT: str(key), names.K8S_NAMESPACE_NAME: key.namespace}
        if is_listed and not (named and _is_recent(obj)):
            return self._tracer.child("", name)
        if named and named != before:
            return self._tracer.child(named, name, attributes=about, lazily=True)
        causes = [Cause(named)] if named else []
        return self._tracer.root(name, attributes=about, causes=causes, lazily=True)


def _annotation(obj: JsonObject | None) -> str:
    """Return the trace context that an object names; empty if it names none."""
    annotations = ((obj or {}).get("metadata") or {}).get("annotations") or {}
    named = str(annotations.get(tracing.ANNOTATION) or "")
    return named if tracing.parse(named) is not None else ""


def _is_recent(obj: JsonObject | None) -> bool:
    """Whether an object was changed lately, as it says itself."""
    metadata = (obj or {}).get("metadata") or {}
    times = [each.get("time") for each in metadata.get("managedFields") or ()]
    times.append(metadata.get("creationTimestamp"))
    try:
        changed = max(datetime.fromisoformat(str(each)).timestamp() for each in times if each)
    except ValueError:
        return False
    return time.time() - changed < RECENT_SECONDS
