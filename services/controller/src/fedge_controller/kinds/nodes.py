"""Nodes: each registers itself, reports its status and renews its lease.

https://kubernetes.io/docs/concepts/architecture/nodes/
"""

from typing import Final

import structlog

from fedge_controller.kinds.access import account_groups
from fedge_dispatch import Report, given_to_nodes
from fedge_fabric.writes import NODES_NAMESPACE
from fedge_kube import NODES, STRATEGIC_MERGE_PATCH, ConflictError, KubeClient, NotFoundError
from fedge_objects import JsonObject, NodeName, ObjectKey

log = structlog.stdlib.get_logger("fedge.controller")


OWN_LABELS: Final = frozenset(
    {
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "kubernetes.io/hostname",
        "node-role.kubernetes.io/edge",
    }
)
"""What a node may say it is. By any other label it could draw pods, and their Secrets, to itself:
those are for people to set."""
_MAX_TOLD: Final = 10


class Nodes:
    """The node object, of which its own node holds a copy."""

    resource = NODES
    leads = True
    optional = False

    def node_of(self, obj: JsonObject) -> NodeName | None:
        """Return the node's own name."""
        return NodeName(obj["metadata"]["name"])

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return the bindings of whoever is root there."""
        return account_groups(NODES_NAMESPACE, obj["metadata"]["name"])

    def for_node(self, obj: JsonObject) -> JsonObject:
        """Return the object with as much status as tells a node whether it is given up for lost."""
        conditions = [
            {"type": each["type"], "status": each["status"]}
            for each in (obj.get("status") or {}).get("conditions") or ()
        ]
        return {**given_to_nodes(obj), "status": {"conditions": conditions}}

    async def report(self, kube: KubeClient, report: Report) -> None:
        """Patch the status, registering a node that is not there."""
        try:
            await self._patch(kube, report)
        except NotFoundError:
            await self._register(kube, report)
            await self._patch(kube, report)

    async def _patch(self, kube: KubeClient, report: Report) -> None:
        await kube.patch(
            NODES,
            "",
            report.key.name,
            {"metadata": {"labels": _labels(report)}, "status": report.status},
            subresource="status",
            content_type=STRATEGIC_MERGE_PATCH,
        )

    async def _register(self, kube: KubeClient, report: Report) -> None:
        node: JsonObject = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": report.key.name, "labels": _labels(report)},
            "spec": {},
        }
        try:
            await kube.create(NODES, node)
            log.info("node_registered", node=report.key.name)
        except ConflictError as exc:
            log.info("node_registered_already", node=report.key.name, reason=str(exc))


def _labels(report: Report) -> dict[str, str]:
    """Return the labels that the node may give itself."""
    taken = {name: value for name, value in report.labels.items() if name in OWN_LABELS}
    if "kubernetes.io/hostname" in taken:
        taken["kubernetes.io/hostname"] = report.key.name
    if left := sorted(report.labels.keys() - OWN_LABELS):
        log.warning("labels_not_taken", node=report.key.name, labels=left[:_MAX_TOLD])
    return taken
