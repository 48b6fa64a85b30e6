"""How a pod's containers are ended.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#differences-from-application-containers
"""

import asyncio

import structlog

from fedge_cri import Container as Running
from fedge_cri import ContainerState
from fedge_edged.actions import action_of
from fedge_edged.context import PodContext
from fedge_edged.pods import Container

log = structlog.stdlib.get_logger("fedge.edged")

LEAST_GRACE_SECONDS = 2
"""What a container has after its hook, or after the containers before it, used up the time."""


class Stopping:
    """Ends the containers of one pod."""

    def __init__(self, context: PodContext) -> None:
        self._context = context
        self._hooked: set[str] = set()

    async def stop(self, running: Running, message: str, *, grace_seconds: int) -> None:
        """End a container: its hook first, then its signal, then by force."""
        context = self._context
        context.event("Normal", "Killing", running.name, message)
        began = _now()
        container = context.pod.find_container(running.name) if context.pod is not None else None
        if container is not None and grace_seconds > 0 and running.id not in self._hooked:
            self._hooked.add(running.id)
            await self._pre_stop(running, container, grace_seconds)
        left = _left(grace_seconds, _now() - began)
        await context.tools.runtime.stop_container(running.id, grace_seconds=left)
        await context.look_at(running.id)

    async def stop_all(self, *, grace_seconds: int) -> None:
        """End everything: the containers side by side, then the sidecars, the last one first."""
        context = self._context
        began = _now()
        sidecars = self._sidecars()
        running = {each.id: each for each in context.observed.running()}
        async with asyncio.TaskGroup() as tasks:
            for each in running.values():
                if each.name not in sidecars:
                    tasks.create_task(
                        self.stop(
                            each, f"Stopping container {each.name}", grace_seconds=grace_seconds
                        )
                    )
        for name in reversed(sidecars):
            for each in running.values():
                if each.name == name:
                    left = _left(grace_seconds, _now() - began)
                    await self.stop(each, f"Stopping container {name}", grace_seconds=left)

    async def stop_sandboxes(self) -> None:
        """End the sandboxes that work; their records stay."""
        context = self._context
        for sandbox in list(context.observed.sandboxes.values()):
            if sandbox.is_ready:
                await context.tools.runtime.stop_sandbox(sandbox.id)
                context.must_look = True

    def _sidecars(self) -> list[str]:
        pod = self._context.pod
        if pod is None:
            return []
        return [each.name for each in pod.spec.init_containers if each.is_sidecar]

    async def _pre_stop(self, running: Running, container: Container, seconds: int) -> None:
        hook = container.lifecycle.pre_stop
        action = action_of(hook) if hook is not None else None
        if action is None or running.state is not ContainerState.RUNNING:
            return
        context = self._context
        target = context.target(running, container)
        outcome = await context.tools.actions.run(action, target, timeout_seconds=seconds)
        if not outcome.is_good:
            log.info("pre_stop_failed", pod=context.name, container=container.name)
            context.event(
                "Warning",
                "FailedPreStopHook",
                container.name,
                f"PreStopHook failed: {outcome.text}",
            )


def _now() -> float:
    return asyncio.get_running_loop().time()


def _left(grace_seconds: int, used_seconds: float) -> int:
    """Return what is left of a grace period; 0 stays 0: then nothing waits."""
    if grace_seconds <= 0:
        return 0
    return max(min(LEAST_GRACE_SECONDS, grace_seconds), round(grace_seconds - used_seconds))
