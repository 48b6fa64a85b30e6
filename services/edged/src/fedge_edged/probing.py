"""Probes of one pod's running containers: what they found, and who has to be restarted.

https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/

Each probe of a running container is a task. A result that changes something wakes the pod's worker,
which asks this module whether a container has started, is ready or has to be killed. Nothing is
kept on disk: a container that ran before edged did is probed at once.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from fedge_edged.actions import Actions, Outcome, Target, action_of
from fedge_edged.health import Health, Kill
from fedge_edged.pods import Container, Probe


class ProbeKind(StrEnum):
    """What a probe finds out."""

    STARTUP = "Startup"
    READINESS = "Readiness"
    LIVENESS = "Liveness"


Unhealthy = Callable[[Container, ProbeKind, str], None]
"""Hears of each failure of a probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A running container that may have probes.

    Attributes:
        target: the container.
        running_seconds: for how long it has been running.
        is_adopted: whether it ran before edged did.
    """

    target: Target
    running_seconds: float
    is_adopted: bool


@dataclass(slots=True)
class Count:
    """Consecutive results of one probe, and what follows of them. Pure.

    Attributes:
        probe: gives the thresholds.
        value: what holds now; None until something is known.
    """

    probe: Probe
    value: bool | None = None
    _run: int = 0
    _last: bool | None = None

    def add(self, is_good: bool) -> bool:
        """Take a result; return whether ``value`` changed."""
        self._run = self._run + 1 if is_good is self._last else 1
        self._last = is_good
        threshold = self.probe.success_threshold if is_good else self.probe.failure_threshold
        if self._run < threshold or self.value is is_good:
            return False
        self.value = is_good
        return True


@dataclass(slots=True)
class _State:
    """One container's results."""

    counts: dict[ProbeKind, Count]
    first_results: dict[ProbeKind, asyncio.Event] = field(default_factory=dict)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    kill: Kill | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Probing(Health):
    """The probes of one pod."""

    def __init__(self, *, actions: Actions, changed: Callable[[], None], said: Unhealthy) -> None:
        """Take who carries probes out, who is woken by a change, and who hears of failures."""
        self._actions = actions
        self._changed = changed
        self._said = said
        self._states: dict[str, _State] = {}

    def follow(self, running: Iterable[Probed]) -> None:
        """Probe these containers, and no others any more."""
        wanted = {each.target.container_id: each for each in running}
        for container_id in self._states.keys() - wanted.keys():
            self._forget(container_id)
        for container_id, each in wanted.items():
            if container_id not in self._states:
                self._begin(each)

    def stop(self) -> None:
        """Probe nothing any more."""
        self.follow(())

    def has_started(self, container_id: str, container: Container) -> bool:
        """Whether a running container counts as started."""
        return container.startup_probe is None or self._value(container_id, ProbeKind.STARTUP)

    def is_ready(self, container_id: str, container: Container) -> bool:
        """Whether a running container counts as ready."""
        if not self.has_started(container_id, container):
            return False
        return container.readiness_probe is None or self._value(container_id, ProbeKind.READINESS)

    def kill_of(self, container_id: str) -> Kill | None:
        """Return why a running container has to be ended, if it has to be."""
        state = self._states.get(container_id)
        return state.kill if state is not None else None

    async def first_results(self, *, at_most_seconds: float) -> None:
        """Wait until each container that ran before us was probed for readiness once.

        Else a pod that was ready all the time would be told as not ready after each restart.
        """
        waits = [
            event.wait()
            for state in self._states.values()
            for event in state.first_results.values()
        ]
        if waits:
            try:
                async with asyncio.timeout(at_most_seconds):
                    await asyncio.gather(*waits)
            except TimeoutError:
                return  # what is not known by then is told as not ready

    def _value(self, container_id: str, kind: ProbeKind) -> bool:
        state = self._states.get(container_id)
        return state is not None and bool(state.counts[kind].value)

    def _begin(self, probed: Probed) -> None:
        container = probed.target.container
        probes = {
            ProbeKind.STARTUP: container.startup_probe,
            ProbeKind.READINESS: container.readiness_probe,
            ProbeKind.LIVENESS: container.liveness_probe,
        }
        state = _State(
            counts={kind: Count(probe) for kind, probe in probes.items() if probe is not None}
        )
        if ProbeKind.STARTUP not in state.counts:
            state.started.set()
        self._states[probed.target.container_id] = state
        for kind, count in state.counts.items():
            delay = count.probe.initial_delay_seconds - probed.running_seconds
            if kind is ProbeKind.READINESS and probed.is_adopted:
                state.first_results[kind] = asyncio.Event()
            task = asyncio.create_task(
                self._probe(kind, probed.target, state, max(0.0, delay)),
                name=f"{kind} probe of {container.name}",
            )
            state.tasks.append(task)

    def _forget(self, container_id: str) -> None:
        for task in self._states.pop(container_id).tasks:
            task.cancel()

    async def _probe(
        self, kind: ProbeKind, target: Target, state: _State, delay_seconds: float
    ) -> None:
        count = state.counts[kind]
        action = action_of(count.probe)
        if action is None:
            self._said(target.container, kind, "missing probe handler")
            return
        await asyncio.sleep(delay_seconds)
        if kind is not ProbeKind.STARTUP:
            await state.started.wait()
        now = asyncio.get_running_loop().time
        while True:
            began = now()
            outcome = await self._actions.run(
                action, target, timeout_seconds=count.probe.timeout_seconds
            )
            self._take(kind, target, state, outcome)
            if kind in state.first_results:
                state.first_results.pop(kind).set()
            if state.kill is not None or (kind is ProbeKind.STARTUP and count.value):
                return
            await asyncio.sleep(max(0.0, began + count.probe.period_seconds - now()))

    def _take(self, kind: ProbeKind, target: Target, state: _State, outcome: Outcome) -> None:
        if outcome.is_good is None:
            return
        if not outcome.is_good:
            self._said(target.container, kind, outcome.text)
        count = state.counts[kind]
        if not count.add(outcome.is_good):
            return
        if kind is ProbeKind.STARTUP and count.value:
            state.started.set()
        if count.value is False and kind is not ProbeKind.READINESS:
            state.kill = Kill(
                message=f"Container {target.container.name} failed {kind.lower()} probe",
                grace_seconds=count.probe.termination_grace_period_seconds,
            )
        self._changed()
