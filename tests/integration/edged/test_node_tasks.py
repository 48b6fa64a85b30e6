"""Images fetched ahead of pods from a registry that asks who is there, on a real containerd."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fedge_cri import Runtime
from fedge_cri.client import CriRuntime
from fedge_edged.images import Images
from fedge_edged.node_pods import NodeObjects
from fedge_edged.node_tasks.checks import Checks
from fedge_edged.node_tasks.diary import Diary
from fedge_edged.node_tasks.pulling import Pulling
from fedge_operations import CheckItem, Outcome, Progress, Pull, Task, TaskPhase
from tests.fixtures.servers import ImageRegistry
from tests.fixtures.servers import Runtime as Server
from tests.integration.edged.test_images import pull_secret
from tests.unit.edged.kit import Ears, LoopClock, change

pytestmark = pytest.mark.containerd


@asynccontextmanager
async def pulling(server: Server, objects: NodeObjects) -> AsyncIterator[tuple[Runtime, Pulling]]:
    async with CriRuntime.connected(server.socket) as runtime:
        images = Images(runtime=runtime, objects=objects, reporter=Ears(), clock=LoopClock())
        checks = Checks(Path("/"))
        yield (
            runtime,
            Pulling(images=images, runtime=runtime, objects=objects, checks=checks),
        )


async def done(work: Pulling, pull: Pull, folder: Path) -> Progress:
    told: list[Progress] = []
    tell: Callable[[Progress], None] = told.append
    diary = Diary.opened(folder, "uid-t", clock=LoopClock(), tell=tell)
    diary.begin()
    task = Task(
        name="t",
        uid="uid-t",
        node="a",
        job="ImagePrePullJob/j",
        timeout_seconds=60,
        check_items=(CheckItem.MEM,),
        work=pull,
    )
    async with asyncio.timeout(60):
        await work.do(task, pull, diary)
    return told[-1]


async def test_image_is_on_the_node_before_any_pod_asks_for_it(
    containerd: Server, registry: ImageRegistry, tmp_path: Path
) -> None:
    image = await registry.push("team/app:ahead", containerd.shell_image)
    objects = NodeObjects()
    objects.put(change("secrets", "pull", pull_secret(registry)))
    async with pulling(containerd, objects) as (runtime, work):
        assert await runtime.find_image(image) is None
        progress = await done(work, Pull(images=(image,), secret="default/pull"), tmp_path)
        assert progress.phase is TaskPhase.SUCCESSFUL, progress.reason
        found = await runtime.find_image(image)
        assert found is not None
        assert image in found.tags
    await containerd.server.ctr("images", "remove", image)


async def test_wrong_secret_is_told_for_the_image_that_it_does_not_open(
    containerd: Server, registry: ImageRegistry, tmp_path: Path
) -> None:
    image = await registry.push("team/app:closed", containerd.shell_image)
    objects = NodeObjects()
    objects.put(change("secrets", "pull", pull_secret(registry, password="guessed")))
    wanted = Pull(images=(image, containerd.shell_image), secret="default/pull", retry_times=1)
    async with pulling(containerd, objects) as (_, work):
        progress = await done(work, wanted, tmp_path)
    assert progress.phase is TaskPhase.FAILURE
    outcomes = {each.image: each.status for each in progress.images}
    assert outcomes == {image: Outcome.FALSE, containerd.shell_image: Outcome.TRUE}
    assert "1 of 2 images are not here" in progress.reason
