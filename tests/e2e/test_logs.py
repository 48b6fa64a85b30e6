"""Logs that are followed, all the way from the container to the command."""

import asyncio
import sys

import pytest

from fedge_cli.demo import Story
from tests.e2e.pods import apply_text, is_running, pod_becomes, pod_manifest, remove

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

COUNTS = "i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); /bin/busybox sleep 0.1; done"


async def test_log_is_followed_until_its_container_ends(story: Story) -> None:
    container = {
        "image": "fedge.local/busybox:1",
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/busybox", "sh", "-c", COUNTS],
    }
    with story.api() as api:
        text = pod_manifest("counts", container=container, restartPolicy="Never")
        assert apply_text(api, text) == ["pod/counts created"]
    await pod_becomes(story, "counts", is_running, "Running")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "fedge_cli",
        "logs",
        "-f",
        "counts",
        "--kubeconfig",
        str(story.stack.kubeconfig),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    first = await process.stdout.readline()
    assert first == b"line 0\n"
    rest, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert rest.decode().splitlines() == [f"line {number}" for number in range(1, 30)]
    remove(story, "counts")
