"""Commands in containers, all the way from the command line to the edge and back."""

import asyncio
import shutil
import sys

import pytest

from fedge_cli.demo import POD, RunningContainer, Story

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
