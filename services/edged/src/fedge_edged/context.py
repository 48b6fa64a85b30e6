"""What the parts of a pod's worker share: the pod, the tools, and what is known of it."""

import asyncio
from dataclasses import dataclass, field, replace

import structlog

from fedge_cri import Container as Running
from fedge_cri import ContainerState, ContainerStatus, NotFoundError, Runtime
from fedge_edged.actions import Actions, Target
from fedge_edged.images import Images
from fedge_edged.observed import Observed
from fedge_edged.pods import Container, Pod
from fedge_edged.ports import Clock, Reporter
from fedge_edged.probing import Probed, Probing
from fedge_edged.restarts import Backoff
from fedge_edged.specs import TAKEN_UP, Specs
from fedge_edged.statuses import Waiting
from fedge_edged.termination import termination_message
from fedge_edged.timestamps import seconds
from fedge_edged.verdicts import Records
from fedge_edged.volumes import Volumes

log = structlog.stdlib.get_logger("fedge.edged")


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
    actions: Actions
    records: Records
    host_ip: str
    runtime_name: str = "containerd"


@dataclass(slots=True, kw_only=True)
class PodContext:
    """One pod.

    Attributes:
        uid: the pod's.
        tools: what all workers share.
        probing: the probes of its running containers.
        pod: as last wanted; None until it is known.
        observed: what the runtime has of it.
        backoff: how long each container waits.
        waiting: why containers wait.
        must_look: whether what is observed may be wrong altogether.
        started_at: when this process took the pod up, seconds since the epoch.
        started_here: ids of the containers that were started since edged was.
    """

    uid: str
    tools: Tools
    probing: Probing
    pod: Pod | None = None
    observed: Observed = field(default_factory=Observed)
    backoff: Backoff = field(default_factory=Backoff)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    must_look: bool = True
    started_at: float
    started_here: set[str] = field(default_factory=set)

    @property
    def taken_up_at(self) -> float:
        """When the node took the pod up, as far back as the runtime remembers.

        In seconds since the epoch.
        """
        sandboxes = self.observed.sandboxes.values()
        made = (each.created_at / 1e9 for each in sandboxes if each.created_at)
        kept = (seconds(each.annotations.get(TAKEN_UP, "")) for each in sandboxes)
        return min([self.started_at, *made, *(each for each in kept if each is not None)])

    @property
    def name(self) -> str:
        """The pod's name for the log."""
        return str(self.pod.key) if self.pod else self.uid

    @property
    def address(self) -> str:
        """The pod's address as the node sees it; empty while it has none."""
        if self.pod is not None and self.pod.spec.host_network:
            return self.tools.host_ip
        return self.observed.ips[0] if self.observed.ips else ""

    def event(self, kind: str, reason: str, container: str, message: str) -> None:
        """Record an event of the pod, or of one of its containers if one is named."""
        if self.pod is None:
            return
        field_path = f"spec.containers{{{container}}}" if container else ""
        if container and any(each.name == container for each in self.pod.spec.init_containers):
            field_path = f"spec.initContainers{{{container}}}"
        self.tools.reporter.event(self.pod, kind, reason, message, field=field_path)

    def target(self, running: Running, container: Container) -> Target:
        """Return what probes and hooks act on."""
        return Target(container_id=running.id, container=container, address=self.address)

    async def look_at(self, container_id: str) -> None:
        """Ask the runtime how a container is."""
        observed = self.observed
        try:
            status = await self.tools.runtime.container_status(container_id)
        except NotFoundError:
            observed.containers.pop(container_id, None)
            observed.statuses.pop(container_id, None)
            return
        known = observed.containers[container_id]
        if status.state is ContainerState.EXITED:
            status = await self._with_message(known, status)
        observed.statuses[container_id] = status
        observed.containers[container_id] = replace(known, state=status.state)

    async def _with_message(self, ended: Running, status: ContainerStatus) -> ContainerStatus:
        """Add what the container left to say about its end."""
        container = self.pod.find_container(ended.name) if self.pod is not None else None
        if self.pod is None or container is None:
            return status
        specs = self.tools.specs
        message = await asyncio.to_thread(
            termination_message,
            specs.termination_log(self.pod, container, ended.attempt),
            specs.log_path(self.pod, ended.name, ended.attempt),
            policy=container.termination_message_policy,
            exit_code=status.exit_code,
        )
        return replace(status, message=message) if message else status

    def probed(self) -> list[Probed]:
        """Return the running containers that have probes, with for how long they have run."""
        pod, sandbox = self.pod, self.observed.newest_sandbox
        if pod is None or sandbox is None or not sandbox.is_ready:
            return []
        found = []
        for running in self.observed.containers.values():
            container = pod.find_container(running.name)
            status = self.observed.statuses.get(running.id)
            if (
                container is None
                or status is None
                or running.sandbox_id != sandbox.id
                or running.state is not ContainerState.RUNNING
                or not _has_probes(container)
            ):
                continue
            found.append(
                Probed(
                    target=self.target(running, container),
                    running_seconds=max(0.0, self.tools.clock.now() - status.started_at / 1e9),
                    is_adopted=running.id not in self.started_here,
                )
            )
        return found


def _has_probes(container: Container) -> bool:
    probes = (container.startup_probe, container.readiness_probe, container.liveness_probe)
    return any(each is not None for each in probes)
