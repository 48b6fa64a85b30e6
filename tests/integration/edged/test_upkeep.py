"""What keeps a node's disk free, on a real containerd."""

import time

import pytest

from fedge_edged.image_gc import LEAST_AGE_SECONDS, ImageGC
from fedge_edged.log_rotation import LogRotation
from fedge_edged.logs import LogOptions, rotated_files
from tests.fixtures.servers import ImageRegistry
from tests.integration.edged.node import RealNode, eventually
from tests.unit.edged.kit import Clock, deleted, read_log

pytestmark = pytest.mark.containerd

COUNTS = "i=0; while :; do echo line $i; i=$((i+1)); /bin/busybox usleep 2000; done"


async def test_logs_are_rotated_and_no_line_is_lost(node: RealNode) -> None:
    node.put("pods", node.pod(containers=[node.container(script=COUNTS)]))
    await node.runs()
    assert node.pods is not None
    assert node.tools is not None
    clock = Clock(time.time())
    rotation = LogRotation(
        runtime=node.runtime,
        clock=clock,
        running=list,
        max_bytes=5000,
        max_files=10,
    )
    [running] = node.pods.running_logs(node.tools.specs.log_folder)
    for count in (1, 2, 3):
        await eventually(lambda: running.path.stat().st_size > 5000)
        clock.time += 10
        await rotation.look_at(running)
        assert len(rotated_files(running.path)) == count
    await eventually(lambda: running.path.stat().st_size > 1000)
    lines = read_log(running.path, LogOptions()).splitlines()
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert len(lines) > 300


async def test_image_that_nobody_uses_goes_and_the_others_stay(
    node: RealNode, registry: ImageRegistry
) -> None:
    image = await registry.push("team/app:unused", node.server.shell_image)
    await node.tag_shell_image(image)
    found = await node.runtime.find_image(image)
    assert found is not None
    # other tests may have left theirs
    others = [
        tag for each in await node.runtime.list_images() if each.id != found.id for tag in each.tags
    ]
    # it has the content of the shell's image, and so its id: one that is used stays whole
    clock = Clock(time.time())
    gc = ImageGC(
        runtime=node.runtime,
        clock=clock,
        high_percent=85,
        low_percent=80,
        wanted=lambda: others,
    )
    pod = node.pod()
    node.put("pods", pod)
    await node.runs()
    await gc.look()
    clock.time += LEAST_AGE_SECONDS
    assert await gc.free(1) == 0
    assert await node.runtime.find_image(node.server.shell_image) is not None
    node.put("pods", deleted(pod, grace_seconds=0))
    await node.shows(node.ears.finished)
    try:
        assert await gc.free(1) == found.size_bytes
        assert await node.runtime.find_image(image) is None
        assert await node.runtime.find_image(node.server.hello_image) is not None
    finally:
        await node.server.server.finish()  # the other tests want the shell's image again
