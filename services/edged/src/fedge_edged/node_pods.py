"""All pods of the node: one worker each, woken by whatever concerns it."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog

from fedge_cri import RuntimeFaultError
from fedge_edged.admission import NodeView, Refusal, admit
from fedge_edged.context import Tools
from fedge_edged.given import check
from fedge_edged.importance import MIRROR, SOURCE
from fedge_edged.log_rotation import RunningLog
from fedge_edged.pods import Pod, read_pod
from fedge_edged.specs import POD_NAME, POD_NAMESPACE
from fedge_edged.unhonoured import unhonoured
from fedge_edged.verdicts import Record
from fedge_edged.worker import PodWorker
from fedge_objects import Change, JsonObject, ObjectKey, Version, references
from fedge_service import backoff
from fedge_tracing import Cause

log = structlog.stdlib.get_logger("fedge.edged")

IsKnown = Callable[[ObjectKey], Awaitable[bool]]
LookAtNode = Callable[[], NodeView]


class NodeObjects:
    """``Objects`` in memory: what meta has told, newest versions."""

    def __init__(self) -> None:
        self._changes: dict[ObjectKey, Change] = {}

    def get(self, key: ObjectKey) -> JsonObject | None:
        """See ``fedge_edged.ports.Objects``."""
        change = self._changes.get(key)
        return change.object if change is not None else None

    def put(self, change: Change) -> bool:
        """Take a change; return whether it is newer than what was known."""
        known = self._changes.get(change.key)
        if known is not None and known.version >= change.version:
            return False
        self._changes[change.key] = change
        return True

    def version(self, key: ObjectKey) -> Version | None:
        """Return the version that is held."""
        change = self._changes.get(key)
        return change.version if change is not None else None


class NodePods:
    """Starts and wakes the workers."""

    def __init__(
        self,
        *,
        tools: Tools,
        objects: NodeObjects,
        tasks: asyncio.TaskGroup,
        look_at_node: LookAtNode,
    ) -> None:
        self._tools = tools
        self._objects = objects
        self._tasks = tasks
        self._look_at_node = look_at_node
        self._workers: dict[str, PodWorker] = {}
        self._uids: dict[ObjectKey, str] = {}
        self._statics: set[ObjectKey] = set()
        self.statics_are_known = False
        """Whether a pod from a file that is not held has no file any more."""
        self._relisting = asyncio.Lock()
        self._in_runtime: frozenset[str] | None = None

    @property
    def workers(self) -> list[PodWorker]:
        """The workers, one per pod that the node has or had."""
        return list(self._workers.values())

    def uids(self) -> frozenset[str]:
        """Return the uids of the pods that are here."""
        return frozenset(uid for uid, worker in self._workers.items() if not worker.is_over)

    def volumes_changed(self, uid: str) -> None:
        """Have a pod's volumes brought up to date."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.volumes_changed()

    def running_logs(self, folder_of: Callable[[str, str, str], Path]) -> list[RunningLog]:
        """Return the logs that are being written; ``folder_of`` tells where a pod's logs lie."""
        found = []
        for worker in self._workers.values():
            if worker.pod is None:
                continue
            meta = worker.pod.metadata
            folder = folder_of(meta.namespace, meta.name, meta.uid)
            found += [
                RunningLog(container_id=each.id, path=folder / each.name / f"{each.attempt}.log")
                for each in worker.observed.running()
            ]
        return found

    async def look_at_runtime(self) -> None:
        """Learn which pods the runtime has anything of; the others need no look when they come.

        Raises:
            RuntimeFaultError: the runtime does not answer.
        """
        await self._tools.images.refresh()
        sandboxes = await self._tools.runtime.list_sandboxes()
        self._in_runtime = frozenset(each.uid for each in sandboxes)

    def apply(self, change: Change) -> bool:
        """Take a change of a pod, config map, secret or node; return whether it was any news."""
        key, version = change.key, change.version
        try:
            check(key.resource, change.object or {"metadata": {}})
        except ValueError as exc:
            log.warning("object_unreadable", object=str(key), reason=str(exc))
            self._tools.reporter.failed(key, version, f"the object cannot be read: {exc}")
            return False
        if not self._objects.put(change):
            return False
        if key.resource == "pods":
            if key not in self._statics:
                cause = Cause(change.traceparent, change.since)
                self._apply_pod(key, _of_api(change.object), version, cause)
                self._say_if_gone(key)
            return True
        self._tools.reporter.applied(key, version)
        for worker in self._workers.values():
            if worker.pod is not None and key in references(worker.pod.raw):
                worker.volumes_changed()
        return True

    def in_order(self, changes: Iterable[Change]) -> list[Change]:
        """Return pods in the order in which they are to be taken.

        What runs already comes first, then the oldest: a restart of edged must not give the place
        of one pod to another.
        """

        def place(change: Change) -> tuple[bool, str]:
            metadata = (change.object or {}).get("metadata") or {}
            is_new = change.object is not None and metadata.get("uid") not in (
                self._in_runtime or ()
            )
            return is_new, str(metadata.get("creationTimestamp") or "")

        return sorted(changes, key=place)

    def report_all(self) -> None:
        """Report every status anew."""
        for worker in self._workers.values():
            worker.report_again()

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """Return the worker of a pod."""
        uid = self._uids.get(ObjectKey("pods", namespace, name))
        return self._workers.get(uid) if uid else None

    async def follow_runtime(self, *, relist_seconds: float, is_known: IsKnown) -> None:
        """Wake workers by the runtime's events, and all of them now and then."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._events(is_known), name="runtime events")
            tasks.create_task(self._relist(relist_seconds, is_known), name="runtime relist")

    async def _events(self, is_known: IsKnown) -> None:
        async for event in self._tools.runtime.events():
            if event is None:
                await self._look_at_what_is_back(is_known)
                continue
            for worker in self._workers.values():
                observed = worker.observed
                if event.container_id in observed.containers.keys() | observed.sandboxes.keys():
                    worker.wake(stale=event.container_id)
                    break

    async def _relist(self, seconds: float, is_known: IsKnown) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.look_at_all(is_known)

    async def _look_at_what_is_back(self, is_known: IsKnown) -> None:
        """Look until the runtime answers: it may tell of events before it can be asked.

        Whoever waits to try again does so at once: it may have waited for the runtime.
        """
        async for _ in backoff(first_seconds=0.1, most_seconds=2.0):
            if await self.look_at_all(is_known):
                break
        for worker in self._workers.values():
            worker.try_again_now()

    async def look_at_all(self, is_known: IsKnown) -> bool:
        """Compare the runtime's whole list with what is known, and wake whom it concerns.

        Returns:
            Whether the runtime answered.
        """
        runtime = self._tools.runtime
        async with self._relisting:
            try:
                sandboxes = await runtime.list_sandboxes()
                containers = await runtime.list_containers()
                await self._tools.images.refresh()
            except RuntimeFaultError as exc:
                log.warning("runtime_away", reason=str(exc))
                return False
        self._in_runtime = frozenset(each.uid for each in sandboxes)
        states = {each.id: each.state for each in containers}
        for uid, worker in list(self._workers.items()):
            observed = worker.observed
            known = {key: each.state for key, each in observed.containers.items()}
            ready = {each.id for each in sandboxes if each.uid == uid and each.is_ready}
            believed = {each.id for each in observed.sandboxes.values() if each.is_ready}
            if ready != believed or any(
                states.get(key) is not state for key, state in known.items()
            ):
                worker.look_again()
        for sandbox in sandboxes:
            if sandbox.uid in self._workers or POD_NAME not in sandbox.labels:
                continue
            labels = sandbox.labels
            key = ObjectKey("pods", labels.get(POD_NAMESPACE, ""), labels[POD_NAME])
            is_static = sandbox.annotations.get(SOURCE) == "file"
            if self.statics_are_known if is_static else await is_known(key):
                log.warning("pod_orphaned", pod=str(key), uid=sandbox.uid)
                self._worker(sandbox.uid).want(None)
            else:
                # nothing says that it was deleted; the cloud will tell what it is
                log.warning("pod_unknown", pod=str(key), uid=sandbox.uid)
        return True

    def take_static(self, key: ObjectKey, obj: JsonObject) -> None:
        """Take a pod from a file of the node; what the cloud says of that name counts no more.

        What an earlier edged decided about it does not stand: nobody else would start it again.
        """
        uid = obj["metadata"]["uid"]
        record = self._tools.records.read(uid)
        if record.verdict is not None and uid not in self._workers:
            self._tools.records.write(uid, Record(started_at=record.started_at))
        self._statics.add(key)
        self._apply_pod(key, obj)

    def drop_static(self, key: ObjectKey) -> None:
        """End a pod whose file is gone."""
        self._apply_pod(key, None)
        self._statics.discard(key)

    def has(self, uid: str) -> bool:
        """Whether anything of a pod is, or may be, on the node."""
        return uid in self._workers

    def _apply_pod(
        self,
        key: ObjectKey,
        obj: JsonObject | None,
        version: Version | None = None,
        cause: Cause | None = None,
    ) -> None:
        try:
            pod = read_pod(obj, version) if obj is not None else None
        except ValueError as exc:
            log.warning("pod_unreadable", pod=str(key), reason=str(exc))
            if version is not None:
                self._tools.reporter.failed(key, version, f"the pod cannot be read: {exc}")
            return
        old = self._uids.get(key)
        if old is not None and (pod is None or old != pod.metadata.uid):
            self._worker(old).want(None, cause)
            self._forget(old)
            del self._uids[key]
        if pod is None:
            return
        uid = pod.metadata.uid
        is_new = uid not in self._workers
        self._uids[key] = uid
        refusal = self._refusal(pod) if is_new and not pod.is_deleted else None
        worker = self._worker(uid)
        worker.want(pod, cause)
        if refusal is not None:
            log.warning("pod_refused", pod=str(key), reason=refusal.reason, why=refusal.message)
            self._tools.reporter.event(pod, "Warning", refusal.reason, refusal.message)
            worker.finish(refusal.verdict(), grace_seconds=0)
        elif is_new and not pod.is_deleted:
            self._warn(pod)

    def _refusal(self, pod: Pod) -> Refusal | None:
        """Return why a pod is not taken; what the runtime has already, or had, is not asked."""
        uid = pod.metadata.uid
        if self._in_runtime is None or uid in self._in_runtime or pod.has_ended:
            return None
        if self._tools.records.read(uid).verdict is not None:
            return None
        try:
            return admit(pod, self._look_at_node(), self._active(pod))
        except ValueError as exc:
            return Refusal("UnexpectedAdmissionError", f"Allocate failed due to {exc}")

    def _active(self, new: Pod) -> list[Pod]:
        """Return the other pods that have not ended."""
        return [
            worker.pod
            for worker in self._workers.values()
            if worker.pod is not None and worker.pod.key != new.key and self._is_active(worker)
        ]

    def _is_active(self, worker: PodWorker) -> bool:
        """Whether a pod uses anything of the node, or is about to."""
        if worker.observed.running():
            return True
        if worker.is_gone or worker.pod is None or worker.pod.has_ended:
            return False
        if worker.verdict is not None:
            return False
        if worker.status is None:  # it has not been looked at yet
            return self._tools.records.read(worker.uid).verdict is None
        return worker.status["phase"] not in {"Succeeded", "Failed"}

    def _warn(self, pod: Pod) -> None:
        fields = list(unhonoured(pod))
        if fields:
            self._tools.reporter.event(
                pod,
                "Warning",
                "FieldNotHonored",
                f"this node does not act on: {', '.join(fields)}",
            )

    def _worker(self, uid: str) -> PodWorker:
        worker = self._workers.get(uid)
        if worker is None:
            is_new = self._in_runtime is not None and uid not in self._in_runtime
            worker = self._workers[uid] = PodWorker(uid, self._tools, is_new=is_new)
            # in a context of its own: it outlives the message that it began with, and its trace
            task = self._tasks.create_task(
                worker.run(), name=f"worker {uid}", context=contextvars.Context()
            )
            task.add_done_callback(lambda _: self._forget(uid))
        return worker

    def _forget(self, uid: str) -> None:
        """Drop a worker that is done with a pod that is gone.

        One whose pod was deleted but is still in the cluster stays, to say again that it ended.
        """
        worker = self._workers.get(uid)
        if worker is not None and worker.is_gone and worker.is_over:
            del self._workers[uid]
            if worker.pod is not None:
                self._say_if_gone(worker.pod.key)

    def _say_if_gone(self, key: ObjectKey) -> None:
        """Report that a pod's tombstone is in effect, once nothing is left of the pod."""
        version = self._objects.version(key)
        is_wanted = self._objects.get(key) is not None
        is_here = any(each.pod is not None and each.pod.key == key for each in self.workers)
        if version is not None and not is_wanted and not is_here:
            self._tools.reporter.applied(key, version)


def _of_api(obj: JsonObject | None) -> JsonObject | None:
    """Return a pod of the API: it cannot pass itself off as one from a file of the node.

    The image that another kubelet gave of its own pods (a mirror pod) is none to run.
    """
    metadata = (obj or {}).get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if not isinstance(annotations, dict):
        return obj  # not read any further either
    if obj is None or MIRROR in annotations:
        return None
    if SOURCE not in annotations:
        return obj
    kept = {name: value for name, value in annotations.items() if name != SOURCE}
    return {**obj, "metadata": {**metadata, "annotations": kept}}
