"""A resource as it is and as it becomes: list, then watch, without an end.

A watch that breaks off goes on from the last revision seen; one that is too old begins with a new
list. Whoever consumes this sees every object's newest state, and each list is complete, so that
what is missing from it is known to be gone. A resource that the API does not serve (yet) says
nothing about objects: it is asked for again until it is served.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from fedge_kube.client import KubeClient
from fedge_kube.errors import ExpiredError, KubeError, NotFoundError
from fedge_kube.resources import Resource
from fedge_objects import JsonObject
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.kube")


@dataclass(frozen=True, slots=True)
class Listed:
    """All objects there are, at ``revision``."""

    items: list[JsonObject]
    revision: int


@dataclass(frozen=True, slots=True)
class Changed:
    """An object was added or changed."""

    object: JsonObject


@dataclass(frozen=True, slots=True)
class Removed:
    """An object is gone; its last state, with the revision of its removal."""

    object: JsonObject


@dataclass(frozen=True, slots=True)
class NotServed:
    """The API has no such resource, e.g. because its definition is not installed yet."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """All that happened until ``revision`` was told.

    https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks
    """

    revision: int


Observation = Listed | Changed | Removed | NotServed | Progressed


async def observe(
    client: KubeClient, resource: Resource, *, field_selector: str = ""
) -> AsyncIterator[Observation]:
    """Yield the list of ``resource``, then its changes, and a new list whenever one is needed.

    Args:
        client: of the API.
        resource: what to look at.
        field_selector: which of its objects; by a field that never changes in one.
    """
    while True:
        async for waited in backoff(most_seconds=10):
            try:
                listing = await client.list(resource, field_selector=field_selector)
            except NotFoundError as exc:
                if not waited:
                    log.warning("resource_not_served", resource=resource.name, reason=str(exc))
                    yield NotServed()
            except KubeError as exc:
                log.warning("list_failed", resource=resource.name, reason=str(exc))
            else:
                yield Listed(listing.items, listing.revision)
                async for change in _changes(client, resource, listing.revision, field_selector):
                    yield change
                break


async def _changes(
    client: KubeClient, resource: Resource, revision: int, field_selector: str
) -> AsyncIterator[Observation]:
    """Yield changes after ``revision``, over as many watches as it takes.

    Ends when the server has forgotten the revision, or serves the resource no longer.
    """
    while True:
        async for waited in backoff(first_seconds=0.2, most_seconds=5):
            heard = False
            try:
                async for kind, obj in client.watch(
                    resource, revision, field_selector=field_selector
                ):
                    heard = True
                    revision = int(obj["metadata"]["resourceVersion"])
                    if kind == "DELETED":
                        yield Removed(obj)
                    elif kind == "BOOKMARK":
                        yield Progressed(revision)
                    else:
                        yield Changed(obj)
                heard = True  # ended by the server in good order
            except (ExpiredError, NotFoundError) as exc:
                log.info("listing_again", resource=resource.name, reason=str(exc))
                return
            except KubeError as exc:
                log.info("watching_again", resource=resource.name, reason=str(exc), waited=waited)
            if heard:
                break
