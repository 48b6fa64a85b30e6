"""The node's tasks: each begun once, carried on after a restart, told until the cloud has it."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

import structlog

from fedge_edged.node_tasks.diary import Diary
from fedge_edged.node_tasks.pulling import Pulling
from fedge_edged.node_tasks.updating import Updating
from fedge_edged.node_tasks.upgrading import Upgrading
from fedge_edged.ports import Clock
from fedge_objects import Change, JsonObject, ObjectKey, Version
from fedge_operations import NODE_TASKS, Progress, Pull, Task, Update, Upgrade, read_task

log = structlog.stdlib.get_logger("fedge.edged")


class TaskReporter(Protocol):
    """Where the progress of tasks goes."""

    def task_status(self, key: ObjectKey, uid: str, status: JsonObject) -> None:
        """Report a task's progress; newest wins."""
        ...

    def applied(self, key: ObjectKey, version: Version) -> None:
        """Report that a version of an object is in effect."""
        ...

    def failed(self, key: ObjectKey, version: Version, reason: str) -> None:
        """Report that a version of an object cannot be acted on."""
        ...


class NodeTasks:
    """All tasks of the node.

    Pulls go on side by side. What begins the services anew is done one at a time.
    """

    def __init__(
        self,
        *,
        folder: Path,
        node: str,
        clock: Clock,
        reporter: TaskReporter,
        pulling: Pulling,
        updating: Updating,
        upgrading: Upgrading,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._folder = folder
        self._node = node
        self._clock = clock
        self._reporter = reporter
        self._pulling = pulling
        self._updating = updating
        self._upgrading = upgrading
        self._tasks = tasks
        self._one_at_a_time = asyncio.Lock()
        self._known: dict[ObjectKey, tuple[Version, Task | None]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def saw(self, key: ObjectKey) -> None:
        """Take that another object of the node came or changed."""
        self._pulling.saw(key)

    def take(self, change: Change) -> None:
        """Take a task as it is wanted now, or that it is gone."""
        key, version = change.key, change.version
        known = self._known.get(key)
        if known is not None and known[0] >= version:
            return
        was = known[1] if known else None
        task = None
        if change.object is not None:
            try:
                task = self._read(change.object)
            except ValueError as exc:
                log.warning("task_unreadable", task=str(key), reason=str(exc))
                self._reporter.failed(key, version, str(exc))
        self._known[key] = (version, task)
        if was is not None and (task is None or task.uid != was.uid):
            self._drop(was)
        if task is None:
            return
        self._upgrading.saw(task)
        self._reporter.applied(key, version)
        self._look_at(key, task)

    def report_all(self) -> None:
        """Tell once more how far every task is."""
        for key, (_, task) in self._known.items():
            if task is not None and task.uid not in self._running:
                self._diary(key, task).tell()

    def _read(self, obj: JsonObject) -> Task:
        task = read_task(obj)
        if task.node != self._node:
            raise ValueError(f"it is a task of node {task.node!r}")
        return task

    def _look_at(self, key: ObjectKey, task: Task) -> None:
        if task.uid in self._running:
            return
        diary = self._diary(key, task)
        if diary.is_over:
            if not task.is_told:
                diary.tell()
            return
        if task.is_over and not diary.has_begun:
            return  # given up before it began, or done by a node that lost its disk
        running = self._tasks.create_task(self._carry_out(key, task, diary), name=task.name)
        self._running[task.uid] = running
        running.add_done_callback(lambda _: self._running.pop(task.uid, None))

    async def _carry_out(self, key: ObjectKey, task: Task, diary: Diary) -> None:
        log.info("task_begins", task=task.name, job=task.job, again=diary.has_begun)
        try:
            match task.work:
                case Pull() as pull:
                    diary.begin()
                    work = self._pulling.do(task, pull, diary)
                    await self._in_time(task, diary, work)
                case Update() as update:
                    async with self._one_at_a_time:
                        diary.begin()
                        await self._updating.do(task, update, diary)
                case Upgrade() as upgrade:
                    async with self._one_at_a_time:
                        diary.begin()
                        await self._upgrading.do(task, upgrade, diary)
        except OSError as exc:
            # its file cannot be written: what is not on the disk is not told either
            log.warning("task_waits", task=task.name, reason=str(exc))
            self._reporter.failed(key, self._known[key][0], f"the node's disk: {exc}")
        except Exception as exc:
            # a task that stumbles must not take the pods' keeper along, again at each start
            log.exception("task_failed", task=task.name)
            diary.end(f"edged stumbled over it: {exc!r}; its log has more")
        if diary.progress is not None:
            progress = diary.progress
            log.info("task_ends", task=task.name, phase=progress.phase, reason=progress.reason)

    async def _in_time(self, task: Task, diary: Diary, work: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(diary.left_of(task.timeout_seconds)):
                await work
        except TimeoutError:
            diary.end(f"it took more than {task.timeout_seconds} s (timeoutSeconds)")

    def _diary(self, key: ObjectKey, task: Task) -> Diary:
        def tell(progress: Progress) -> None:
            self._reporter.task_status(key, task.uid, progress.as_status())

        return Diary.opened(self._folder, task.uid, clock=self._clock, tell=tell)

    def _drop(self, task: Task) -> None:
        """Forget a task that is gone; one that fetches images stops, another ends what it began."""
        running = self._running.get(task.uid)
        key = ObjectKey(NODE_TASKS, "", task.name)
        if running is None:
            self._diary(key, task).forget()
            return
        if isinstance(task.work, Pull):
            running.cancel()
        running.add_done_callback(lambda _: self._diary(key, task).forget())
