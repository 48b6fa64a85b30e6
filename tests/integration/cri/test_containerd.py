"""The client of the Container Runtime Interface keeps the runtime's contract on a containerd."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_cri import ExecTimeoutError, RefusedError, UnavailableError
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

    async def test_command_says_what_it_wrote_and_how_it_ended(self, ground: Ground) -> None:
        _, container_id = await ground.started()
        script = "echo out; echo err >&2; exit 3"
        result = await ground.runtime.exec_sync(
            container_id, ["/bin/busybox", "sh", "-c", script], timeout_seconds=10
        )
        assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)

    async def test_command_that_takes_too_long_is_ended(self, ground: Ground) -> None:
        _, container_id = await ground.started()
        with pytest.raises(ExecTimeoutError, match="timed out"):
            await ground.runtime.exec_sync(
                container_id, ["/bin/busybox", "sleep", "60"], timeout_seconds=1
            )

    async def test_command_that_is_not_there_is_refused(self, ground: Ground) -> None:
        _, container_id = await ground.started()
        with pytest.raises(RefusedError, match="/none"):
            await ground.runtime.exec_sync(container_id, ["/none"], timeout_seconds=5)

    async def test_images_take_space_on_a_file_system(self, ground: Ground) -> None:
        [usage] = await ground.runtime.image_filesystems()
        assert usage.mountpoint.startswith("/")  # how much is measured every 10 s only


async def test_runtime_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with CriRuntime.connected(tmp_path / "none.sock") as runtime:
        with pytest.raises(UnavailableError):
            await runtime.list_containers()
