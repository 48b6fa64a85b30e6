"""What nodes report, written to the API: newest only, one write at a time per object."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from fedge_dispatch.resources import Report, ResourcePlugin
from fedge_fabric import InvalidError, UnavailableError
from fedge_kube import (
    ConflictError,
    KubeClient,
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from fedge_objects import ObjectKey

log = structlog.stdlib.get_logger("fedge.dispatch")

Observed = tuple[int, int]


class Reports:
    """The way of statuses into the API."""

    def __init__(self, kube: KubeClient, plugins: Mapping[str, ResourcePlugin]) -> None:
        self._kube = kube
        self._plugins = plugins
        self._observed: dict[ObjectKey, tuple[str, Observed]] = {}
        self._writing: defaultdict[ObjectKey, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def status(self, report: Report, observed: Observed) -> None:
        """Write a status, unless a newer one was written.

        Raises:
            InvalidError: no plugin for the resource, or the API refuses the status.
            UnavailableError: the API is away.
        """
        plugin = self._plugins.get(report.key.resource)
        if plugin is None:
            raise InvalidError(f"no plugin takes reports about {report.key.resource!r}")
        async with self._writing[report.key]:
            newest = self._observed.get(report.key)
            if newest is not None and newest[0] == report.uid and newest[1] >= observed:
                return
            async with answered():
                await plugin.report(self._kube, report)
            self._observed[report.key] = (report.uid, observed)

    def forget(self, key: ObjectKey) -> None:
        """Drop what is remembered about an object that is gone."""
        self._observed.pop(key, None)
        if key in self._writing and not self._writing[key].locked():
            del self._writing[key]


@asynccontextmanager
async def answered() -> AsyncIterator[None]:
    """Translate what the API answers into what happens to the message.

    Raises:
        UnavailableError: the API is away; the message comes again.
        InvalidError: the API refuses for good.
    """
    try:
        yield
    except UnreachableError as exc:
        raise UnavailableError(f"the Kubernetes API does not answer: {exc}") from exc
    except RefusedError as exc:
        raise InvalidError(f"the Kubernetes API refuses: {exc}") from exc
    except (NotFoundError, ConflictError) as exc:
        log.info("report_outdated", reason=str(exc))
