"""Pods: down to the node that they are bound to, their status up.

https://kubernetes.io/docs/concepts/workloads/pods/
"""

import structlog

from fedge_controller.kinds.access import account_groups
from fedge_dispatch import Report, given_to_nodes
from fedge_kube import (
    NAMESPACES,
    PODS,
    STRATEGIC_MERGE_PATCH,
    ConflictError,
    KubeClient,
    NotFoundError,
    RefusedError,
)
from fedge_objects import JsonObject, NodeName, ObjectKey, references

log = structlog.stdlib.get_logger("fedge.controller")

_OWNED = (
    "phase",
    "message",
    "reason",
    "hostIP",
    "hostIPs",
    "podIP",
    "podIPs",
    "startTime",
    "initContainerStatuses",
    "containerStatuses",
    "ephemeralContainerStatuses",
)
"""Status fields that the node alone sets: one that it leaves out is no longer so."""

_ENDED = {"Succeeded", "Failed"}


class Pods:
    """The pod, which leads everything it mentions to its node."""

    resource = PODS
    leads = True
    optional = False

    def node_of(self, obj: JsonObject) -> NodeName | None:
        """Return the node that the pod is bound to."""
        node = (obj.get("spec") or {}).get("nodeName")
        return NodeName(node) if node else None

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return what the pod names, its namespace, and the bindings of its service account."""
        namespace = obj["metadata"].get("namespace", "default")
        account = (obj.get("spec") or {}).get("serviceAccountName") or "default"
        own = ObjectKey(NAMESPACES.name, "", namespace)
        return references(obj) | account_groups(namespace, account) | {own}

    def for_node(self, obj: JsonObject) -> JsonObject:
        """Return the pod without its status, but for what others than the node say in it.

        That it has ended for good: a node whose runtime has lost all must not run it again. And
        the conditions that its readiness gates ask for.
        https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-readiness-gate
        """
        told, status = obj.get("status") or {}, {}
        if told.get("phase") in _ENDED:
            status = {name: told[name] for name in ("phase", "reason", "message") if name in told}
        gates = {
            each.get("conditionType")
            for each in (obj.get("spec") or {}).get("readinessGates") or ()
        }
        conditions = [
            {"type": each["type"], "status": each["status"]}
            for each in told.get("conditions") or ()
            if each["type"] in gates
        ]
        if conditions:
            status["conditions"] = conditions
        return {**given_to_nodes(obj), **({"status": status} if status else {})}

    async def report(self, kube: KubeClient, report: Report) -> None:
        """Patch the status; delete the object once the node has ended a deleted pod."""
        namespace, name = report.key.namespace, report.key.name
        try:
            if report.finished:
                await kube.delete(PODS, namespace, name, grace_seconds=0, uid=report.uid)
                return
            await kube.patch(
                PODS,
                namespace,
                name,
                {
                    "metadata": {"uid": report.uid},
                    "status": _whole(report.status),
                },
                subresource="status",
                content_type=STRATEGIC_MERGE_PATCH,
            )
        except (NotFoundError, ConflictError) as exc:
            # gone, or a new pod of the same name: this status is about neither
            log.info("report_outdated", pod=str(report.key), node=report.node, reason=str(exc))


def _whole(status: JsonObject) -> JsonObject:
    """Return a patch that leaves nothing of an older status: what is absent is set to null."""
    told = status.get("conditions") or []
    if not (isinstance(told, list) and all(isinstance(each, dict) for each in told)):
        raise RefusedError("status.conditions is no list of conditions")
    conditions = [{"reason": None, "message": None, **condition} for condition in told]
    return {**dict.fromkeys(_OWNED), **status, "conditions": conditions}
