"""Commands in containers, all the way from the command line to the edge and back."""

import asyncio
import shutil
import sys
import uuid
from collections.abc import AsyncIterator

import pytest

from fedge_cli.demo import EDGE, POD, RunningContainer, Story
from fedge_fabric import kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_service import backoff

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


async def run(*argv: str, given: bytes | None = None) -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, out, err


async def run_fedge(*argv: str, given: bytes | None = None) -> tuple[int, bytes, bytes]:
    return await run(sys.executable, "-m", "fedge_cli", *argv, given=given)


async def fedge_exec(
    story: Story, *argv: str, given: bytes | None = None
) -> tuple[int, bytes, bytes]:
    kubeconfig = ("--kubeconfig", str(story.stack.kubeconfig))
    return await run_fedge("exec", *kubeconfig, *argv, given=given)


@pytest.mark.usefixtures("container")
async def test_command_says_what_it_wrote_and_how_it_ended(story: Story) -> None:
    script = "echo out; echo err >&2; exit 3"
    assert await fedge_exec(story, POD, "--", "sh", "-c", script) == (3, b"out\n", b"err\n")
    assert await fedge_exec(story, POD, "--", "true") == (0, b"", b"")


@pytest.mark.usefixtures("container")
async def test_much_output_arrives_whole(story: Story) -> None:
    code, out, _ = await fedge_exec(story, POD, "--", "seq", "200000")
    assert code == 0
    assert out == b"".join(b"%d\n" % number for number in range(1, 200001))


@pytest.mark.usefixtures("container")
async def test_command_reads_what_is_typed(story: Story) -> None:
    script = "read name; echo hello $name"
    code, out, _ = await fedge_exec(story, "-i", POD, "--", "sh", "-c", script, given=b"edge\n")
    assert (code, out) == (0, b"hello edge\n")


@pytest.mark.usefixtures("container")
async def test_refusal_is_told(story: Story) -> None:
    code, _, err = await fedge_exec(story, POD, "-c", "none", "--", "true")
    assert code == 1
    assert b"container none is not valid for pod hello" in err
    code, _, err = await fedge_exec(story, POD, "--", "/none")
    assert code != 0
    assert b"/none" in err


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
async def test_kubectl_does_the_same(story: Story, container: RunningContainer) -> None:
    assert container.id
    command = ("kubectl", "--kubeconfig", str(story.stack.kubeconfig), "exec", POD, "--")
    code, out, err = await run(*command, "sh", "-c", "echo out; exit 3")
    assert (code, out) == (3, b"out\n")
    assert b"exit code 3" in err


class Overhearing:
    """Hears what hub asks the node, and says it again as a link does that broke meanwhile."""

    def __init__(self, amqp_url: str) -> None:
        self.fabric = Fabric(amqp_url, service="overhearing", exchanges=t.CLOUD_EXCHANGES)
        self.fabric.subscribe(
            t.Queue("overhearing", (t.Binding(t.DOWN, "node.*.request.#"),), exclusive=True),
            self._on_request,
        )
        self._heard: list[Delivery] = []
        self._is_repeating = False

    async def _on_request(self, delivery: Delivery) -> None:
        if not self._is_repeating:
            self._heard.append(delivery)

    async def repeat(self) -> None:
        """Say all of it once more, in order."""
        self._is_repeating = True
        assert {kinds.EXEC_ASKED, kinds.STREAM_HEARD} <= {
            each.envelope.type for each in self._heard
        }
        for each in self._heard:
            await self.fabric.publish(
                each.envelope, exchange=t.DOWN, routing_key=each.routing_key, mandatory=True
            )


@pytest.fixture
async def overhearing(story: Story) -> AsyncIterator[Overhearing]:
    overhearing = Overhearing(story.stack.amqp_url)
    async with overhearing.fabric.running():
        yield overhearing


@pytest.mark.usefixtures("container")
async def test_command_is_not_run_again_when_the_edge_was_killed_and_the_link_repeats_it(
    story: Story, overhearing: Overhearing
) -> None:
    path = f"/tmp/{uuid.uuid4().hex}"
    script = f"echo ran >> {path}; echo begun; exec sleep 1000"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fedge_cli", "exec"),
        *("--kubeconfig", str(story.stack.kubeconfig), POD, "--", "sh", "-c", script),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\n"
    services = story.stack.server(EDGE, "services")
    await services.kill()
    await services.start()
    await services.ready()
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 1
    assert b"whether it ran to its end is not known. It is not run again" in err
    await overhearing.repeat()
    # a command that is asked for later ends when the repeated one would long have run
    await story.node_ready("True")
    assert await fedge_exec(story, POD, "--", "cat", path) == (0, b"ran\n", b"")


@pytest.mark.usefixtures("container")
async def test_node_that_is_away_is_told_of_at_once(story: Story) -> None:
    edge = story.stack.edge(EDGE)
    await edge.cut()
    try:
        await story.node_ready("Unknown")
        code, _, err = await fedge_exec(story, POD, "--", "true")
    finally:
        await edge.heal()
        await story.node_ready("True")
    assert code != 0
    assert b"is away since" in err
    assert b"the command was not begun" in err


@pytest.mark.usefixtures("container")
async def test_terminal_of_a_client_that_was_killed_is_hung_up(story: Story) -> None:
    script = "echo begun; exec sleep 1111"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fedge_cli", "exec", "-it"),
        *("--kubeconfig", str(story.stack.kubeconfig), POD, "--", "sh", "-c", script),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\r\n"
    process.kill()
    await process.wait()
    async with asyncio.timeout(60):
        async for _ in backoff(first_seconds=0.5, most_seconds=1):
            code, out, _ = await fedge_exec(story, POD, "--", "ps")
            assert code == 0
            if b"sleep 1111" not in out:
                return
