"""What is known of how running containers are."""

from dataclasses import dataclass
from typing import Protocol

from typing_extensions import override

from fedge_edged.pods import Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Why a container has to be ended, and how long it has; None: as long as its pod gives."""

    message: str
    grace_seconds: int | None


class Health(Protocol):
    """What probes have found out about running containers."""

    def has_started(self, container_id: str, container: Container) -> bool:
        """Whether what comes after the container may start."""
        ...

    def is_ready(self, container_id: str, container: Container) -> bool:
        """Whether the container counts as ready."""
        ...

    def kill_of(self, container_id: str) -> Kill | None:
        """Return why the container has to be ended, if it has to be."""
        ...


class _Healthy(Health):
    @override
    def has_started(self, container_id: str, container: Container) -> bool:
        return True

    @override
    def is_ready(self, container_id: str, container: Container) -> bool:
        return True

    @override
    def kill_of(self, container_id: str) -> Kill | None:
        return None


HEALTHY: Health = _Healthy()
"""All containers are well: nothing probes them."""
