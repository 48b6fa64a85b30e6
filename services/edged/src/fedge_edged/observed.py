"""What the runtime has of one pod."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fedge_cri import Container, ContainerState, ContainerStatus, Sandbox


@dataclass(slots=True)
class Observed:
    """A pod's sandboxes and containers, as last seen.

    Attributes:
        sandboxes: by id.
        containers: by id, of all sandboxes.
        statuses: by container id; once exited they do not change any more.
        ips: of the newest sandbox.
        stale: containers and sandboxes about which something was heard since.
    """

    sandboxes: dict[str, Sandbox] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)
    statuses: dict[str, ContainerStatus] = field(default_factory=dict)
    ips: tuple[str, ...] = ()
    stale: set[str] = field(default_factory=set)

    @property
    def newest_sandbox(self) -> Sandbox | None:
        """The sandbox of the highest attempt."""
        return max(self.sandboxes.values(), key=lambda each: each.attempt, default=None)

    def attempts_of(self, name: str) -> list[Container]:
        """Return the containers called ``name``, newest attempt first."""
        found = [each for each in self.containers.values() if each.name == name]
        return sorted(found, key=lambda each: (each.attempt, each.created_at), reverse=True)

    def newest(self, name: str) -> Container | None:
        """Return the newest attempt of the container called ``name``."""
        return next(iter(self.attempts_of(name)), None)

    def running(self) -> list[Container]:
        """Return the containers that run, or may run."""
        alive = {ContainerState.RUNNING, ContainerState.UNKNOWN}
        return [each for each in self.containers.values() if each.state in alive]

    def replace(self, sandboxes: Iterable[Sandbox], containers: Iterable[Container]) -> bool:
        """Take a complete list; return whether it differs from what was known."""
        new_sandboxes = {each.id: each for each in sandboxes}
        new_containers = {each.id: each for each in containers}
        changed = new_sandboxes != self.sandboxes or new_containers != self.containers
        for container_id, container in new_containers.items():
            known = self.statuses.get(container_id)
            if known is not None and known.state is not container.state:
                del self.statuses[container_id]
        self.sandboxes, self.containers = new_sandboxes, new_containers
        self.statuses = {k: v for k, v in self.statuses.items() if k in new_containers}
        return changed
