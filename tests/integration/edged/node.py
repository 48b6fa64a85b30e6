"""A node on a real containerd."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedge_cri import Container, Runtime
from fedge_edged.specs import CONTAINER_NAME, POD_UID
from fedge_objects import JsonObject
from fedge_service import backoff
from tests.fixtures.edged import EdgedNode
from tests.fixtures.servers import Runtime as Server
from tests.unit.edged.kit import phase, state

STAYS = ["/bin/busybox", "sleep", "1000"]


async def eventually(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait for something outside edged that nobody tells."""
    async with asyncio.timeout(seconds):
        async for _ in backoff(first_seconds=0.02, most_seconds=0.2):
            if await asyncio.to_thread(condition):
                return


class _SystemClock:
    def now(self) -> float:
        return time.time()


class RealNode(EdgedNode):
    """A node whose pods are real; only those that it made are its own."""

    def __init__(self, folder: Path, runtime: Runtime, server: Server) -> None:
        super().__init__(
            folder,
            runtime,
            _SystemClock(),
            log_dir=folder / "logs",
            cgroup_parent=server.cgroup_parent,
            host_ip=server.host.address,
        )
        self.runtime = runtime
        self.server = server
        self._uids: dict[str, str] = {}

    def pod(
        self, name: str = "a", *, meta: Mapping[str, Any] | None = None, **spec: Any
    ) -> JsonObject:
        """Return a pod of one container that stays; its uid is its own in this runtime."""
        uid = self._uids.setdefault(name, str(uuid.uuid4()))
        return {
            "metadata": {"name": name, "namespace": "default", "uid": uid, **(meta or {})},
            "spec": {
                "containers": [self.container()],
                "terminationGracePeriodSeconds": 1,
                "dnsPolicy": "Default",
                **spec,
            },
        }

    def container(self, name: str = "main", script: str = "", **fields: Any) -> JsonObject:
        """Return a container that runs a script of the shell, or stays."""
        command = ["/bin/busybox", "sh", "-c", script] if script else STAYS
        return {
            "name": name,
            "image": self.server.shell_image,
            "imagePullPolicy": "IfNotPresent",
            "command": command,
            **fields,
        }

    async def runs(self, name: str = "a", *, seconds: float = 60.0) -> JsonObject:
        """Wait until a pod runs; return its status."""
        await self.shows(
            lambda: (
                phase(self.ears.newest(name)) == "Running"
                and "running" in state(self.ears.newest(name))
            ),
            seconds=seconds,
        )
        return self.ears.newest(name)

    async def containers(self, name: str = "a", container: str = "main") -> list[Container]:
        """Return what the runtime has of a pod's container, newest attempt first."""
        uid = self._uids.get(name)
        found = [
            each
            for each in await self.runtime.list_containers()
            if each.labels.get(POD_UID) == uid and each.labels.get(CONTAINER_NAME) == container
        ]
        return sorted(found, key=lambda each: each.attempt, reverse=True)

    def log(self, name: str = "a", container: str = "main", attempt: int = 0) -> str:
        """Return what a container wrote, without times and marks."""
        folder = self.log_dir / f"default_{name}_{self._uids[name]}"
        lines = (folder / container / f"{attempt}.log").read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)

    async def kill(self, container_id: str) -> None:
        """End a container from outside."""
        await self.server.server.ctr("tasks", "kill", "-s", "9", container_id)

    async def tag_shell_image(self, image: str) -> None:
        """Give the shell's image one more name, and wait until the runtime's CRI knows it."""
        await self.server.server.ctr("images", "tag", "--force", self.server.shell_image, image)
        async with asyncio.timeout(10):
            async for _ in backoff(first_seconds=0.02, most_seconds=0.2):
                if await self.runtime.find_image(image) is not None:
                    return

    async def clear(self) -> None:
        """Remove every pod that this node made."""
        uids = set(self._uids.values())
        for sandbox in await self.runtime.list_sandboxes():
            if sandbox.uid in uids:
                await self.runtime.remove_sandbox(sandbox.id)
