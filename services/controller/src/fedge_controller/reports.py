"""What nodes report, written to the API: newest only, one write at a time per object."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from fedge_controller.resources import Report, ResourcePlugin
from fedge_fabric import InvalidError, UnavailableError
from fedge_kube import (
    EVENTS,
    LEASES,
    ConflictError,
    KubeClient,
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from fedge_objects import JsonObject, NodeName, ObjectKey

log = structlog.stdlib.get_logger("fedge.controller")

LEASE_NAMESPACE = "kube-node-lease"
LEASE_HEARTBEATS = 4
"""A lease lasts this many heartbeats, as the kubelet's 40 s at one per 10 s."""

Observed = tuple[int, int]


class Reports:
    """The way of statuses, heartbeats and events into the API."""

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
            async with _answered():
                await plugin.report(self._kube, report)
            self._observed[report.key] = (report.uid, observed)

    def forget(self, key: ObjectKey) -> None:
        """Drop what is remembered about an object that is gone."""
        self._observed.pop(key, None)
        if key in self._writing and not self._writing[key].locked():
            del self._writing[key]

    async def alive(self, node: NodeName, interval_seconds: float) -> None:
        """Renew the node's lease; errors as in ``status``.

        https://kubernetes.io/docs/concepts/architecture/leases/#node-heart-beats
        """
        spec: JsonObject = {
            "holderIdentity": node,
            "leaseDurationSeconds": max(1, round(interval_seconds * LEASE_HEARTBEATS)),
            "renewTime": datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z",
        }
        async with _answered():
            try:
                await self._kube.patch(LEASES, LEASE_NAMESPACE, node, {"spec": spec})
            except NotFoundError:
                await self._kube.create(
                    LEASES,
                    {
                        "apiVersion": "coordination.k8s.io/v1",
                        "kind": "Lease",
                        "metadata": {"name": node, "namespace": LEASE_NAMESPACE},
                        "spec": spec,
                    },
                )

    async def event(self, event: JsonObject) -> None:
        """Record an event, or its repetition; errors as in ``status``."""
        metadata = event["metadata"]
        async with _answered():
            try:
                await self._kube.create(EVENTS, event)
            except ConflictError:
                repeated: JsonObject = {
                    name: event[name]
                    for name in ("count", "lastTimestamp", "message", "series")
                    if name in event
                }
                await self._kube.patch(EVENTS, metadata["namespace"], metadata["name"], repeated)


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    try:
        yield
    except UnreachableError as exc:
        raise UnavailableError(f"the Kubernetes API does not answer: {exc}") from exc
    except RefusedError as exc:
        raise InvalidError(f"the Kubernetes API refuses: {exc}") from exc
    except (NotFoundError, ConflictError) as exc:
        log.info("report_outdated", reason=str(exc))
