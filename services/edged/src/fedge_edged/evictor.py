"""Keeps the node from running out of memory, disk or processes.

Every 10 s it looks at what is left. If that is too little it first clears the disk of what nobody
uses, then ends one pod, and looks again. What each pod uses is asked only then: as long as all is
well, a look costs four small reads.

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog

from fedge_cri import ContainerState, ContainerStats, NotFoundError, Runtime, RuntimeFaultError
from fedge_edged import eviction
from fedge_edged.context import Tools
from fedge_edged.disk_usage import disk_usage
from fedge_edged.eviction import Usage
from fedge_edged.importance import is_critical
from fedge_edged.logs import remove_log
from fedge_edged.pods import Pod
from fedge_edged.pressure import Observations, Pressure, Shortage, Signal, observe
from fedge_edged.worker import PodWorker

log = structlog.stdlib.get_logger("fedge.edged")

LOOK_SECONDS = 10.0
LOOKS_PER_LIMITS = 6
"""Limits of disk space are looked at every minute, and only of pods that have one."""
VICTIM_SECONDS = 30.0
"""How long the next pod is spared while the last one still ends."""

Observe = Callable[[], Awaitable[Observations]]
FreeImages = Callable[[int], Awaitable[int]]


class Evictor:
    """Ends pods when the node is short of something, or when they take more than they may."""

    def __init__(
        self,
        *,
        workers: Callable[[], Iterable[PodWorker]],
        tools: Tools,
        pressure: Pressure,
        observe: Observe,
        free_images: FreeImages | None,
        pods_dir: Path,
        changed: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            workers: the pods' owners.
            tools: what all of them share.
            pressure: what the node is short of; kept up to date here.
            observe: tells what is left.
            free_images: removes images that nobody uses, at least as many bytes as it is told;
                None: they are left alone.
            pods_dir: where the pods' volumes on disk lie, each in a folder called by its uid.
            changed: called when the node's conditions have changed.
        """
        self._workers = workers
        self._tools = tools
        self._pressure = pressure
        self._observe = observe
        self._free_images = free_images
        self._pods_dir = pods_dir
        self._changed = changed
        self._victim: tuple[PodWorker, float] | None = None

    async def run(self) -> None:
        """Look after the node until cancelled."""
        looks = 0
        while True:
            try:
                await self.look()
                if looks % LOOKS_PER_LIMITS == 0:
                    await self.look_at_limits()
            except (RuntimeFaultError, OSError) as exc:
                log.warning("pressure_unknown", reason=str(exc))
            looks += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """See what is left, and make room if that is too little.

        Raises:
            RuntimeFaultError: the runtime did not answer.
            OSError: the kernel did not.
        """
        now = asyncio.get_running_loop().time()
        if self._pressure.update(await self._observe(), now):
            log.warning("node_conditions", holding=list(self._pressure.conditions))
            self._changed()
        for shortage in self._pressure.shortages[:1]:
            await self._relieve(shortage, now)

    async def _relieve(self, shortage: Shortage, now: float) -> None:
        signal = shortage.signal
        log.warning(
            "node_is_low",
            signal=str(signal),
            threshold=shortage.threshold,
            available=shortage.available,
        )
        if self._is_victim_ending(now):
            return
        if signal.condition == "DiskPressure":
            await self._clear_disk(shortage)
            if not self._pressure.is_short(signal, await self._observe()):
                return
        usages = await self._usages(signal)
        ranked = eviction.rank(usages, signal.resource)
        if not ranked:
            log.error("nothing_to_evict", signal=str(signal))
            return
        first = ranked[0]
        self._evict(first.pod, eviction.shortage_message(first, shortage), now)

    def _is_victim_ending(self, now: float) -> bool:
        if self._victim is None:
            return False
        worker, since = self._victim
        if worker.observed.running() and now - since < VICTIM_SECONDS:
            return True
        self._victim = None
        return False

    async def _clear_disk(self, shortage: Shortage) -> None:
        """Remove ended containers that nobody will look at, and images that nobody uses."""
        removed = 0
        for worker in self._workers():
            removed += await _remove_ended(self._tools, worker)
        freed = 0
        if self._free_images is not None:
            freed = await self._free_images(shortage.threshold - shortage.available)
        log.info("disk_cleared", containers=removed, image_bytes=freed)

    async def _usages(self, signal: Signal) -> list[Usage]:
        """Return what each pod uses of what is short."""
        stats = {each.id: each for each in await self._tools.runtime.list_container_stats()}
        return [
            await self._usage(worker, pod, stats, signal.resource)
            for worker, pod in self._running()
        ]

    async def _usage(
        self, worker: PodWorker, pod: Pod, stats: dict[str, ContainerStats], resource: str
    ) -> Usage:
        containers: dict[str, int] = {}
        for running in worker.observed.running():
            used = stats.get(running.id)
            if used is not None:
                containers[running.name] = _of(used, resource)
        if resource not in {eviction.STORAGE, "inodes"}:
            return Usage(pod=pod, containers=containers)
        meta = pod.metadata
        logs = self._tools.specs.log_folder(meta.namespace, meta.name, meta.uid)
        for name in containers:
            containers[name] += await self._below(logs / name, resource)
        volumes = await self._below(self._pods_dir / meta.uid, resource)
        return Usage(pod=pod, containers=containers, volumes=volumes)

    async def _below(self, folder: Path, resource: str) -> int:
        used = await asyncio.to_thread(disk_usage, folder)
        return used.inodes if resource == "inodes" else used.size_bytes

    async def look_at_limits(self) -> None:
        """End pods that have written more to the disk than they may.

        Raises:
            RuntimeFaultError: the runtime did not answer.
            OSError: a folder cannot be read.
        """
        now = asyncio.get_running_loop().time()
        stats: dict[str, ContainerStats] | None = None
        for worker, pod in self._running():
            if is_critical(pod):
                continue
            message = None
            if any(each.empty_dir and each.empty_dir.size_limit for each in pod.spec.volumes):
                message = await asyncio.to_thread(self._tools.volumes.over_limit, pod)
            if message is None and eviction.limits_storage(pod):
                if stats is None:
                    found = await self._tools.runtime.list_container_stats()
                    stats = {each.id: each for each in found}
                usage = await self._usage(worker, pod, stats, eviction.STORAGE)
                message = eviction.over_storage_limit(usage)
            if message is not None:
                self._evict(pod, message, now)

    def _running(self) -> list[tuple[PodWorker, Pod]]:
        return [
            (worker, worker.pod)
            for worker in self._workers()
            if worker.pod is not None
            and not worker.pod.is_deleted
            and worker.verdict is None
            and worker.observed.running()
        ]

    def _evict(self, pod: Pod, message: str, now: float) -> None:
        for worker, other in self._running():
            if other.metadata.uid == pod.metadata.uid:
                log.warning("pod_evicted", pod=str(pod.key), message=message)
                self._tools.reporter.event(pod, "Warning", eviction.EVICTED, message)
                worker.finish(eviction.verdict(message), grace_seconds=eviction.GRACE_SECONDS)
                self._victim = (worker, now)


def observing(runtime: Runtime, nodefs: Path) -> Observe:
    """Return what tells how much is left of the node's memory, processes and disks.

    The file system of the images is asked for until it is known.
    """
    imagefs: list[Path] = []

    async def look() -> Observations:
        if not imagefs:
            try:
                found = await runtime.image_filesystems()
            except RuntimeFaultError as exc:
                log.info("imagefs_unknown", reason=str(exc))
            else:
                imagefs.extend(Path(each.mountpoint) for each in found)
        return await asyncio.to_thread(observe, nodefs, imagefs[0] if imagefs else None)

    return look


def _of(stats: ContainerStats, resource: str) -> int:
    match resource:
        case "memory":
            return stats.memory_working_set_bytes
        case "ephemeral-storage":
            return stats.writable_layer_bytes
        case "inodes":
            return stats.writable_layer_inodes
        case _:
            return 0


async def _remove_ended(tools: Tools, worker: PodWorker) -> int:
    """Remove the ended containers of a pod.

    The newest of each name stays, for it counts the restarts; of a pod that was ended for good
    nothing does.
    """
    removed = 0
    observed = worker.observed
    kept = 0 if worker.verdict is not None and not observed.running() else 1
    for name in {each.name for each in observed.containers.values()}:
        for old in observed.attempts_of(name)[kept:]:
            if old.state is not ContainerState.EXITED:
                continue
            try:
                await tools.runtime.remove_container(old.id)
            except NotFoundError:
                continue  # its worker was faster
            if worker.pod is not None:
                log_path = tools.specs.log_path(worker.pod, old.name, old.attempt)
                await asyncio.to_thread(remove_log, log_path)
            removed += 1
    if removed:
        worker.look_again()
    return removed
