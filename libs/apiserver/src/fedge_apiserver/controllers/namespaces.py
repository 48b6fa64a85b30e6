"""Fills new namespaces and empties those that are to go.

https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
"""

import asyncio

import structlog

from fedge_apiserver.controllers._following import follow
from fedge_apiserver.errors import ApiError
from fedge_apiserver.registry import DeleteOptions, Registry
from fedge_apiserver.resources import NAMESPACES, SERVICE_ACCOUNTS, Resource
from fedge_apiserver.storage import Entry
from fedge_apiserver.store import decode

log = structlog.stdlib.get_logger("fedge.apiserver.namespaces")

_ACCOUNT = "default"


class Namespaces:
    """Follows namespaces and the service accounts in them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._emptying: set[str] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_accounts(), name="namespaces-accounts")
            async for entries in follow(self._registry, NAMESPACES):
                for entry in entries:
                    if entry.deleted:
                        continue
                    if not _is_ending(entry):
                        await self._make_account(entry.name)
                    elif entry.name not in self._emptying:
                        self._emptying.add(entry.name)
                        tasks.create_task(
                            self._empty(entry.name), name=f"namespaces-empty-{entry.name}"
                        )

    async def _follow_accounts(self) -> None:
        async for entries in follow(self._registry, SERVICE_ACCOUNTS):
            for entry in entries:
                if entry.deleted and entry.name == _ACCOUNT:
                    await self._make_account(entry.namespace)

    async def _make_account(self, namespace: str) -> None:
        if self._registry.store.head(SERVICE_ACCOUNTS.storage, namespace, _ACCOUNT) is not None:
            return
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": _ACCOUNT, "namespace": namespace},
        }
        try:
            await self._registry.create(SERVICE_ACCOUNTS, namespace, account)
        except ApiError as exc:
            if exc.code not in (403, 404, 409):
                raise

    async def _empty(self, name: str) -> None:
        """Delete all there is in a namespace, wait until it is gone, and let the namespace go."""
        try:
            while (rest := await self._delete_contents(name)) is not None:
                await self._wait_for_change(rest, name)
            await self._registry.finalize_namespace(name, {"spec": {}})
            log.info("namespace_deleted", namespace=name)
        except ApiError as exc:
            if exc.reason != "NotFound":
                raise
        finally:
            self._emptying.discard(name)

    async def _delete_contents(self, namespace: str) -> Resource | None:
        """Delete what is in a namespace; return a resource that still has objects there."""
        rest: Resource | None = None
        for resource in self._registry.catalog.stored().values():
            if not resource.namespaced:
                continue
            for entry in list(self._registry.store.select(resource.storage, namespace)):
                if not _is_ending(entry):
                    try:
                        await self._registry.delete(
                            resource, namespace, entry.name, DeleteOptions()
                        )
                    except ApiError as exc:
                        if exc.reason != "NotFound":
                            raise
            if next(self._registry.store.select(resource.storage, namespace), None) is not None:
                rest = resource
        return rest

    async def _wait_for_change(self, resource: Resource, namespace: str) -> None:
        store = self._registry.store
        with store.watch(resource.storage, store.revision) as watch:
            if next(store.select(resource.storage, namespace), None) is not None:
                await watch.wait()


def _is_ending(entry: Entry) -> bool:
    return b'"deletionTimestamp"' in entry.body and bool(
        decode(entry.body)["metadata"].get("deletionTimestamp")
    )
