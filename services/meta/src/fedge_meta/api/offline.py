"""Writes that are taken with the cloud away.

The roles have let them through. What is taken is judged as the cloud's API would judge it, by the
same code, stored in the outbox, and shown from then on with a mark. Taken is what can be merged
later without anybody being surprised; the rest is refused with 503 and the reason, so that its
writer tries again:

* ConfigMaps and Secrets: create, update, patch, apply, delete;
* Events: create, update, patch;
* labels and annotations of the node's own pods.
"""

from typing import Any, Final

from fedge_apiserver.errors import ApiError, method_not_allowed
from fedge_apiserver.http import ApiApplication, Request, Writing
from fedge_apiserver.registry import Admit, Change, DeleteOptions, Outcome, Registry
from fedge_apiserver.resources import CONFIG_MAPS, EVENTS, NEW_EVENTS, PODS, SECRETS, Resource
from fedge_apiserver.storage import Entry
from fedge_apiserver.store import decode
from fedge_fabric import UnavailableError
from fedge_fabric.writes import Author, ObjectChange
from fedge_meta.api.away import away
from fedge_meta.api.outbox import PENDING, FullError, Outbox
from fedge_meta.api.view import View
from fedge_objects import JsonObject, ObjectKey

_TAKEN: Final = (CONFIG_MAPS, SECRETS, EVENTS, NEW_EVENTS)
_METHOD_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
FULL_SECONDS: Final = 30


class OfflineWriting:
    """Takes writes into the outbox."""

    def __init__(self, *, view: View, outbox: Outbox, application: ApiApplication) -> None:
        self._view = view
        self._outbox = outbox
        self._application = application

    async def write(
        self, request: Request, author: Author, resource: Resource, parts: list[str], sub: str
    ) -> None:
        """Take a write and answer.

        Args:
            request: what is wanted.
            author: by whom.
            resource: of which resource.
            parts: of the path.
            sub: the subresource, if one is meant.

        Raises:
            ApiError: it is wrong, or cannot be taken now.
        """
        if sub or resource not in (*_TAKEN, PODS):
            what = f"{resource.plural}/{sub}" if sub else resource.plural
            raise away(f"{what} cannot be written without it")
        registry = OfflineRegistry(
            self._view,
            self._outbox,
            author,
            verb=_METHOD_VERBS[request.method],
            manager=request.query.get("fieldManager", ""),
        )
        writing = Writing(registry, self._application.reading, self._application.authorizer)
        names = parts[parts.index(resource.plural, 2 if parts[0] == "api" else 3) + 1 :]
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts[:4] else ""
        if not namespace:
            raise method_not_allowed()
        match request.method, names:
            case "POST", []:
                await writing.create(request, resource, namespace)
            case "PUT", [name]:
                await writing.replace(request, resource, namespace, name, "")
            case "PATCH", [name]:
                await writing.patch(request, resource, namespace, name, "")
            case "DELETE", [name]:
                await writing.delete(request, resource, namespace, name)
            case "DELETE", []:
                await writing.delete_all(request, resource, namespace)
            case _:
                raise method_not_allowed()


class OfflineRegistry(Registry):
    """The objects that are shown, whose changes go into the outbox."""

    def __init__(
        self, view: View, outbox: Outbox, author: Author, *, verb: str, manager: str
    ) -> None:
        super().__init__(view.shown, view.catalog)
        self._view = view
        self._outbox = outbox
        self._author = author
        self._verb = verb
        self._manager = manager

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
        """See ``Registry``."""
        if resource is PODS:
            raise away("it is the cloud that gives pods to nodes")
        async with self._view.updating:
            return await super().create(
                resource,
                namespace,
                value,
                dry_run=dry_run,
                keeps_managers=keeps_managers,
                admit=admit,
            )

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
        """See ``Registry``."""

        def checked(held: JsonObject) -> JsonObject:
            new = change(held)
            if resource is PODS and new.get("spec") != held.get("spec"):
                raise away("a pod's spec cannot be changed without it")
            return new

        async with self._view.updating:
            return await super().update(
                resource,
                namespace,
                name,
                checked,
                subresource=subresource,
                dry_run=dry_run,
                admit=admit,
            )

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        options: DeleteOptions,
        *,
        dry_run: bool = False,
    ) -> Outcome:
        """See ``Registry``."""
        if resource is PODS:
            raise away("a pod that is removed now would come back with it")
        async with self._view.updating:
            return await super().delete(resource, namespace, name, options, dry_run=dry_run)

    async def _put(self, resource: Resource, namespace: str, name: str, value: JsonObject) -> Entry:
        entry = await self._accept(resource, namespace, name, value)
        if entry is None:
            raise RuntimeError(f"{resource.plural} {namespace}/{name} was taken and is not shown")
        return entry

    async def _remove(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        value: JsonObject,  # noqa: ARG002 - its last state, which is held too
    ) -> Entry:
        held = self.store.head(resource.storage, namespace, name)
        await self._accept(resource, namespace, name, None)
        if held is None:
            raise RuntimeError(f"{resource.plural} {namespace}/{name} was not there to be removed")
        return held

    async def _accept(
        self, resource: Resource, namespace: str, name: str, wanted: JsonObject | None
    ) -> Entry | None:
        held = self.store.head(resource.storage, namespace, name)
        key = ObjectKey(resource.storage, namespace, name)
        base = None if held is None else decode(held.body)
        verb = self._verb if base is not None else "create"
        change = ObjectChange(
            verb="delete" if wanted is None else verb,
            group="" if resource in (EVENTS, NEW_EVENTS) else resource.group,
            version=resource.version,
            plural=resource.plural,
            namespace=namespace,
            name=name,
            manager=self._manager,
            base=None if base is None else _unmarked(base),
            wanted=None if wanted is None else _unmarked(wanted),
        )
        try:
            await self._outbox.accept(self._author, change)
        except FullError as exc:
            raise ApiError(
                507,
                "InsufficientStorage",
                f"{exc}: try again when the line is back",
                retry_after_seconds=FULL_SECONDS,
            ) from exc
        except UnavailableError as exc:
            raise ApiError(503, "ServiceUnavailable", str(exc), retry_after_seconds=5) from exc
        return await self._view.refresh(key)


def _unmarked(value: JsonObject) -> JsonObject:
    """Return an object without what is only true here: the mark, and the edge's revision."""
    metadata: dict[str, Any] = {**value["metadata"]}
    metadata.pop("resourceVersion", None)
    if PENDING in (metadata.get("annotations") or {}):
        kept = {k: v for k, v in metadata["annotations"].items() if k != PENDING}
        metadata["annotations"] = kept
        if not kept:
            del metadata["annotations"]
    return {**value, "metadata": metadata}
