"""What has to be done next for a pod. Pure.

https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#detailed-behavior
"""

from dataclasses import dataclass, field

from fedge_cri import Container as Running
from fedge_cri import ContainerState
from fedge_edged.observed import Observed
from fedge_edged.pods import Container, Pod
from fedge_edged.restarts import Backoff, should_restart
from fedge_edged.specs import HASH, spec_hash
from fedge_edged.statuses import Waiting


@dataclass(slots=True)
class Plan:
    """The next steps.

    Attributes:
        start: containers to make and start, in order.
        resume: made already but never started.
        stop: running containers that are not what the pod wants any more.
        waiting: containers that must wait, and why.
        wake_in: seconds until one of them may go on.
        is_over: everything has ended and nothing will start again.
    """

    start: list[Container] = field(default_factory=list)
    resume: list[Running] = field(default_factory=list)
    stop: list[Running] = field(default_factory=list)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    wake_in: float | None = None
    is_over: bool = False


def make_plan(pod: Pod, observed: Observed, backoff: Backoff, now: float) -> Plan:
    """Return what to do now."""
    plan = Plan()
    if all(_has_ended(pod, container, observed) for container in pod.spec.containers):
        plan.is_over = True
        return plan
    if _inits_are_done(pod, observed, backoff, now, plan) and not plan.is_over:
        for container in pod.spec.containers:
            _main(pod, container, observed, backoff, now, plan)
    return plan


def _has_ended(pod: Pod, container: Container, observed: Observed) -> bool:
    """Whether a container has ended and will not run again."""
    newest = observed.newest(container.name)
    if newest is None or newest.state is not ContainerState.EXITED:
        return False
    return not should_restart(pod.spec.restart_policy, observed.statuses[newest.id].exit_code)


def _inits_are_done(pod: Pod, observed: Observed, backoff: Backoff, now: float, plan: Plan) -> bool:
    """Whether the main containers may run; if not, the plan says what the init containers need."""
    current = _current(observed)
    mains = {container.name for container in pod.spec.containers}
    if current and any(
        each.sandbox_id == current and each.name in mains for each in observed.containers.values()
    ):
        return True
    for container in pod.spec.init_containers:
        newest = observed.newest(container.name)
        if newest is None or newest.sandbox_id != current:
            plan.start.append(container)
            return False
        if newest.state is ContainerState.CREATED:
            plan.resume.append(newest)
            return False
        if newest.state is not ContainerState.EXITED:
            return False
        code = observed.statuses[newest.id].exit_code
        if code == 0:
            continue
        if pod.spec.restart_policy == "Never":
            plan.is_over = True
            return True
        _restart(pod, container, newest, observed, backoff, now, plan)
        return False
    return True


def _main(
    pod: Pod, container: Container, observed: Observed, backoff: Backoff, now: float, plan: Plan
) -> None:
    """Plan for one container."""
    newest = observed.newest(container.name)
    current = newest is not None and newest.sandbox_id == _current(observed)
    if newest is None:
        plan.start.append(container)
    elif newest.state is ContainerState.CREATED:
        if current:
            plan.resume.append(newest)
        else:
            plan.start.append(container)
    elif newest.state is not ContainerState.EXITED:
        unknown = newest.state is ContainerState.UNKNOWN
        if unknown or newest.annotations.get(HASH) != spec_hash(container):
            plan.stop.append(newest)
    elif _has_ended(pod, container, observed):
        return
    elif current:
        _restart(pod, container, newest, observed, backoff, now, plan)
    else:
        # its sandbox is gone, as after a reboot: no fault of the container
        plan.start.append(container)


def _restart(
    pod: Pod,
    container: Container,
    newest: Running,
    observed: Observed,
    backoff: Backoff,
    now: float,
    plan: Plan,
) -> None:
    failed_at = observed.statuses[newest.id].finished_at / 1e9
    remaining = backoff.remaining(container.name, failed_at=failed_at, now=now)
    if not remaining:
        plan.start.append(container)
        return
    meta = pod.metadata
    plan.waiting[container.name] = Waiting(
        "CrashLoopBackOff",
        f"back-off {_minutes(backoff.seconds(container.name))} restarting failed "
        f"container={container.name} pod={meta.name}_{meta.namespace}({meta.uid})",
    )
    plan.wake_in = min(remaining, plan.wake_in or remaining)


def _current(observed: Observed) -> str | None:
    sandbox = observed.newest_sandbox
    return sandbox.id if sandbox is not None and sandbox.is_ready else None


def _minutes(seconds: float) -> str:
    """Return a wait as Go prints it: 10s, 1m20s, 5m0s."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
