"""One pod, brought from what the runtime has to what the pod should be.

Level-triggered: each round looks at the newest pod and at what the runtime has, does what is
missing and says how it went. A round may be cut anywhere: names and attempts make the runtime
refuse a second copy, and the next round begins by looking.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator

import structlog

import fedge_tracing as tracing
from fedge_cri import AlreadyThereError, NotFoundError, RuntimeFaultError, UnavailableError
from fedge_cri import ContainerState as State
from fedge_edged.context import PodContext, Tools
from fedge_edged.errors import WaitError
from fedge_edged.logs import remove_log
from fedge_edged.observed import Observed
from fedge_edged.plans import Plan, make_plan
from fedge_edged.pod_traces import PodTrace
from fedge_edged.pods import Container, Pod
from fedge_edged.probing import ProbeKind, Probing
from fedge_edged.specs import POD_UID
from fedge_edged.starting import Starting
from fedge_edged.statuses import Situation, compute
from fedge_edged.stopping import Stopping
from fedge_edged.verdicts import Record, Verdict
from fedge_objects import JsonObject
from fedge_tracing import Cause

log = structlog.stdlib.get_logger("fedge.edged")

RETRY_FIRST_SECONDS = 1.0
RETRY_MOST_SECONDS = 60.0
SHOW_WAITING_AFTER_SECONDS = 2.0
"""A pod that starts at once is reported once, when it runs."""
ORPHAN_GRACE_SECONDS = 2
FIRST_PROBE_SECONDS = 2.0
"""How long the first status of a pod that ran before waits for its readiness probes."""
SETTLE_FIRST_SECONDS = 0.005
SETTLE_TRIES = 9
"""After the end of a container was told, the runtime takes some 50 ms to list it so; from 5 ms
doubling, nine looks span two and a half seconds."""
DEADLINE_EXCEEDED = Verdict(
    reason="DeadlineExceeded",
    message="Pod was active on the node longer than the specified deadline",
)


class PodWorker:
    """The owner of one pod's containers. Nothing else touches them."""

    def __init__(self, uid: str, tools: Tools, *, is_new: bool = False) -> None:
        """Prepare; ``is_new``: the runtime is known to have nothing of this pod."""
        self.uid = uid
        self.is_over = False
        """All is gone and nothing is wanted."""
        self._tools = tools
        self._wake = asyncio.Event()
        self._probing = Probing(
            actions=tools.actions, changed=self._wake.set, said=self._probe_failed
        )
        self._context = PodContext(
            uid=uid,
            tools=tools,
            probing=self._probing,
            must_look=not is_new,
            started_at=tools.clock.now(),
        )
        self._stopping = Stopping(self._context)
        self._starting = Starting(self._context, self._stopping)
        self._trace = PodTrace(is_new=is_new)
        self._active = tracing.current()
        self._is_gone = False
        self._volumes_are_old = False
        self._unsettled = 0
        self._status: JsonObject | None = None
        self._record: Record | None = None
        self._verdict: Verdict | None = None
        self._verdict_grace_seconds = 0
        self._backed_off: set[str] = set()
        self._retries = 0
        self._round: asyncio.Task[float | None] | None = None

    @property
    def pod(self) -> Pod | None:
        """The pod as last wanted."""
        return self._context.pod

    @property
    def observed(self) -> Observed:
        """What the runtime has of the pod."""
        return self._context.observed

    @property
    def status(self) -> JsonObject | None:
        """The status as last computed."""
        return self._status

    @property
    def verdict(self) -> Verdict | None:
        """What the node has decided about the pod for good."""
        return self._verdict

    def want(self, pod: Pod | None, cause: Cause | None = None) -> None:
        """Take the newest pod, and the trace it came with; no pod: it is gone from the cluster."""
        if cause is not None:
            self._trace.wanted(cause)
        was_ending, grace = self._is_ending, self._grace_seconds
        if pod is None:
            self._is_gone = True
        else:
            self._context.pod = pod
        sooner = not was_ending or self._grace_seconds < grace
        if self._is_ending and sooner:
            self._drop_round()
        self.wake()

    def finish(self, verdict: Verdict, *, grace_seconds: int) -> None:
        """End the pod for good, as the node has decided; the first verdict stands.

        It is on the disk before anything is ended or told.
        """
        if self._verdict is not None:
            return
        self._verdict, self._verdict_grace_seconds = verdict, grace_seconds
        self._drop_round()
        self.wake()

    def _drop_round(self) -> None:
        """Cut the round short: whatever it waits for is not wanted any more."""
        if self._round is not None:
            self._round.cancel()

    @property
    def _grace_seconds(self) -> int:
        return self.pod.grace_seconds if self.pod is not None else ORPHAN_GRACE_SECONDS

    @property
    def _is_ending(self) -> bool:
        return self._is_gone or (self.pod is not None and self.pod.is_deleted)

    def wake(self, *, stale: str | None = None) -> None:
        """Have a look soon; ``stale`` is a container or sandbox that something happened to."""
        if stale is not None:
            self.observed.stale.add(stale)
        self._wake.set()

    def look_again(self) -> None:
        """Have a look soon at everything that the runtime has of the pod."""
        self._context.must_look = True
        self._wake.set()

    def try_again_now(self) -> None:
        """Have a look at once if it waits to try again: what failed may work now."""
        if self._retries:
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
        if self.pod is not None and self._status is not None:
            finished = self.is_over and self.pod.is_deleted
            self._tools.reporter.pod_status(self.pod, self._status, finished=finished)

    async def run(self) -> None:
        """Work until everything is gone."""
        wait: float | None = 0.0
        try:
            while not self.is_over:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                self._wake.clear()
                wait = await self._watched_round()
        finally:
            self._probing.stop()

    async def _watched_round(self) -> float | None:
        """Do a round, and say how far it is if it takes long."""
        self._round = asyncio.create_task(self._one_round(), name=f"pod {self.uid}")
        try:
            done, _ = await asyncio.wait({self._round}, timeout=SHOW_WAITING_AFTER_SECONDS)
            if not done:
                with tracing.within(self._active):
                    self._say_safely()
                await asyncio.wait({self._round})
        except asyncio.CancelledError:
            self._round.cancel()
            await asyncio.wait({self._round})
            raise
        done_round, self._round = self._round, None
        if done_round.cancelled():
            self._context.must_look = True
            return 0.0
        return done_round.result()

    async def _one_round(self) -> float | None:
        """Do what can be done now; return after how many seconds to look again."""
        with self._trace.round(self.pod, self.uid) as self._active:
            wait = await self._traced_round()
        self._trace.look(self._status)
        return wait

    async def _traced_round(self) -> float | None:
        pod = self.pod
        try:
            await self._look()
            if self._is_ending:
                await self._end()
                return None
            if self.pod is None:
                return None
            wait = await self._go_on(self.pod)
        except UnavailableError as exc:
            self._failed("runtime_away", exc)
            self._context.must_look = True
            return self._retry_in()
        except (AlreadyThereError, NotFoundError) as exc:
            # not what we believed: look again
            self._failed("runtime_differs", exc)
            self._context.must_look = True
            return self._retry_in()
        except (WaitError, RuntimeFaultError, OSError) as exc:
            log.warning("pod_waits", pod=self._context.name, reason=str(exc))
            self._active.fail(str(exc), type(exc).__name__)
            self._say_safely()
            self._tell_effect(pod)
            return self._retry_in()
        except Exception as exc:
            log.exception("pod_failed", pod=self._context.name)
            self._active.fail(str(exc), type(exc).__name__)
            self._context.must_look = True
            return self._retry_in()
        self._retries = 0
        self._tell_effect(pod)
        if self.observed.stale:
            wait = _sooner(wait, SETTLE_FIRST_SECONDS * 2.0**self._unsettled)
        return wait

    def _failed(self, event: str, exc: Exception) -> None:
        log.info(event, pod=self._context.name, reason=str(exc))
        self._active.fail(str(exc), type(exc).__name__)

    def _tell_effect(self, pod: Pod | None) -> None:
        """Report what became of the pod that this round worked at."""
        if pod is not None and self._status is not None:
            self._tools.reporter.pod_effect(pod, self._status)

    def _retry_in(self) -> float:
        self._retries += 1
        wait: float = min(RETRY_FIRST_SECONDS * 2.0 ** (self._retries - 1), RETRY_MOST_SECONDS)
        return wait

    async def _look(self) -> None:
        """Bring the view of the runtime up to date, as far as anything may have changed."""
        runtime, observed = self._tools.runtime, self.observed
        stale = set(observed.stale)
        if self._context.must_look or stale & observed.sandboxes.keys():
            sandboxes = await runtime.list_sandboxes()
            containers = await runtime.list_containers()
            observed.replace(
                [each for each in sandboxes if each.uid == self.uid],
                [each for each in containers if each.labels.get(POD_UID) == self.uid],
            )
            self._context.must_look = False
        for container_id in (stale & observed.containers.keys()) | {
            each.id
            for each in observed.containers.values()
            if each.id not in observed.statuses and each.state is not State.CREATED
        }:
            await self._context.look_at(container_id)
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

    async def _go_on(self, pod: Pod) -> float | None:
        """Bring the pod up, or end it if it is not to run any more."""
        if self._record is None:
            self._record = await asyncio.to_thread(self._tools.records.read, self.uid)
            self._verdict = self._record.verdict or self._verdict
        if pod.has_ended:
            if not self.observed.running():
                if self.observed.containers:
                    self._say()
                return None  # even if the runtime has lost it: it is not to run again
            self._verdict = self._verdict or _verdict_of_cluster(pod)
        remaining = await self._remaining_seconds(pod)
        if remaining is not None and remaining <= 0 and self._verdict is None:
            self._verdict = DEADLINE_EXCEEDED
            self._verdict_grace_seconds = pod.spec.termination_grace_period_seconds
            self._context.event("Normal", "DeadlineExceeded", "", DEADLINE_EXCEEDED.message)
        if self._verdict is not None:
            await self._conclude(self._verdict)
            return None
        return _sooner(await self._bring_up(pod), remaining)

    async def _remaining_seconds(self, pod: Pod) -> float | None:
        """Return how long the pod may yet run, if there is a bound to it."""
        deadline = pod.spec.active_deadline_seconds
        if deadline is None or self._verdict is not None:
            return None
        plan = make_plan(pod, self.observed, self._context.backoff, self._now(), self._probing)
        if plan.is_over:
            return None
        record = self._record or Record()
        if record.started_at is None:
            self._record = record = Record(
                verdict=record.verdict, started_at=self._context.taken_up_at
            )
            await asyncio.to_thread(self._tools.records.write, self.uid, record)
        return (record.started_at or 0.0) + deadline - self._now()

    async def _conclude(self, verdict: Verdict) -> None:
        """End the pod; first of all, keep why.

        A disk that is full must not keep what fills it from being ended: then why is kept after.
        """
        kept = await self._keep(verdict)
        self._probing.stop()
        self._context.waiting.clear()
        await self._stopping.stop_all(grace_seconds=self._verdict_grace_seconds)
        await self._stopping.stop_sandboxes()
        self._say()
        await asyncio.to_thread(self._tools.volumes.clear, self.uid)
        if not kept:
            await self._keep(verdict)

    async def _keep(self, verdict: Verdict) -> bool:
        """Keep a verdict, unless the cloud does already; return whether that went well."""
        record = self._record or Record()
        if record.verdict is not None or (self.pod is not None and self.pod.has_ended):
            return True
        record = Record(verdict=verdict, started_at=record.started_at)
        try:
            await asyncio.to_thread(self._tools.records.write, self.uid, record)
        except OSError as exc:
            log.warning("verdict_not_kept", pod=self._context.name, reason=str(exc))
            return False
        self._record = record
        log.info("pod_concluded", pod=self._context.name, reason=verdict.reason)
        return True

    async def _bring_up(self, pod: Pod) -> float | None:
        adopted = self._status is None
        self._probing.follow(self._context.probed())
        plan = self._plan(pod)
        for stop in plan.stop:
            grace = pod.grace_seconds if stop.grace_seconds is None else stop.grace_seconds
            await self._stopping.stop(stop.container, stop.message, grace_seconds=grace)
        if plan.stop:
            return 0.0
        if plan.is_over:
            self._probing.stop()
            await self._stopping.stop_sandboxes()
        elif not plan.start and self._volumes_are_old:
            async with self._renewing_volumes():
                await self._starting.volumes(pod)
        if plan.start or plan.resume:
            async with self._renewing_volumes():
                await self._starting.start(pod, plan)
            self._probing.follow(self._context.probed())
            again = self._plan(pod)
            if again.start or again.resume or again.stop:
                return 0.0
        if adopted:
            await self._probing.first_results(at_most_seconds=FIRST_PROBE_SECONDS)
        self._say()
        await self._forget_old_attempts(pod)
        return plan.wake_in

    @contextlib.asynccontextmanager
    async def _renewing_volumes(self) -> AsyncIterator[None]:
        """Bring volumes up to date meanwhile; a change in the midst of it makes them old anew."""
        self._volumes_are_old = False
        try:
            yield
        except BaseException:
            self._volumes_are_old = True
            raise

    def _plan(self, pod: Pod) -> Plan:
        context = self._context
        plan = make_plan(pod, self.observed, context.backoff, self._now(), self._probing)
        context.waiting = dict(plan.waiting)
        for name, waiting in plan.waiting.items():
            newest = self.observed.newest(name)
            if newest is not None and newest.id not in self._backed_off:
                self._backed_off.add(newest.id)
                text = waiting.message.partition(" restarting ")[2]
                context.event("Warning", "BackOff", name, f"Back-off restarting {text}")
        return plan

    async def _forget_old_attempts(self, pod: Pod) -> None:
        """Remove what ended, but the newest two of each name: they are shown, their logs read."""
        runtime, specs, observed = self._tools.runtime, self._tools.specs, self.observed
        newest = observed.newest_sandbox
        for name in {each.name for each in observed.containers.values()}:
            for old in observed.attempts_of(name)[2:]:
                await asyncio.to_thread(remove_log, specs.log_path(pod, old.name, old.attempt))
                await runtime.remove_container(old.id)
                observed.containers.pop(old.id, None)
                observed.statuses.pop(old.id, None)
                self._context.started_here.discard(old.id)
                self._backed_off.discard(old.id)
        used = {each.sandbox_id for each in observed.containers.values()}
        for sandbox in list(observed.sandboxes.values()):
            if newest is None or sandbox.id == newest.id or sandbox.is_ready:
                continue
            await runtime.stop_sandbox(sandbox.id)  # gives back its address
            if sandbox.id not in used:
                await runtime.remove_sandbox(sandbox.id)
                observed.sandboxes.pop(sandbox.id, None)

    async def _end(self) -> None:
        """Stop and remove everything, then say so."""
        runtime, observed, pod = self._tools.runtime, self.observed, self.pod
        self._probing.stop()
        self._context.waiting.clear()
        await self._stopping.stop_all(grace_seconds=self._grace_seconds)
        for each in list(observed.containers.values()):
            if each.state is not State.EXITED or each.id not in observed.statuses:
                await self._context.look_at(each.id)
        # a finalizer's owner waits for the pod's last status; else its end says it all
        held = pod is not None and bool(pod.raw["metadata"].get("finalizers"))
        self._say(aloud=held)
        for sandbox_id in list(observed.sandboxes):
            await runtime.stop_sandbox(sandbox_id)
            await runtime.remove_sandbox(sandbox_id)
        await asyncio.to_thread(self._clean_up)
        self.is_over = True
        log.info("pod_ended", pod=self._context.name)
        if pod is not None and not self._is_gone and self._status is not None:
            self._tools.reporter.pod_status(pod, self._status, finished=True)

    def _clean_up(self) -> None:
        """Remove what the node has of the pod outside the runtime."""
        self._tools.volumes.remove(self.uid)
        self._tools.specs.cgroups.remove(self.uid)
        if self.pod is not None:
            meta = self.pod.metadata
            logs = self._tools.specs.log_folder(meta.namespace, meta.name, meta.uid)
            shutil.rmtree(logs, ignore_errors=True)

    def _say(self, *, aloud: bool = True) -> None:
        """Compute the status, and report it if it changed."""
        pod, context = self.pod, self._context
        if pod is None or self._is_gone:
            return
        status = compute(
            pod,
            self.observed,
            Situation(
                host_ip=self._tools.host_ip,
                started_at=self._context.taken_up_at,
                now=self._now(),
                waiting=context.waiting,
                previous=self._status,
                runtime=self._tools.runtime_name,
                health=self._probing,
                verdict=self._verdict,
            ),
        )
        if status != self._status:
            self._status = status
            if aloud:
                self._tools.reporter.pod_status(pod, status, finished=False)

    def _say_safely(self) -> None:
        """Report what is so far; a defect in that must not end the pod's owner."""
        try:
            self._say()
        except Exception:
            log.exception("status_failed", pod=self._context.name)

    def _now(self) -> float:
        return self._tools.clock.now()

    def _probe_failed(self, container: Container, kind: ProbeKind, text: str) -> None:
        self._context.event("Warning", "Unhealthy", container.name, f"{kind} probe failed: {text}")


def _sooner(one: float | None, other: float | None) -> float | None:
    """Return the shorter of two waits; None is for ever."""
    waits = [each for each in (one, other) if each is not None]
    return min(waits, default=None)


def _verdict_of_cluster(pod: Pod) -> Verdict:
    """Return how the cluster holds that a pod ended whose containers still run here."""
    told = pod.raw.get("status") or {}
    return Verdict(
        phase=str(told.get("phase")),
        reason=str(told.get("reason") or ""),
        message=str(told.get("message") or ""),
    )
