"""Jobs carried on: whatever changes, each job that it concerns is looked at again.

Nothing is kept here that the API does not hold. Writes of a job's status are made for the version
that was looked at; where somebody else was quicker the next look sees that.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from fedge_controller.jobs.kinds import JobKind
from fedge_controller.jobs.rounds import Next, decide, given_up
from fedge_controller.kinds.node_tasks import NODE_TASKS
from fedge_kube import (
    NODES,
    Changed,
    ConflictError,
    KubeClient,
    KubeError,
    Listed,
    NotFoundError,
    NotServed,
    Removed,
    UnreachableError,
    observe,
)
from fedge_objects import JsonObject, ObjectKey

log = structlog.stdlib.get_logger("fedge.controller")

TOGETHER_SECONDS = 0.2
"""What changes within it is looked at together: many nodes' reports are few writes of a job."""
AGAIN_SECONDS = 2.0
REFUSED_AGAIN_SECONDS = 60.0

_Name = tuple[str, str]
"""Kind and name of a job."""
_Key = TypeVar("_Key")


@dataclass(slots=True)
class _Known:
    nodes: dict[str, JsonObject] = field(default_factory=dict)
    tasks: dict[str, JsonObject] = field(default_factory=dict)
    jobs: dict[_Name, JsonObject] = field(default_factory=dict)


class Jobs:
    """All jobs of the cluster; a companion of the kinds that controller follows."""

    def __init__(
        self,
        kinds: Iterable[JobKind],
        *,
        now: Callable[[], float] = time.time,
        owns: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Prepare.

        Args:
            kinds: of jobs.
            now: the time, in seconds since the epoch.
            owns: whether a job, by kind and name, is this replica's to carry on.
        """
        self.prepared = asyncio.Event()
        self.prepared.set()
        self._kinds = {each.kind: each for each in kinds}
        self._now = now
        self._owns = owns
        self._known = _Known()
        self._changed: set[_Name] = set()
        self._later: dict[_Name, float] = {}
        self._news = asyncio.Event()

    def saw(self, key: ObjectKey, obj: JsonObject | None) -> None:
        """Take a node or a node task as it is now."""
        if key.resource == NODES.name:
            was = self._known.nodes.get(key.name)
            _keep(self._known.nodes, key.name, obj)
            if was is None or obj is None or _readiness(was) != _readiness(obj):
                self._mark(self._known.jobs)
        elif key.resource == NODE_TASKS.name:
            task = obj or self._known.tasks.get(key.name)
            _keep(self._known.tasks, key.name, obj)
            self._mark(_owners(task))

    def reshared(self) -> None:
        """Take that jobs changed hands between replicas."""
        self._mark(self._known.jobs)

    async def run(self, kube: KubeClient, listed: asyncio.Event) -> None:
        """Carry on with all jobs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for kind in self._kinds.values():
                tasks.create_task(self._follow(kube, kind), name=f"watch {kind.resource.name}")
            await listed.wait()
            while True:
                await self._until_news()
                changed, self._changed = self._changed, set()
                for name in sorted(changed):
                    self._later.pop(name, None)
                    await self._look(kube, name)

    async def _follow(self, kube: KubeClient, kind: JobKind) -> None:
        jobs = self._known.jobs
        async for observation in observe(kube, kind.resource):
            match observation:
                case Listed(items, _):
                    listed = {(kind.kind, each["metadata"]["name"]): each for each in items}
                    for name in [each for each in jobs if each[0] == kind.kind]:
                        if name not in listed:
                            self._forget(name)
                    for name, job in listed.items():
                        _keep(jobs, name, job)
                    self._mark(listed)
                case Changed(obj):
                    _keep(jobs, (kind.kind, str(obj["metadata"]["name"])), obj)
                    self._mark([(kind.kind, obj["metadata"]["name"])])
                case Removed(obj):
                    self._forget((kind.kind, obj["metadata"]["name"]))
                case NotServed():
                    continue

    def _forget(self, name: _Name) -> None:
        self._known.jobs.pop(name, None)
        self._later.pop(name, None)
        self._changed.discard(name)

    def _mark(self, names: Iterable[_Name]) -> None:
        found = [each for each in names if each in self._known.jobs]
        if found:
            self._changed.update(found)
            self._news.set()

    async def _until_news(self) -> None:
        """Wait until a job changed, or time alone changes one; then a moment for others."""
        while not self._changed:
            self._news.clear()
            first = min(self._later.values(), default=None)
            wait = None if first is None else max(0.0, first - self._now())
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                now = self._now()
                self._changed.update(each for each, at in self._later.items() if at <= now)
        await asyncio.sleep(TOGETHER_SECONDS)

    async def _look(self, kube: KubeClient, name: _Name) -> None:
        job = self._known.jobs.get(name)
        if job is None or job["metadata"].get("deletionTimestamp"):
            return
        if not self._owns("/".join(name)):
            return
        kind = self._kinds[name[0]]
        found = decide(kind, job, nodes=self._known.nodes, tasks=self._known.tasks, now=self._now())
        if found.look_again_at is not None:
            self._later[name] = found.look_again_at
        try:
            await self._carry_out(kube, kind, job, found)
        except ConflictError as exc:
            # somebody else was quicker; the watch brings what they wrote
            log.debug("job_looked_at_again", job="/".join(name), reason=str(exc))
            self._later[name] = self._now() + AGAIN_SECONDS
        except NotFoundError as exc:
            log.info("job_gone", job="/".join(name), reason=str(exc))
        except UnreachableError as exc:
            log.warning("job_waits", job="/".join(name), reason=str(exc))
            self._later[name] = self._now() + AGAIN_SECONDS
        except KubeError as exc:
            log.warning("job_refused", job="/".join(name), reason=str(exc))
            self._later[name] = self._now() + REFUSED_AGAIN_SECONDS

    async def _carry_out(
        self, kube: KubeClient, kind: JobKind, job: JsonObject, found: Next
    ) -> None:
        for task in found.make:
            try:
                self._took(await kube.create(NODE_TASKS, task))
            except ConflictError:  # made by another controller, or still going with an older job
                self._later[_name(kind, job)] = self._now() + AGAIN_SECONDS
        for name, spec in found.confirm.items():
            self._took(await kube.replace(NODE_TASKS, {**self._known.tasks[name], "spec": spec}))
        for name, reason in found.give_up.items():
            task = self._known.tasks[name]
            gone = {**task, "status": given_up(task, reason)}
            self._took(await kube.replace(NODE_TASKS, gone, subresource="status"))
        was = job.get("status") or {}
        if found.status == was:
            return
        written = await kube.replace(
            kind.resource, {**job, "status": found.status}, subresource="status"
        )
        if was.get("phase") != found.status["phase"]:
            log.info(
                "job_changed",
                job="/".join(_name(kind, job)),
                phase=found.status["phase"],
                reason=found.status.get("reason", ""),
            )
        if _name(kind, job) in self._known.jobs:
            self._known.jobs[_name(kind, job)] = written
        # what was written may ask for more: a turn that was given, for its task
        self._mark([_name(kind, job)])

    def _took(self, task: JsonObject) -> None:
        known = self._known.tasks.get(task["metadata"]["name"])
        if known is None or _revision(known) < _revision(task):
            self._known.tasks[task["metadata"]["name"]] = task


def _keep(held: dict[_Key, JsonObject], name: _Key, obj: JsonObject | None) -> None:
    """Hold an object as it is now; what was written here may be newer than what is heard."""
    if obj is None:
        held.pop(name, None)
    elif name not in held or _revision(held[name]) <= _revision(obj):
        held[name] = obj


def _revision(obj: JsonObject) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)


def _name(kind: JobKind, job: JsonObject) -> _Name:
    return kind.kind, str(job["metadata"]["name"])


def _owners(task: JsonObject | None) -> list[_Name]:
    owners = ((task or {}).get("metadata") or {}).get("ownerReferences") or ()
    return [(str(each.get("kind")), str(each.get("name"))) for each in owners]


def _readiness(node: JsonObject) -> object:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return [each.get("status") for each in conditions if each.get("type") == "Ready"]
