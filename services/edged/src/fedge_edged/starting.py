"""How a pod's sandbox and containers are made and started.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

import fedge_tracing as tracing
from fedge_cri import (
    AlreadyThereError,
    ContainerSpec,
    ContainerState,
    NotFoundError,
    RefusedError,
    RuntimeFaultError,
    Sandbox,
    SandboxSpec,
    UnavailableError,
)
from fedge_cri import Container as Running
from fedge_edged.actions import action_of
from fedge_edged.context import PodContext
from fedge_edged.errors import ConfigError, ImageError, MountError, WaitError
from fedge_edged.plans import Plan
from fedge_edged.pods import Container, Pod
from fedge_edged.specs import must_not_be_root
from fedge_edged.statuses import RESOURCES, Waiting, resources_hash
from fedge_edged.stopping import Stopping
from fedge_tracing import names

log = structlog.stdlib.get_logger("fedge.edged")

ARRIVAL_SECONDS = 2.0
"""How long a pod waits in silence for the config maps and secrets that it names."""
HOOK_SECONDS = 24 * 3600.0
"""How long the hook after a start may take: there is no bound to it but that the pod may end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What the containers of one round have in common."""

    pod: Pod
    sandbox: SandboxSpec
    volumes: Mapping[str, Path]
    facts: Mapping[str, str]
    images: Mapping[str, str]


class Starting:
    """Starts the containers of one pod."""

    def __init__(self, context: PodContext, stopping: Stopping) -> None:
        self._context = context
        self._stopping = stopping

    async def start(self, pod: Pod, plan: Plan) -> None:
        """Start what the plan says; what fails does not keep the others from it.

        Raises:
            WaitError, RuntimeFaultError: one of what failed.
        """
        context = self._context
        volumes = await self.volumes(pod)
        images: dict[str, str] = {}
        failure: WaitError | RuntimeFaultError | None = None
        for container in plan.start:
            # before the sandbox: a pod whose images cannot be had holds no address
            try:
                images[container.name] = await self._image(pod, container)
            except ImageError as exc:
                failure = exc
        todo: deque[Container | Running] = deque(plan.resume)
        todo += [each for each in plan.start if each.name in images]
        while todo:
            async with context.tools.starts:
                sandbox = await self._sandbox(pod)
                made = _Made(
                    pod=pod, sandbox=sandbox, volumes=volumes, facts=self.facts(), images=images
                )
                started: Running | None = None
                while todo and not _has_hook(pod, started):
                    try:
                        started = await self._start_one(made, todo.popleft())
                    except (WaitError, RefusedError) as exc:
                        failure = exc  # the pod's other containers may well start
            # others need not wait for the hook
            await self._post_start(pod, started)
        if failure is not None:
            raise failure

    def facts(self) -> dict[str, str]:
        """Return the values of the field paths that only the node knows."""
        context = self._context
        host_ip = context.tools.host_ip
        uses_host = context.pod is not None and context.pod.spec.host_network
        ips = (host_ip,) if uses_host else context.observed.ips
        return {
            "status.hostIP": host_ip,
            "status.hostIPs": host_ip,
            "status.podIP": ips[0] if ips else "",
            "status.podIPs": ",".join(ips),
        }

    async def volumes(self, pod: Pod) -> Mapping[str, Path]:
        """Make the pod's volumes, or bring them up to date.

        Raises:
            MountError: one of them cannot be made for now.
        """
        context = self._context
        try:
            with tracing.span("prepare volumes"):
                return await asyncio.to_thread(context.tools.volumes.prepare, pod, self.facts())
        except MountError as exc:
            if not self._may_be_arriving():
                context.event("Warning", "FailedMount", "", str(exc))
            raise

    def _may_be_arriving(self) -> bool:
        """Whether what the pod refers to may still be on its way, as it travels beside the pod."""
        context = self._context
        return context.tools.clock.now() - context.started_at < ARRIVAL_SECONDS

    async def _image(self, pod: Pod, container: Container) -> str:
        try:
            with tracing.span(
                "ensure image",
                attributes={
                    names.CONTAINER_IMAGE_NAME: container.image,
                    names.K8S_CONTAINER_NAME: container.name,
                },
            ):
                return await self._context.tools.images.ensure(pod, container)
        except ImageError as exc:
            self._context.waiting[container.name] = Waiting(exc.reason, str(exc))
            raise

    async def _sandbox(self, pod: Pod) -> SandboxSpec:
        """Make a sandbox, if there is none that works; return what it was made of."""
        context = self._context
        tools, observed = context.tools, context.observed
        newest = observed.newest_sandbox
        if newest is not None and newest.is_ready:
            return self._sandbox_spec(pod, newest.attempt)
        try:
            spec = self._sandbox_spec(pod, newest.attempt + 1 if newest else 0)
            await asyncio.to_thread(tools.specs.cgroups.prepare, pod)
            sandbox_id = await tools.runtime.run_sandbox(spec)
        except (ConfigError, RuntimeFaultError) as exc:
            context.event(
                "Warning", "FailedCreatePodSandBox", "", f"Failed to create pod sandbox: {exc}"
            )
            context.must_look = True
            raise
        observed.ips = ()
        observed.sandboxes[sandbox_id] = _sandbox_of(sandbox_id, spec)
        if not pod.spec.host_network:
            observed.ips = tuple(await tools.runtime.sandbox_ips(sandbox_id))
        return spec

    def _sandbox_spec(self, pod: Pod, attempt: int) -> SandboxSpec:
        context = self._context
        return context.tools.specs.sandbox(pod, attempt, taken_up_at=context.taken_up_at)

    async def _start_one(self, made: _Made, what: Container | Running) -> Running:
        """Start a container, making it first if it is not made yet."""
        if isinstance(what, Running):
            await self._run(made.pod, what)
            return what
        context = self._context
        observed = context.observed
        newest, sandbox = observed.newest(what.name), observed.newest_sandbox
        if sandbox is None:
            raise NotFoundError("the sandbox is gone")
        attempt = newest.attempt + 1 if newest else 0
        try:
            spec = await self._spec_of(made, what, attempt)
            container_id = await context.tools.runtime.create_container(
                sandbox.id, spec, made.sandbox
            )
        except (WaitError, RuntimeFaultError) as exc:
            reason = exc.reason if isinstance(exc, WaitError) else "CreateContainerError"
            self._failed(what.name, reason, exc)
            raise
        if newest is not None and newest.sandbox_id == sandbox.id:
            context.backoff.retried(what.name, context.tools.clock.now())
        created = Running(
            id=container_id,
            sandbox_id=sandbox.id,
            name=what.name,
            attempt=attempt,
            image=spec.image,
            image_ref=made.images[what.name],
            state=ContainerState.CREATED,
            created_at=0,
            labels=spec.labels,
            annotations=spec.annotations,
        )
        observed.containers[container_id] = created
        context.event("Normal", "Created", what.name, f"Created container: {what.name}")
        await self._run(made.pod, created)
        return created

    async def _spec_of(self, made: _Made, container: Container, attempt: int) -> ContainerSpec:
        await self._check_user(made.pod, container, made.images[container.name])
        spec = self._context.tools.specs.container(
            made.pod,
            container,
            attempt,
            image=made.images[container.name],
            volumes=made.volumes,
            facts=made.facts,
        )
        target = ""
        if container.target_container_name:
            aimed = self._context.observed.newest(container.target_container_name)
            if aimed is None or aimed.state is not ContainerState.RUNNING:
                raise ConfigError(
                    f'unable to find target container "{container.target_container_name}"'
                )
            target = aimed.id
        return replace(
            spec,
            target_container_id=target,
            annotations={**spec.annotations, RESOURCES: resources_hash(container)},
        )

    async def _run(self, pod: Pod, created: Running) -> None:
        context = self._context
        try:
            await context.tools.runtime.start_container(created.id)
        except RuntimeFaultError as exc:
            context.must_look = True
            self._failed(created.name, "RunContainerError", exc)
            raise
        context.started_here.add(created.id)
        context.waiting.pop(created.name, None)
        await context.look_at(created.id)
        name = created.name
        context.event("Normal", "Started", name, f"Started container {name}")
        log.info("container_started", pod=str(pod.key), container=name, attempt=created.attempt)

    async def _post_start(self, pod: Pod, started: Running | None) -> None:
        """Do what is asked for right after the start; a container whose hook fails is ended.

        https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
        """
        container = pod.find_container(started.name) if started is not None else None
        hook = container.lifecycle.post_start if container is not None else None
        action = action_of(hook) if hook is not None else None
        if started is None or container is None or action is None:
            return
        context = self._context
        with tracing.span(
            "run hook after start", attributes={names.K8S_CONTAINER_NAME: container.name}
        ):
            outcome = await context.tools.actions.run(
                action, context.target(started, container), timeout_seconds=HOOK_SECONDS
            )
        if outcome.is_good:
            return
        name = container.name
        context.event(
            "Warning", "FailedPostStartHook", name, f"PostStartHook failed: {outcome.text}"
        )
        running = context.observed.containers.get(started.id)
        if running is not None and running.state is ContainerState.RUNNING:
            await self._stopping.stop(
                running, "FailedPostStartHook", grace_seconds=pod.grace_seconds
            )

    async def _check_user(self, pod: Pod, container: Container, image: str) -> None:
        """Make sure that a container that must not run as root does not.

        https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
        """
        if not must_not_be_root(pod, container):
            return
        own, shared = container.security_context.run_as_user, pod.spec.security_context
        user = shared.run_as_user if own is None else own
        name = ""
        if user is None:
            found = await self._context.tools.runtime.find_image(image)
            user, name = (found.uid, found.username) if found else (None, "")
        where = f'(pod: "{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})", '
        where += f"container: {container.name})"
        if user is None and name:
            raise ConfigError(
                f"container has runAsNonRoot and image has non-numeric user ({name}), "
                f"cannot verify user is non-root {where}"
            )
        if not user:
            raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")

    def _failed(self, name: str, reason: str, exc: Exception) -> None:
        arriving = isinstance(exc, ConfigError) and self._may_be_arriving()
        if not arriving and not isinstance(exc, UnavailableError | AlreadyThereError):
            self._context.waiting[name] = Waiting(reason, str(exc))
            self._context.event("Warning", "Failed", name, f"Error: {exc}")


def _has_hook(pod: Pod, started: Running | None) -> bool:
    container = pod.find_container(started.name) if started is not None else None
    return container is not None and container.lifecycle.post_start is not None


def _sandbox_of(sandbox_id: str, spec: SandboxSpec) -> Sandbox:
    """Return a sandbox that was just made of ``spec``, as a list would show it."""
    return Sandbox(
        id=sandbox_id,
        name=spec.name,
        namespace=spec.namespace,
        uid=spec.uid,
        attempt=spec.attempt,
        is_ready=True,
        created_at=0,
        labels=spec.labels,
        annotations=spec.annotations,
    )
