"""Node tasks: each a job's part on one node, down to that node, its progress up.

They are made of jobs (``fedge_controller.jobs``); whoever wants one makes a job.
"""

from typing import Final

import structlog

from fedge_dispatch import Report, given_to_nodes
from fedge_kube import (
    ConflictError,
    KubeClient,
    NotFoundError,
    RefusedError,
    Resource,
    UnreachableError,
)
from fedge_objects import JsonObject, NodeName, ObjectKey
from fedge_operations import GROUP, VERSION, Progress, TaskPhase, read_progress

log = structlog.stdlib.get_logger("fedge.controller")

NODE_TASKS: Final = Resource(GROUP, VERSION, "nodetasks", namespaced=False)
_TRIES: Final = 5


class NodeTasks:
    """The task, which takes along the Secret that it needs for as long as it is not over."""

    resource = NODE_TASKS
    leads = True
    optional = True

    def node_of(self, obj: JsonObject) -> NodeName | None:
        """Return the node whose task it is."""
        node = (obj.get("spec") or {}).get("nodeName")
        return NodeName(node) if node else None

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return the pull secret; none once the task is over."""
        secret = ((obj.get("spec") or {}).get("pull") or {}).get("secret") or ""
        namespace, _, name = secret.partition("/")
        if phase_of(obj).is_over or not (namespace and name):
            return frozenset()
        return frozenset({ObjectKey("secrets", namespace, name)})

    def for_node(self, obj: JsonObject) -> JsonObject:
        """Return the task, with its phase once it is over.

        A node that did not begin it by then, or lost all it knew of it, is not to begin it.
        """
        phase = phase_of(obj)
        given = given_to_nodes(obj)
        return {**given, "status": {"phase": str(phase)}} if phase.is_over else given

    async def report(self, kube: KubeClient, report: Report) -> None:
        """Write what the node says, unless it has said something later."""
        try:
            told = read_progress(report.status)
        except ValueError as exc:
            raise RefusedError(f"{report.key}: {exc}") from exc
        for _ in range(_TRIES):
            try:
                await _write(kube, report, told)
            except NotFoundError as exc:
                log.info("report_outdated", task=str(report.key), reason=str(exc))
                return
            except ConflictError as exc:
                log.debug("report_again", task=str(report.key), reason=str(exc))
            else:
                return
        raise UnreachableError(f"{report.key} was changed by others {_TRIES} times in a row")


async def _write(kube: KubeClient, report: Report, told: Progress) -> None:
    task = await kube.get(NODE_TASKS, "", report.key.name)
    if (task.get("spec") or {}).get("nodeName") != report.node:
        raise RefusedError(f"node {report.node!r} reports about {report.key}, which is another's")
    if report.uid and task["metadata"].get("uid") != report.uid:
        log.info("report_outdated", task=str(report.key), reason="it is another of that name")
        return
    status = task.get("status") or {}
    if int(status.get("sequence") or 0) >= told.sequence:
        return
    new = told.as_status()
    if phase_of(task) is TaskPhase.UNKNOWN and not told.phase.is_told:
        # given up: that it is under way is no news that would take that back
        new["phase"] = str(TaskPhase.UNKNOWN)
        new["reason"] = status.get("reason") or ""
    await kube.replace(NODE_TASKS, {**task, "status": new}, subresource="status")


def phase_of(task: JsonObject) -> TaskPhase:
    """Return how far a task is, as its status says; one that says nothing is pending."""
    try:
        return TaskPhase((task.get("status") or {}).get("phase") or TaskPhase.PENDING)
    except ValueError:
        return TaskPhase.PENDING
