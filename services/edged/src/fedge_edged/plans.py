"""What has to be done next for a pod. Pure.

https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#detailed-behavior
https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fedge_cri import Container as Running
from fedge_cri import ContainerState
from fedge_edged.health import HEALTHY, Health
from fedge_edged.observed import Observed
from fedge_edged.pods import Container, Pod
from fedge_edged.restarts import Backoff, should_restart
from fedge_edged.specs import HASH, spec_hash
from fedge_edged.statuses import Waiting

SIDECAR_POLICY = "Always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A running container to be ended, why, and how long it has (None: as long as its pod says)."""

    container: Running
    message: str
    grace_seconds: int | None = None


@dataclass(slots=True)
class Plan:
    """The next steps.

    Attributes:
        start: containers to make and start, in order.
        resume: made already but never started.
        stop: running containers that have to end, one after the other.
        waiting: containers that must wait, and why.
        wake_in: seconds until one of them may go on.
        is_over: everything has ended, or is in ``stop``, and nothing will start again.
    """

    start: list[Container] = field(default_factory=list)
    resume: list[Running] = field(default_factory=list)
    stop: list[Stop] = field(default_factory=list)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    wake_in: float | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class _View:
    """What is looked at."""

    pod: Pod
    observed: Observed
    backoff: Backoff
    now: float
    health: Health

    @property
    def current(self) -> str | None:
        """The sandbox in which containers run now."""
        sandbox = self.observed.newest_sandbox
        return sandbox.id if sandbox is not None and sandbox.is_ready else None

    def exit_code(self, container: Running) -> int:
        return self.observed.statuses[container.id].exit_code


def make_plan(
    pod: Pod, observed: Observed, backoff: Backoff, now: float, health: Health = HEALTHY
) -> Plan:
    """Return what to do now."""
    plan, view = Plan(), _View(pod, observed, backoff, now, health)
    if all(_has_ended(view, container) for container in pod.spec.containers):
        _finish(view, plan)
        return plan
    inits_are_done = _inits_are_done(view, plan)
    if plan.is_over:
        _finish(view, plan)
        return plan
    if inits_are_done:
        for container in pod.spec.containers:
            _keep(view, container, plan, policy=pod.spec.restart_policy)
    for container in pod.spec.ephemeral_containers:
        newest = observed.newest(container.name)
        if newest is None and view.current is not None:
            plan.start.append(container)
        elif newest is not None and newest.state is ContainerState.CREATED:
            plan.resume.append(newest)
    return plan


def _finish(view: _View, plan: Plan) -> None:
    """End what goes on beside the containers that have ended: sidecars, the last one first."""
    plan.is_over = True
    plan.start.clear()
    plan.resume.clear()
    plan.waiting.clear()
    running = {each.name: each for each in view.observed.running()}
    others = [*view.pod.spec.ephemeral_containers, *reversed(view.pod.spec.init_containers)]
    plan.stop = [
        Stop(container=running[each.name], message=f"Stopping container {each.name}")
        for each in others
        if each.name in running
    ]


def _has_ended(view: _View, container: Container) -> bool:
    """Whether a main container has ended and will not run again."""
    newest = view.observed.newest(container.name)
    if newest is None or newest.state is not ContainerState.EXITED:
        return False
    return not should_restart(view.pod.spec.restart_policy, view.exit_code(newest))


def _inits_are_done(view: _View, plan: Plan) -> bool:
    """Whether the main containers may run; if not, the plan says what the init containers need."""
    if _mains_have_begun(view):
        for container in _sidecars(view.pod):
            _keep(view, container, plan, policy=SIDECAR_POLICY)
        return True
    for container in view.pod.spec.init_containers:
        if container.is_sidecar:
            _keep(view, container, plan, policy=SIDECAR_POLICY)
            newest = view.observed.newest(container.name)
            if not (
                newest is not None
                and newest.state is ContainerState.RUNNING
                and view.health.has_started(newest.id, container)
            ):
                return False
        elif not _init_is_done(view, container, plan):
            return False
    return True


def _mains_have_begun(view: _View) -> bool:
    mains = {container.name for container in view.pod.spec.containers}
    return view.current is not None and any(
        each.sandbox_id == view.current and each.name in mains
        for each in view.observed.containers.values()
    )


def _sidecars(pod: Pod) -> Iterator[Container]:
    return (each for each in pod.spec.init_containers if each.is_sidecar)


def _init_is_done(view: _View, container: Container, plan: Plan) -> bool:
    newest = view.observed.newest(container.name)
    if newest is None or newest.sandbox_id != view.current:
        plan.start.append(container)
        return False
    if newest.state is ContainerState.CREATED:
        plan.resume.append(newest)
        return False
    if newest.state is not ContainerState.EXITED:
        return False
    if view.exit_code(newest) == 0:
        return True
    if view.pod.spec.restart_policy == "Never":
        plan.is_over = True
    else:
        _restart(view, container, newest, plan)
    return False


def _keep(view: _View, container: Container, plan: Plan, *, policy: str) -> None:
    """Plan for a container that is to run until it has ended for good."""
    newest = view.observed.newest(container.name)
    current = newest is not None and newest.sandbox_id == view.current
    if newest is None:
        plan.start.append(container)
    elif newest.state is ContainerState.CREATED:
        if current:
            plan.resume.append(newest)
        else:
            plan.start.append(container)
    elif newest.state is not ContainerState.EXITED:
        _check_running(view, container, newest, plan)
    elif not should_restart(policy, view.exit_code(newest)):
        return
    elif current:
        _restart(view, container, newest, plan)
    else:
        # its sandbox is gone, as after a reboot: no fault of the container
        plan.start.append(container)


def _check_running(view: _View, container: Container, newest: Running, plan: Plan) -> None:
    kill = view.health.kill_of(newest.id)
    if kill is not None:
        again = "" if view.pod.spec.restart_policy == "Never" else ", will be restarted"
        plan.stop.append(
            Stop(
                container=newest,
                message=f"{kill.message}{again}",
                grace_seconds=kill.grace_seconds,
            )
        )
    elif newest.state is ContainerState.UNKNOWN or newest.annotations.get(HASH) != spec_hash(
        container
    ):
        plan.stop.append(
            Stop(
                container=newest,
                message=f"Container {container.name} definition changed, will be restarted",
            )
        )


def _restart(view: _View, container: Container, newest: Running, plan: Plan) -> None:
    failed_at = view.observed.statuses[newest.id].finished_at / 1e9
    remaining = view.backoff.remaining(container.name, failed_at=failed_at, now=view.now)
    if not remaining:
        plan.start.append(container)
        return
    meta = view.pod.metadata
    plan.waiting[container.name] = Waiting(
        "CrashLoopBackOff",
        f"back-off {_minutes(view.backoff.seconds(container.name))} restarting failed "
        f"container={container.name} pod={meta.name}_{meta.namespace}({meta.uid})",
    )
    plan.wake_in = min(remaining, plan.wake_in or remaining)


def _minutes(seconds: float) -> str:
    """Return a wait as Go prints it: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
