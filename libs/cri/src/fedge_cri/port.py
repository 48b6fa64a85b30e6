"""The port of a container runtime.

CRI is one adapter (``fedge_cri.client``); another runtime implements the same and passes the same
contract suite. All calls may raise ``fedge_cri.errors``; each is safe to repeat.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from fedge_cri.model import (
    Container,
    ContainerSpec,
    ContainerStats,
    ContainerStatus,
    Credentials,
    ExecResult,
    FilesystemUsage,
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

    async def list_container_stats(self) -> Sequence[ContainerStats]:
        """Return what each running container uses."""
        ...

    async def exec_sync(
        self, container_id: str, command: Sequence[str], *, timeout_seconds: float
    ) -> ExecResult:
        """Run a command in a running container and wait for its end.

        Raises:
            ExecTimeoutError: it did not end in time; it was ended.
            NotFoundError: there is no container of that id.
            RefusedError: the container does not run, or the command cannot be started.
        """
        ...

    async def exec_url(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    ) -> str:
        """Prepare a command with streams; return the URL at which a client opens them once.

        Raises:
            NotFoundError: there is no container of that id.
            RefusedError: the container does not run.
        """
        ...

    async def reopen_log(self, container_id: str) -> None:
        """Have a running container write its log into a new file of the same name."""
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

    async def remove_image(self, image_id: str) -> None:
        """Remove an image with all its names; unknown ids are no error."""
        ...

    async def image_filesystems(self) -> Sequence[FilesystemUsage]:
        """Return how much space the images take."""
        ...

    def events(self) -> AsyncIterator[RuntimeEvent | None]:
        """Yield what happens, without an end.

        None is yielded each time the stream was opened: what happened before it is not told, so
        whoever listens looks at everything then.
        """
        ...
