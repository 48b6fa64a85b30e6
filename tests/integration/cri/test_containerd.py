"""The client of the Container Runtime Interface keeps the runtime's contract on a containerd."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_cri import UnavailableError
from fedge_cri.client import CriRuntime
from tests.contract.runtime import Ground, RuntimeContract
from tests.fixtures.servers import Runtime as Server

pytestmark = pytest.mark.containerd


class TestContainerd(RuntimeContract):
    """Everything that the contract asks."""

    @pytest.fixture
    async def ground(self, containerd: Server) -> AsyncIterator[Ground]:
        async def end(container_id: str) -> None:
            await containerd.server.ctr("tasks", "kill", "-s", "9", container_id)

        async with CriRuntime.connected(containerd.socket) as runtime:
            ground = Ground(
                runtime=runtime,
                image=containerd.shell_image,
                log_dir=containerd.log_dir,
                cgroup_parent=containerd.cgroup_parent,
                end=end,
            )
            yield ground
            await ground.clear()


async def test_runtime_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with CriRuntime.connected(tmp_path / "none.sock") as runtime:
        with pytest.raises(UnavailableError):
            await runtime.list_containers()
