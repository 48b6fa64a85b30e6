"""What may be done with objects: the verbs, over the store, for HTTP and for controllers alike.

Each write looks at the newest state and submits its change without awaiting in between, so it is
atomic; it returns when the change is durable. A refusal may rest on a change that was submitted
before, so it is told when that is durable: who hears that an object exists finds it.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, ParamSpec

from fedge_apiserver.account_access import add_account_access
from fedge_apiserver.errors import (
    ApiError,
    Causes,
    already_exists,
    conflict,
    forbidden,
    invalid,
    method_not_allowed,
    not_found,
    unavailable,
)
from fedge_apiserver.kinds import resources_of
from fedge_apiserver.objects import (
    Clock,
    check_preconditions,
    prepare_new,
    prepare_update,
    timestamp,
)
from fedge_apiserver.resources import (
    DEFINITIONS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    Catalog,
    Resource,
)
from fedge_apiserver.storage import Entry, StorageError
from fedge_apiserver.store import Store, decode
from fedge_objects import JsonObject

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")

_PROPAGATIONS = ("Foreground", "Background", "Orphan")

Change = Callable[[JsonObject], JsonObject]
"""From an object's state to the state that is wanted; must not await, nor change its argument."""

Admit = Callable[[JsonObject | None, JsonObject], None]
"""Refuses a write, seeing the object's state before (None: new) and after. Raises ``ApiError``."""


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """How an object is to be deleted.

    Attributes:
        grace_seconds: how long a pod may take to stop; None is as its spec says.
        uid, revision: delete only the object that is in this state.
        propagation: ``Background``, ``Foreground`` or ``Orphan``; what happens to dependents.
    """

    grace_seconds: int | None = None
    uid: str | None = None
    revision: str | None = None
    propagation: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state that a write led to.

    Attributes:
        value: the object, as stored.
        entry: where it is stored; None if it was a trial (dry run).
        is_new: the write made it.
        is_gone: the write removed it.
    """

    value: JsonObject
    entry: Entry | None = None
    is_new: bool = False
    is_gone: bool = False


_Given = ParamSpec("_Given")


def _told_when_durable(
    write: "Callable[Concatenate[Registry, _Given], Coroutine[Any, Any, Outcome]]",
) -> "Callable[Concatenate[Registry, _Given], Coroutine[Any, Any, Outcome]]":
    """Hold a refusal back until what it was judged by is durable."""

    async def held_back(
        self: "Registry", /, *args: _Given.args, **options: _Given.kwargs
    ) -> "Outcome":
        try:
            return await write(self, *args, **options)
        except ApiError:
            await self.settled()
            raise

    functools.update_wrapper(held_back, write)
    return held_back


class Registry:
    """The objects of one API server, with the rules of their kinds."""

    def __init__(self, store: Store, catalog: Catalog, clock: Clock = utc_now) -> None:
        self.store = store
        self.catalog = catalog
        self._clock = clock

    async def open(self) -> None:
        """Serve the stored definitions, and make the namespaces that every cluster has."""
        for entry in self.store.select(DEFINITIONS.storage):
            self._serve(decode(entry.body))
        served = self.catalog.stored()
        for storage in self.store.resources():
            if storage not in served:
                # Its definition was deleted, and the process ended before its objects were.
                await self._purge(storage)
        for name in SYSTEM_NAMESPACES:
            if self.store.get(NAMESPACES.storage, "", name) is None:
                await self.create(
                    NAMESPACES,
                    "",
                    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
                )

    def now(self) -> datetime:
        """Return the time by the server's clock."""
        return self._clock()

    def get(self, resource: Resource, namespace: str, name: str) -> Entry:
        """Return an object.

        Raises:
            ApiError: 404.
        """
        entry = self.store.get(resource.storage, namespace, name)
        if entry is None:
            raise not_found(resource, name)
        return entry

    def read(self, resource: Resource, namespace: str, name: str) -> JsonObject | None:
        """Return an object's content, or None."""
        entry = self.store.get(resource.storage, namespace, name)
        return None if entry is None else decode(entry.body)

    def objects(self, resource: Resource, namespace: str = "") -> Iterator[JsonObject]:
        """Yield the contents of a resource's objects."""
        for entry in list(self.store.select(resource.storage, namespace)):
            yield decode(entry.body)

    @_told_when_durable
    async def create(
        self,
        resource: Resource,
        namespace: str,
        value: JsonObject,
        *,
        dry_run: bool = False,
        keeps_managers: bool = False,
        admit: Admit | None = None,
    ) -> Outcome:
        """Make an object.

        Args:
            resource: what it is.
            namespace: where.
            value: the object.
            dry_run: only say what would come of it.
            keeps_managers: its ``managedFields`` are ours, not the client's.
            admit: has the last word.

        Raises:
            ApiError: it is not allowed, or there is one.
        """
        managers = value["metadata"].get("managedFields") if keeps_managers else None
        if resource is PODS:
            name = (value.get("spec") or {}).get("serviceAccountName") or "default"
            value = add_account_access(value, self.read(SERVICE_ACCOUNTS, namespace, name))
        value = prepare_new(resource, value, namespace, self._clock())
        if managers:
            value["metadata"]["managedFields"] = managers
        name = value["metadata"]["name"]
        if resource.namespaced:
            self._check_namespace(resource, namespace, name)
        if self.store.head(resource.storage, namespace, name) is not None:
            raise already_exists(resource, name)
        if admit is not None:
            admit(None, value)
        if dry_run:
            return Outcome(value, is_new=True)
        entry = await self._put(resource, namespace, name, value)
        return Outcome(value, entry, is_new=True)

    @_told_when_durable
    async def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Change,
        *,
        subresource: str = "",
        dry_run: bool = False,
        admit: Admit | None = None,
    ) -> Outcome:
        """Change an object.

        Raises:
            ApiError: there is none, or the change is not allowed.
        """
        held = self.store.head(resource.storage, namespace, name)
        if held is None:
            raise not_found(resource, name)
        old = decode(held.body)
        new = prepare_update(resource, change(old), old, subresource)
        if admit is not None:
            admit(old, new)
        if dry_run:
            return Outcome(new)
        meta = new["metadata"]
        if (
            meta.get("deletionTimestamp")
            and not meta.get("finalizers")
            and not meta.get("deletionGracePeriodSeconds")
            and not _keeps_namespace(resource, new)
        ):
            return Outcome(new, await self._remove(resource, namespace, name, new), is_gone=True)
        if new is old:
            await self._settle(held)
            return Outcome(old, held)
        return Outcome(new, await self._put(resource, namespace, name, new))

    @_told_when_durable
    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        options: DeleteOptions,
        *,
        dry_run: bool = False,
    ) -> Outcome:
        """Delete an object, or mark it for deletion if something must happen before.

        Raises:
            ApiError: there is none, or a precondition fails.
        """
        held = self.store.head(resource.storage, namespace, name)
        if held is None:
            raise not_found(resource, name)
        value = decode(held.body)
        meta: dict[str, Any] = value["metadata"]
        check_preconditions(resource, name, meta, options.uid, options.revision, is_delete=True)
        if resource is NAMESPACES and name in SYSTEM_NAMESPACES:
            raise forbidden(resource, name, "this namespace may not be deleted")
        finalizers: list[str] = meta.get("finalizers") or []
        wanted = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(
            options.propagation or ""
        )
        if wanted and wanted not in finalizers and not meta.get("deletionTimestamp"):
            finalizers = meta["finalizers"] = [*finalizers, wanted]
        grace = self._grace(resource, value, options)
        if not grace and not finalizers and not _keeps_namespace(resource, value):
            if meta.get("deletionTimestamp"):
                meta["deletionGracePeriodSeconds"] = 0
            if dry_run:
                return Outcome(value, is_gone=True)
            entry = await self._remove(resource, namespace, name, value)
            return Outcome(value, entry, is_gone=True)
        if meta.get("deletionTimestamp") and grace >= meta.get("deletionGracePeriodSeconds", 0):
            await self._settle(held)
            return Outcome(value, held)
        since = meta.get("deletionTimestamp")
        base = self._clock()
        if since:
            elapsed = meta.get("deletionGracePeriodSeconds", 0)
            base = datetime.fromisoformat(since) - timedelta(seconds=elapsed)
        meta["deletionTimestamp"] = timestamp(base + timedelta(seconds=grace))
        meta["deletionGracePeriodSeconds"] = grace
        if "generation" in meta:
            meta["generation"] += 1
        if resource is NAMESPACES:
            meta.pop("deletionGracePeriodSeconds")
            value["status"] = {**value.get("status", {}), "phase": "Terminating"}
        if dry_run:
            return Outcome(value)
        return Outcome(value, await self._put(resource, namespace, name, value))

    @_told_when_durable
    async def finalize_namespace(self, name: str, value: JsonObject) -> Outcome:
        """Take over a namespace's finalizers; it is gone when there are none left.

        Raises:
            ApiError: there is none.
        """
        held = self.store.head(NAMESPACES.storage, "", name)
        if held is None:
            raise not_found(NAMESPACES, name)
        old = decode(held.body)
        new = {**old, "metadata": dict(old["metadata"]), "spec": value.get("spec") or {}}
        meta = new["metadata"]
        is_free = not meta.get("finalizers") and not _keeps_namespace(NAMESPACES, new)
        if meta.get("deletionTimestamp") and is_free:
            entry = await self._remove(NAMESPACES, "", name, new)
            return Outcome(new, entry, is_gone=True)
        return Outcome(new, await self._put(NAMESPACES, "", name, new))

    @_told_when_durable
    async def bind(
        self, namespace: str, name: str, node: str, *, uid: str | None = None
    ) -> Outcome:
        """Give a pod to a node.

        Raises:
            ApiError: there is no such pod, or it has a node.
        """
        held = self.store.head(PODS.storage, namespace, name)
        if held is None:
            raise not_found(PODS, name)
        pod = decode(held.body)
        check_preconditions(PODS, name, pod["metadata"], uid, None)
        spec = pod["spec"]
        if pod["metadata"].get("deletionTimestamp"):
            raise conflict(PODS, name, f"pod {name} is being deleted, cannot be assigned to a host")
        if assigned := spec.get("nodeName"):
            raise conflict(PODS, name, f'pod {name} is already assigned to node "{assigned}"')
        spec["nodeName"] = node
        status = pod.setdefault("status", {})
        condition = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": timestamp(self._clock()),
        }
        others = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
        status["conditions"] = [*others, condition]
        return Outcome(pod, await self._put(PODS, namespace, name, pod))

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        held = self.store.head(NAMESPACES.storage, "", namespace)
        if held is None:
            raise not_found(NAMESPACES, namespace)
        if b'"deletionTimestamp"' in held.body:
            meta = decode(held.body)["metadata"]
            if meta.get("deletionTimestamp"):
                error = forbidden(
                    resource,
                    name,
                    f"unable to create new content in namespace {namespace} because it is being "
                    "terminated",
                )
                error.details = {
                    **(error.details or {}),
                    "causes": [
                        {
                            "reason": "NamespaceTerminating",
                            "message": f"namespace {namespace} is being terminated",
                            "field": "metadata.namespace",
                        }
                    ],
                }
                raise error

    def _grace(self, resource: Resource, value: JsonObject, options: DeleteOptions) -> int:
        """Return how many seconds an object has until it must be gone; 0 for all but pods."""
        if resource is not PODS:
            return 0
        spec, status = value["spec"], value.get("status") or {}
        if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
            return 0
        if options.grace_seconds is not None:
            return options.grace_seconds
        grace: int = spec.get("terminationGracePeriodSeconds", 30)
        return grace

    async def _put(self, resource: Resource, namespace: str, name: str, value: JsonObject) -> Entry:
        try:
            entry = await self.store.put(resource.storage, namespace, name, value)
        except StorageError as exc:
            raise unavailable(f"the write could not be stored: {exc}") from exc
        if resource is DEFINITIONS:
            self._serve(value)
        return entry

    async def _remove(
        self, resource: Resource, namespace: str, name: str, value: JsonObject
    ) -> Entry:
        try:
            entry = await self.store.delete(resource.storage, namespace, name, value)
        except StorageError as exc:
            raise unavailable(f"the deletion could not be stored: {exc}") from exc
        if resource is DEFINITIONS:
            spec = value["spec"]
            self.catalog.remove(spec["group"], spec["names"]["plural"])
            await self._purge(f"{spec['names']['plural']}.{spec['group']}")
        return entry

    async def _purge(self, storage: str) -> None:
        """Delete the objects of a resource that is not served any more."""
        try:
            await asyncio.gather(
                *(
                    self.store.delete(storage, entry.namespace, entry.name, decode(entry.body))
                    for entry in list(self.store.select(storage))
                )
            )
        except StorageError as exc:
            raise unavailable(f"the objects of {storage} could not be deleted: {exc}") from exc
        self.store.wake_watches(storage)

    async def _settle(self, entry: Entry) -> None:
        try:
            await self.store.settle(entry)
        except StorageError as exc:
            raise unavailable(f"the write before this one could not be stored: {exc}") from exc

    async def settled(self) -> None:
        """Return when all that was submitted up to now is durable.

        Raises:
            ApiError: it could not be stored.
        """
        try:
            await self.store.settled()
        except StorageError as exc:
            raise unavailable(f"a write before this one could not be stored: {exc}") from exc

    def _serve(self, definition: JsonObject) -> None:
        spec = definition["spec"]
        self.catalog.remove(spec["group"], spec["names"]["plural"])
        for resource in resources_of(definition):
            self.catalog.add(resource)


def _keeps_namespace(resource: Resource, value: JsonObject) -> bool:
    return resource is NAMESPACES and bool((value.get("spec") or {}).get("finalizers"))


class _DeletionName:
    """Names a deletion's options in messages."""

    group = "meta.k8s.io"
    plural = ""
    kind = "DeleteOptions"


def parse_delete_options(given: JsonObject, query: dict[str, str]) -> tuple[DeleteOptions, bool]:
    """Return a deletion's options from its body and query, and whether it is a trial.

    Raises:
        ValueError: they do not parse.
        ApiError: 422, they contradict themselves.
    """
    grace = given.get("gracePeriodSeconds")
    if grace is None and "gracePeriodSeconds" in query:
        grace = int(query["gracePeriodSeconds"])
    if grace is not None and (not isinstance(grace, int) or grace < 0):
        raise ValueError("gracePeriodSeconds must be a whole number from 0 on")
    preconditions = given.get("preconditions") or {}
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy")
    causes = Causes()
    if propagation not in (None, *_PROPAGATIONS):
        causes.not_supported("propagationPolicy", propagation, (*_PROPAGATIONS, "nil"))
    orphans = given.get("orphanDependents")
    if orphans is None:
        orphans = {"true": True, "false": False}.get(query.get("orphanDependents", ""))
    if orphans is not None:
        if propagation is not None:
            causes.invalid(
                "propagationPolicy",
                propagation,
                "orphanDependents and deletionPropagation cannot be both set",
            )
        propagation = "Orphan" if orphans else "Background"
    if causes.found:
        raise invalid(_DeletionName, "", causes)
    options = DeleteOptions(
        grace_seconds=grace,
        uid=preconditions.get("uid"),
        revision=preconditions.get("resourceVersion"),
        propagation=propagation,
    )
    is_trial = bool(given.get("dryRun")) or query.get("dryRun") == "All"
    return options, is_trial


__all__ = [
    "SYSTEM_NAMESPACES",
    "ApiError",
    "Change",
    "DeleteOptions",
    "Outcome",
    "Registry",
    "method_not_allowed",
    "parse_delete_options",
    "utc_now",
]
