"""The port of a container runtime.

CRI is one adapter (``fedge_cri.client``); another runtime implements the same and passes the same
contract suite. All calls may raise ``fedge_cri.errors``; each is safe to repeat.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from fedge_cri.model import (
    Container,
    ContainerSpec,
    ContainerStatus,
    Credentials,
    Image,
    RuntimeEvent,
    RuntimeInfo,
    Sandbox,
    SandboxSpec,
)


class Runtime(Protocol):
    """Runs sandboxes and containers."""

    async def info(self) -> RuntimeInfo:
        """Return which runtime this is."""
        ...

    async def unmet_conditions(self) -> Mapping[str, str]:
        """Return the runtime's own conditions that do not hold, with their messages."""
        ...

    async def run_sandbox(self, spec: SandboxSpec) -> str:
        """Make and start a sandbox; return its id.

        Raises:
            AlreadyThereError: one of that name and attempt exists.
        """
        ...

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Stop a sandbox with its containers and release its network; unknown ids are no error."""
        ...

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove a sandbox with its containers; unknown ids are no error."""
        ...

    async def sandbox_ips(self, sandbox_id: str) -> Sequence[str]:
        """Return the sandbox's addresses, the first one first; none with the host's network."""
        ...

    async def list_sandboxes(self) -> Sequence[Sandbox]:
        """Return all sandboxes."""
        ...

    async def create_container(
        self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec
    ) -> str:
        """Make a container and return its id.

        Raises:
            AlreadyThereError: one of that name and attempt exists in the sandbox.
        """
        ...

    async def start_container(self, container_id: str) -> None:
        """Start a container that was made."""
        ...

    async def stop_container(self, container_id: str, *, grace_seconds: int) -> None:
        """Ask a container to end, and end it after ``grace_seconds``; unknown ids are no error."""
        ...

    async def remove_container(self, container_id: str) -> None:
        """Remove a container, stopped or not; unknown ids are no error."""
        ...

    async def list_containers(self) -> Sequence[Container]:
        """Return all containers."""
        ...

    async def container_status(self, container_id: str) -> ContainerStatus:
        """Return how a container is doing.

        Raises:
            NotFoundError: there is none of that id.
        """
        ...

    async def list_images(self) -> Sequence[Image]:
        """Return the images on the node."""
        ...

    async def find_image(self, reference: str) -> Image | None:
        """Return the image that ``reference`` names, if it is on the node."""
        ...

    async def pull_image(self, reference: str, credentials: Credentials | None) -> str:
        """Fetch an image and return its id."""
        ...

    def events(self) -> AsyncIterator[RuntimeEvent | None]:
        """Yield what happens, without an end.

        None is yielded each time the stream was opened: what happened before it is not told, so
        whoever listens looks at everything then.
        """
        ...
