"""Which images go when the disk fills up."""

from pathlib import Path

import pytest

from fedge_cri import ContainerSpec, FilesystemUsage, SandboxSpec
from fedge_cri.fake import FakeRuntime
from fedge_edged.image_gc import LEAST_AGE_SECONDS, ImageGC, Usage
from tests.unit.edged.kit import Clock

SIZE = 1000  # of each image, as the runtime in memory says


class Disk:
    """Images on a file system of a given fullness."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.runtime = FakeRuntime(clock=self.clock.now)
        self.runtime.filesystems = [
            FilesystemUsage(mountpoint="/images", used_bytes=0, used_inodes=0)
        ]
        self.used = 0
        self.wanted: list[str] = []
        self.gc = ImageGC(
            runtime=self.runtime,
            clock=self.clock,
            high_percent=85,
            low_percent=80,
            wanted=lambda: self.wanted,
            usage=self.usage,
        )

    def usage(self, path: Path) -> Usage:
        assert path == Path("/images")
        return Usage(total=100_000, used=self.used)

    async def names(self) -> set[str]:
        return {tag for each in await self.runtime.list_images() for tag in each.tags}

    async def use(self, image: str) -> str:
        sandbox = SandboxSpec(
            name=image, namespace="default", uid=image, attempt=0, log_directory="/logs"
        )
        sandbox_id = await self.runtime.run_sandbox(sandbox)
        spec = ContainerSpec(name="main", attempt=0, image=image, log_path="0.log")
        await self.runtime.create_container(sandbox_id, spec, sandbox)
        return sandbox_id

    async def age(self) -> None:
        await self.gc.look()
        self.clock.time += LEAST_AGE_SECONDS


@pytest.fixture
def disk() -> Disk:
    disk = Disk()
    for name in ("one", "two", "three"):
        disk.runtime.add_image(f"registry.example/{name}:1")
    return disk


async def test_nothing_goes_while_there_is_room(disk: Disk) -> None:
    await disk.age()
    disk.used = 84_999
    await disk.gc.look()
    assert len(await disk.names()) == 3


async def test_images_go_until_the_low_threshold_and_those_in_use_stay(disk: Disk) -> None:
    await disk.use("registry.example/two:1")
    await disk.age()
    disk.used = 86_000
    await disk.gc.look()
    assert await disk.names() == {"registry.example/two:1"}


async def test_longest_unused_goes_first(disk: Disk) -> None:
    for name in ("one", "two"):
        sandbox = await disk.use(f"registry.example/{name}:1")
        await disk.age()
        await disk.runtime.remove_sandbox(sandbox)
    assert await disk.gc.free(SIZE) == SIZE
    assert await disk.names() == {"registry.example/one:1", "registry.example/two:1"}
    assert await disk.gc.free(1) == SIZE
    assert await disk.names() == {"registry.example/two:1"}


async def test_young_image_stays(disk: Disk) -> None:
    await disk.age()
    disk.runtime.add_image("registry.example/young:1")
    await disk.gc.free(100 * SIZE)
    assert await disk.names() == {"registry.example/young:1"}


async def test_image_that_a_waiting_pod_names_stays(disk: Disk) -> None:
    disk.wanted = ["registry.example/one:1"]
    await disk.age()
    await disk.gc.free(100 * SIZE)
    assert await disk.names() == {"registry.example/one:1"}


async def test_image_of_sandboxes_stays(disk: Disk) -> None:
    disk.runtime.add_image("registry.example/pause:3.9")
    await disk.age()
    await disk.gc.free(100 * SIZE)
    assert await disk.names() == {"registry.example/pause:3.9"}
