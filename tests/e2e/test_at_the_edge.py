"""Logs and commands at the node itself, with the cloud out of reach."""

import pytest

from fedge_cli.demo import EDGE, POD, RunningContainer, Story
from tests.e2e.test_exec import run_fedge

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


def at_the_edge(story: Story) -> list[str]:
    return ["--edge-socket", str(story.stack.edge(EDGE).parts.edged_socket)]


async def test_logs_and_commands_need_no_cloud(story: Story, container: RunningContainer) -> None:
    assert container.id
    edge = story.stack.edge(EDGE)
    socket = at_the_edge(story)
    await edge.cut()
    try:
        code, out, err = await run_fedge("logs", *socket, POD, "--tail", "1")
        assert (code, err) == (0, b"")
        assert out.startswith(b"Hello") or b" from " in out
        script = "echo out; echo err >&2; exit 3"
        done = await run_fedge("exec", *socket, POD, "--", "sh", "-c", script)
        assert done == (3, b"out\n", b"err\n")
        script = "read name; echo hello $name"
        typed = await run_fedge(
            "exec", *socket, "-i", POD, "--", "sh", "-c", script, given=b"edge\n"
        )
        assert typed == (0, b"hello edge\n", b"")
    finally:
        await edge.heal()


async def test_what_is_not_there_is_told(story: Story, container: RunningContainer) -> None:
    assert container.id
    socket = at_the_edge(story)
    code, _, err = await run_fedge("logs", *socket, "none")
    assert code == 1
    assert b'pod "default/none" is not on this node' in err
    code, _, err = await run_fedge("logs", "--edge-socket", "/none", POD)
    assert code == 4
    assert b"edged's socket /none cannot be reached" in err
