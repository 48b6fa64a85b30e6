"""Ends the pods in good order before the machine goes down.

Who takes the machine down asks for it with the signal SIGPWR: first the ordinary pods end, then the
critical ones. As with the kubelet, a pod that is ended so has failed for good, and its controller
makes another; only pods from files of the node come back by themselves.

https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from fedge_edged.importance import is_critical
from fedge_edged.verdicts import Verdict
from fedge_edged.worker import PodWorker

log = structlog.stdlib.get_logger("fedge.edged")

TERMINATED = Verdict(
    reason="Terminated",
    message="Pod was terminated in response to imminent node shutdown.",
    disrupts=True,
)
LOOK_SECONDS = 0.2
"""How often it is looked whether the pods have ended, while the machine waits for it."""


class Shutdown:
    """The end of all pods, when it is asked for."""

    def __init__(
        self,
        *,
        workers: Callable[[], Iterable[PodWorker]],
        begun: Callable[[], None],
        seconds: float,
        critical_seconds: float,
    ) -> None:
        """Prepare.

        Args:
            workers: the pods' owners.
            begun: called first; from then on the node is not ready and takes no pods.
            seconds: how long all of it may take.
            critical_seconds: the part of it that is kept for critical pods.
        """
        self._workers = workers
        self._begun = begun
        self._seconds = seconds
        self._critical_seconds = critical_seconds
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have it begin."""
        self._asked.set()

    async def run(self) -> None:
        """End the pods as soon as it is asked for."""
        await self._asked.wait()
        log.warning("node_shutting_down", seconds=self._seconds)
        self._begun()
        await self._end(critical=False, seconds=self._seconds - self._critical_seconds)
        await self._end(critical=True, seconds=self._critical_seconds)
        log.warning("node_shut_down")

    async def _end(self, *, critical: bool, seconds: float) -> None:
        """End the pods of one sort, at most for so long."""
        ending = []
        for worker in self._workers():
            pod = worker.pod
            if pod is None or pod.has_ended or is_critical(pod) is not critical:
                continue
            if worker.status is not None and worker.status["phase"] in {"Succeeded", "Failed"}:
                continue
            ending.append(worker)
            if not pod.is_deleted:
                worker.finish(TERMINATED, grace_seconds=int(min(pod.grace_seconds, seconds)))
        log.info("pods_ending", count=len(ending), critical=critical, seconds=seconds)
        deadline = asyncio.get_running_loop().time() + seconds
        while any(each.observed.running() for each in ending):
            if asyncio.get_running_loop().time() >= deadline:
                left = [each.uid for each in ending if each.observed.running()]
                log.warning("pods_still_run", uids=left)
                return
            await asyncio.sleep(LOOK_SECONDS)
