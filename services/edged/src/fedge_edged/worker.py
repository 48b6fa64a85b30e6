"""One pod, brought from what the runtime has to what the pod should be.

Level-triggered: each round looks at the newest pod and at what the runtime has, does what is
missing and says how it went. A round may be cut anywhere: names and attempts make the runtime
refuse a second copy, and the next round begins by looking.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from fedge_cri import (
    AlreadyThereError,
    ContainerState,
    NotFoundError,
    RefusedError,
    Runtime,
    RuntimeFaultError,
    Sandbox,
    SandboxSpec,
    UnavailableError,
)
from fedge_cri import Container as Running
from fedge_edged.errors import ConfigError, ImageError, MountError, WaitError
from fedge_edged.images import Images
from fedge_edged.observed import Observed
from fedge_edged.plans import Plan, make_plan
from fedge_edged.pods import Container, Pod
from fedge_edged.ports import Clock, Reporter
from fedge_edged.restarts import Backoff
from fedge_edged.specs import POD_UID, Specs, must_not_be_root
from fedge_edged.statuses import Situation, Waiting, compute
from fedge_edged.volumes import Volumes
from fedge_objects import JsonObject

log = structlog.stdlib.get_logger("fedge.edged")

RETRY_FIRST_SECONDS = 1.0
RETRY_MOST_SECONDS = 60.0
SHOW_WAITING_AFTER_SECONDS = 2.0
"""A pod that starts at once is reported once, when it runs."""
ORPHAN_GRACE_SECONDS = 2
ARRIVAL_SECONDS = 2.0
"""How long a pod waits in silence for the config maps and secrets that it names."""
SETTLE_FIRST_SECONDS = 0.005
SETTLE_TRIES = 9
"""After the end of a container was told, the runtime takes some 50 ms to list it so; from 5 ms
doubling, nine looks span two and a half seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all workers of a node share."""

    runtime: Runtime
    specs: Specs
    volumes: Volumes
    images: Images
    reporter: Reporter
    clock: Clock
    starts: asyncio.Semaphore
    host_ip: str
    runtime_name: str = "containerd"


class PodWorker:
    """The owner of one pod's containers. Nothing else touches them."""

    def __init__(self, uid: str, tools: Tools, *, is_new: bool = False) -> None:
        """Prepare; ``is_new``: the runtime is known to have nothing of this pod."""
        self.uid = uid
        self.observed = Observed()
        self.is_over = False
        """All is gone and nothing is wanted."""
        self._tools = tools
        self._pod: Pod | None = None
        self._wake = asyncio.Event()
        self._is_gone = False
        self._must_look = not is_new
        self._volumes_are_old = False
        self._unsettled = 0
        self._backoff = Backoff()
        self._waiting: dict[str, Waiting] = {}
        self._status: JsonObject | None = None
        self._started_at = tools.clock.now()
        self._retries = 0
        self._round: asyncio.Task[float | None] | None = None

    @property
    def pod(self) -> Pod | None:
        """The pod as last wanted."""
        return self._pod

    @property
    def status(self) -> JsonObject | None:
        """The status as last computed."""
        return self._status

    def want(self, pod: Pod | None) -> None:
        """Take the newest pod; None: it is gone from the cluster."""
        was_ending, grace = self._is_ending, self._grace_seconds
        if pod is None:
            self._is_gone = True
        else:
            self._pod = pod
        sooner = not was_ending or self._grace_seconds < grace
        if self._is_ending and sooner and self._round is not None:
            self._round.cancel()  # whatever it waits for is not wanted any more
        self.wake()

    @property
    def _grace_seconds(self) -> int:
        return self._pod.grace_seconds if self._pod is not None else ORPHAN_GRACE_SECONDS

    @property
    def _is_ending(self) -> bool:
        return self._is_gone or (self._pod is not None and self._pod.is_deleted)

    def wake(self, *, stale: str | None = None) -> None:
        """Have a look soon; ``stale`` is a container or sandbox that something happened to."""
        if stale is not None:
            self.observed.stale.add(stale)
        self._wake.set()

    def look_again(self) -> None:
        """Have a look soon at everything that the runtime has of the pod."""
        self._must_look = True
        self._wake.set()

    def volumes_changed(self) -> None:
        """Have a look soon: an object that the pod mounts has changed."""
        self._volumes_are_old = True
        self._wake.set()

    @property
    def is_gone(self) -> bool:
        """Whether the pod is gone from the cluster."""
        return self._is_gone

    def report_again(self) -> None:
        """Report the status although it is the same."""
        if self._pod is not None and self._status is not None:
            finished = self.is_over and self._pod.is_deleted
            self._tools.reporter.pod_status(self._pod, self._status, finished=finished)

    async def run(self) -> None:
        """Work until everything is gone."""
        wait: float | None = 0.0
        while not self.is_over:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            self._wake.clear()
            self._round = asyncio.create_task(self._one_round(), name=f"pod {self.uid}")
            try:
                done, _ = await asyncio.wait({self._round}, timeout=SHOW_WAITING_AFTER_SECONDS)
                if not done:
                    self._say_safely()
                    await asyncio.wait({self._round})
            except asyncio.CancelledError:
                self._round.cancel()
                await asyncio.wait({self._round})
                raise
            if self._round.cancelled():
                self._must_look = True
                wait = 0.0
            else:
                wait = self._round.result()
            self._round = None

    async def _one_round(self) -> float | None:
        """Do what can be done now; return after how many seconds to look again."""
        try:
            await self._look()
            if self._is_ending:
                await self._end()
                return None
            if self._pod is None:
                return None
            wait = await self._bring_up(self._pod)
        except UnavailableError as exc:
            log.info("runtime_away", pod=self._name, reason=str(exc))
            self._must_look = True
            return self._retry_in()
        except (AlreadyThereError, NotFoundError) as exc:
            # not what we believed: look again
            log.info("runtime_differs", pod=self._name, reason=str(exc))
            self._must_look = True
            return self._retry_in()
        except (WaitError, RuntimeFaultError) as exc:
            log.warning("pod_waits", pod=self._name, reason=str(exc))
            self._say_safely()
            return self._retry_in()
        except Exception:
            log.exception("pod_failed", pod=self._name)
            self._must_look = True
            return self._retry_in()
        self._retries = 0
        if self.observed.stale:
            soon = SETTLE_FIRST_SECONDS * 2.0**self._unsettled
            return soon if wait is None else min(wait, soon)
        return wait

    @property
    def _name(self) -> str:
        return str(self._pod.key) if self._pod else self.uid

    def _retry_in(self) -> float:
        self._retries += 1
        wait: float = min(RETRY_FIRST_SECONDS * 2.0 ** (self._retries - 1), RETRY_MOST_SECONDS)
        return wait

    async def _look(self) -> None:
        """Bring the view of the runtime up to date, as far as anything may have changed."""
        runtime, observed = self._tools.runtime, self.observed
        stale = set(observed.stale)
        if self._must_look or stale & observed.sandboxes.keys():
            sandboxes = await runtime.list_sandboxes()
            containers = await runtime.list_containers()
            observed.replace(
                [each for each in sandboxes if each.uid == self.uid],
                [each for each in containers if each.labels.get(POD_UID) == self.uid],
            )
            self._must_look = False
        for container_id in (stale & observed.containers.keys()) | {
            each.id
            for each in observed.containers.values()
            if each.id not in observed.statuses and each.state is not ContainerState.CREATED
        }:
            await self._look_at(container_id)
        self._settle(stale)
        sandbox = observed.newest_sandbox
        if sandbox is not None and sandbox.is_ready and not observed.ips:
            observed.ips = tuple(await runtime.sandbox_ips(sandbox.id))

    def _settle(self, stale: set[str]) -> None:
        """Keep as stale what is said to have ended and does not show it yet."""
        observed = self.observed
        alive = {each.id for each in observed.running()} | {
            each.id for each in observed.sandboxes.values() if each.is_ready
        }
        self._unsettled = self._unsettled + 1 if stale & alive else 0
        if self._unsettled > SETTLE_TRIES:
            self._unsettled = 0
            alive = set()
        observed.stale = (observed.stale - stale) | (stale & alive)

    async def _look_at(self, container_id: str) -> None:
        try:
            status = await self._tools.runtime.container_status(container_id)
        except NotFoundError:
            self.observed.containers.pop(container_id, None)
            self.observed.statuses.pop(container_id, None)
            return
        self.observed.statuses[container_id] = status
        known = self.observed.containers[container_id]
        self.observed.containers[container_id] = replace(known, state=status.state)

    async def _bring_up(self, pod: Pod) -> float | None:
        if pod.has_ended and not self.observed.containers:
            return None  # the runtime has lost it; it is not to run again
        plan = make_plan(pod, self.observed, self._backoff, self._tools.clock.now())
        self._waiting = dict(plan.waiting)
        for container in plan.stop:
            self._event(
                pod,
                "Normal",
                "Killing",
                container.name,
                f"Container {container.name} definition changed, will be restarted",
            )
            await self._tools.runtime.stop_container(container.id, grace_seconds=pod.grace_seconds)
            await self._look_at(container.id)
        if plan.stop:
            return 0.0
        if plan.is_over:
            await self._stop_sandboxes()
        elif not plan.start and self._volumes_are_old:
            await self._volumes(pod, self._facts())
            self._volumes_are_old = False
        if plan.start or plan.resume:
            await self._start_all(pod, plan)
            again = make_plan(pod, self.observed, self._backoff, self._tools.clock.now())
            if again.start or again.resume or again.stop:
                return 0.0
        self._say()
        await self._forget_old_attempts()
        return plan.wake_in

    async def _start_all(self, pod: Pod, plan: Plan) -> None:
        facts = self._facts()
        volumes = await self._volumes(pod, facts)
        self._volumes_are_old = False
        images: dict[str, str] = {}
        failure: WaitError | RuntimeFaultError | None = None
        for container in plan.start:
            # before the sandbox: a pod whose images cannot be had holds no address
            try:
                images[container.name] = await self._image(pod, container)
            except ImageError as exc:
                failure = exc
        if images or plan.resume:
            async with self._tools.starts:
                spec = await self._sandbox(pod)
                facts = self._facts()
                for made in plan.resume:
                    await self._tools.runtime.start_container(made.id)
                    await self._look_at(made.id)
                for container in plan.start:
                    if container.name not in images:
                        continue
                    image = images[container.name]
                    try:
                        await self._start(pod, container, spec, image, volumes=volumes, facts=facts)
                    except (WaitError, RefusedError) as exc:
                        failure = exc  # the pod's other containers may well start
        if failure is not None:
            raise failure

    def _facts(self) -> dict[str, str]:
        """Return the values of the field paths that only the node knows."""
        host_ip = self._tools.host_ip
        uses_host = self._pod is not None and self._pod.spec.host_network
        ips = (host_ip,) if uses_host else self.observed.ips
        return {
            "status.hostIP": host_ip,
            "status.hostIPs": host_ip,
            "status.podIP": ips[0] if ips else "",
            "status.podIPs": ",".join(ips),
        }

    async def _volumes(self, pod: Pod, facts: Mapping[str, str]) -> Mapping[str, Path]:
        try:
            return await asyncio.to_thread(self._tools.volumes.prepare, pod, facts)
        except MountError as exc:
            if not self._may_be_arriving():
                self._event(pod, "Warning", "FailedMount", "", str(exc))
            raise

    def _may_be_arriving(self) -> bool:
        """Whether what the pod refers to may still be on its way, as it travels beside the pod."""
        return self._tools.clock.now() - self._started_at < ARRIVAL_SECONDS

    async def _image(self, pod: Pod, container: Container) -> str:
        try:
            return await self._tools.images.ensure(pod, container)
        except ImageError as exc:
            self._waiting[container.name] = Waiting(exc.reason, str(exc))
            raise

    async def _sandbox(self, pod: Pod) -> SandboxSpec:
        """Make a sandbox, if there is none that works; return what it was made of."""
        newest = self.observed.newest_sandbox
        if newest is not None and newest.is_ready:
            return self._tools.specs.sandbox(pod, newest.attempt)
        spec = self._tools.specs.sandbox(pod, newest.attempt + 1 if newest else 0)
        try:
            sandbox_id = await self._tools.runtime.run_sandbox(spec)
        except RuntimeFaultError as exc:
            self._event(
                pod, "Warning", "FailedCreatePodSandBox", "", f"Failed to create pod sandbox: {exc}"
            )
            self._must_look = True
            raise
        self.observed.ips = ()
        self.observed.sandboxes[sandbox_id] = _sandbox_of(sandbox_id, spec)
        if not pod.spec.host_network:
            self.observed.ips = tuple(await self._tools.runtime.sandbox_ips(sandbox_id))
        return spec

    async def _start(
        self,
        pod: Pod,
        container: Container,
        sandbox_spec: SandboxSpec,
        image: str,
        *,
        volumes: Mapping[str, Path],
        facts: Mapping[str, str],
    ) -> None:
        runtime, observed = self._tools.runtime, self.observed
        newest, sandbox = observed.newest(container.name), observed.newest_sandbox
        if sandbox is None:
            raise NotFoundError("the sandbox is gone")
        attempt = newest.attempt + 1 if newest else 0
        try:
            await self._check_user(pod, container, image)
            spec = self._tools.specs.container(
                pod, container, attempt, image=image, volumes=volumes, facts=facts
            )
            container_id = await runtime.create_container(sandbox.id, spec, sandbox_spec)
        except (WaitError, RuntimeFaultError) as exc:
            reason = exc.reason if isinstance(exc, WaitError) else "CreateContainerError"
            self._failed(pod, container, reason, exc)
            raise
        if newest is not None and newest.sandbox_id == sandbox.id:
            self._backoff.retried(container.name, self._tools.clock.now())
        observed.containers[container_id] = Running(
            id=container_id,
            sandbox_id=sandbox.id,
            name=container.name,
            attempt=attempt,
            image=spec.image,
            image_ref=image,
            state=ContainerState.CREATED,
            created_at=0,
            labels=spec.labels,
            annotations=spec.annotations,
        )
        try:
            await runtime.start_container(container_id)
        except RuntimeFaultError as exc:
            self._must_look = True
            self._failed(pod, container, "RunContainerError", exc)
            raise
        await self._look_at(container_id)
        self._event(pod, "Normal", "Started", container.name, f"Started container {container.name}")
        log.info("container_started", pod=self._name, container=container.name, attempt=attempt)

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
            found = await self._tools.runtime.find_image(image)
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

    def _failed(self, pod: Pod, container: Container, reason: str, exc: Exception) -> None:
        arriving = isinstance(exc, ConfigError) and self._may_be_arriving()
        if not arriving and not isinstance(exc, UnavailableError | AlreadyThereError):
            self._waiting[container.name] = Waiting(reason, str(exc))
            self._event(pod, "Warning", "Failed", container.name, f"Error: {exc}")

    async def _forget_old_attempts(self) -> None:
        """Remove what ended, but the newest two of each name: they are shown, their logs read."""
        runtime, observed = self._tools.runtime, self.observed
        newest = observed.newest_sandbox
        for name in {each.name for each in observed.containers.values()}:
            for old in observed.attempts_of(name)[2:]:
                await runtime.remove_container(old.id)
                observed.containers.pop(old.id, None)
                observed.statuses.pop(old.id, None)
        used = {each.sandbox_id for each in observed.containers.values()}
        for sandbox in list(observed.sandboxes.values()):
            if newest is None or sandbox.id == newest.id or sandbox.is_ready:
                continue
            await runtime.stop_sandbox(sandbox.id)  # gives back its address
            if sandbox.id not in used:
                await runtime.remove_sandbox(sandbox.id)
                observed.sandboxes.pop(sandbox.id, None)

    async def _stop_sandboxes(self) -> None:
        for sandbox in list(self.observed.sandboxes.values()):
            if sandbox.is_ready:
                await self._tools.runtime.stop_sandbox(sandbox.id)
                self._must_look = True

    async def _end(self) -> None:
        """Stop and remove everything, then say so."""
        runtime, observed, pod = self._tools.runtime, self.observed, self._pod
        grace = self._grace_seconds
        running = observed.running()
        for each in running:
            if pod is not None:
                self._event(pod, "Normal", "Killing", each.name, f"Stopping container {each.name}")
        async with asyncio.TaskGroup() as tasks:
            for each in running:
                tasks.create_task(runtime.stop_container(each.id, grace_seconds=grace))
        for container_id in list(observed.containers):
            await self._look_at(container_id)
        self._say()
        for sandbox_id in list(observed.sandboxes):
            await runtime.stop_sandbox(sandbox_id)
            await runtime.remove_sandbox(sandbox_id)
        await asyncio.to_thread(self._tools.volumes.remove, self.uid)
        await asyncio.to_thread(self._tools.specs.remove_cgroup, self.uid)
        if pod is not None:
            meta = pod.metadata
            logs = self._tools.specs.log_folder(meta.namespace, meta.name, meta.uid)
            await asyncio.to_thread(shutil.rmtree, logs, ignore_errors=True)
        self.is_over = True
        log.info("pod_ended", pod=self._name)
        if pod is not None and not self._is_gone and self._status is not None:
            self._tools.reporter.pod_status(pod, self._status, finished=True)

    def _say(self) -> None:
        """Report the status if it changed."""
        pod = self._pod
        if pod is None or self._is_gone:
            return
        status = compute(
            pod,
            self.observed,
            Situation(
                host_ip=self._tools.host_ip,
                started_at=self._first_seen(),
                now=self._tools.clock.now(),
                waiting=self._waiting,
                previous=self._status,
                runtime=self._tools.runtime_name,
            ),
        )
        if status != self._status:
            self._status = status
            self._tools.reporter.pod_status(pod, status, finished=False)

    def _say_safely(self) -> None:
        """Report what is so far; a defect in that must not end the pod's owner."""
        try:
            self._say()
        except Exception:
            log.exception("status_failed", pod=self._name)

    def _first_seen(self) -> float:
        """Return when this node took the pod up, as far back as the runtime remembers."""
        made = [
            each.created_at / 1e9 for each in self.observed.sandboxes.values() if each.created_at
        ]
        return min([self._started_at, *made])

    def _event(self, pod: Pod, kind: str, reason: str, container: str, message: str) -> None:
        field = f"spec.containers{{{container}}}" if container else ""
        self._tools.reporter.event(pod, kind, reason, message, field=field)


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
