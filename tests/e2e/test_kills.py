"""Whatever is killed or emptied: what was applied meanwhile runs, and nothing else is touched."""

import pytest
from redis.asyncio import Redis

from fedge_cli.demo import EDGE, POD, RunningContainer, Story
from fedge_local.servers import Server
from tests.e2e.pods import (
    apply_text,
    is_running,
    pod_becomes,
    pod_manifest,
    remove,
    running_by_name,
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def server_of(story: Story, where: str, name: str) -> Server:
    """Return a process of the stack."""
    if (where, name) == (EDGE, "rabbitmq"):
        return story.stack.edge(EDGE).parts.rabbitmq  # in the image it is the container's
    return next(
        server for place, server in story.stack._assembled if (place, server.name) == (where, name)
    )


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("cloud", "hub"),
        ("cloud", "controller"),
        ("cloud", "apiserver"),
        ("cloud", "redis"),
        ("cloud", "rabbitmq"),
        (EDGE, "rabbitmq"),
    ],
)
async def test_pod_applied_around_a_kill_runs_and_no_other_is_touched(
    story: Story, container: RunningContainer, where: str, name: str
) -> None:
    server = server_of(story, where, name)
    pod = f"kill-{where}-{name}"
    await server.kill()
    if name != "apiserver":
        with story.api() as api:
            assert apply_text(api, pod_manifest(pod)) == [f"pod/{pod} created"]
    await server.start()
    await server.ready()
    if name == "apiserver":
        with story.api() as api:
            assert apply_text(api, pod_manifest(pod)) == [f"pod/{pod} created"]
    started = await pod_becomes(story, pod, is_running, "Running")
    assert [each["restartCount"] for each in started["status"]["containerStatuses"]] == [0]
    running = await running_by_name(story)
    assert running[POD] == [container.id]
    assert len(running[pod]) == 1
    remove(story, pod)


async def test_emptied_redis_is_filled_again_and_no_pod_is_touched(
    story: Story, container: RunningContainer
) -> None:
    async with Redis(port=story.stack.ports["redis"]) as redis:
        await redis.flushall()
    with story.api() as api:
        assert apply_text(api, pod_manifest("after-flush")) == ["pod/after-flush created"]
    await pod_becomes(story, "after-flush", is_running, "Running")
    assert (await running_by_name(story))[POD] == [container.id]
    remove(story, "after-flush")
