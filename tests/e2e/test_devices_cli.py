"""The air conditioner of the examples, as its README has it, in the cloud and at the edge."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fedge_cli.demo import EDGE, Story
from fedge_cli.local import edge_variables
from tests.e2e.conftest import REPOSITORY
from tests.e2e.test_exec import run

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

EXAMPLE = REPOSITORY / "examples" / "air-conditioner"


class Commands:
    """``fedge device`` in the cloud and, in the network of its host, at the edge."""

    def __init__(self, story: Story) -> None:
        self._kubeconfig = str(story.stack.kubeconfig)
        self.at_edge = edge_variables(story.stack.folder, EDGE)
        self.enter = ("nsenter", "-t", self.at_edge["FEDGE_EDGE_HOST_PID"], "-n")

    async def cloud(self, *argv: str) -> tuple[int, str]:
        return await self._fedge({"FEDGE_KUBECONFIG": self._kubeconfig}, *argv)

    async def cloud_tells(self, text: str) -> str:
        """Return what the cloud tells of the device once ``text`` is in it."""
        shown = ""
        try:
            async with asyncio.timeout(40):
                while text not in shown:
                    _, shown = await self.cloud("describe", "ac-1")
        except TimeoutError:
            pytest.fail(f"{text!r} is not told: {shown}")
        return shown

    async def edge(self, *argv: str) -> tuple[int, str]:
        return await self._fedge(self.at_edge, *argv)

    async def _fedge(self, variables: dict[str, str], *argv: str) -> tuple[int, str]:
        named = [f"{name}={value}" for name, value in variables.items()]
        enter = self.enter if variables is self.at_edge else ()
        command = (sys.executable, "-m", "fedge_cli", "device", *argv)
        code, out, err = await run("env", *named, *enter, *command)
        return code, (out + err).decode()

    @asynccontextmanager
    async def device(self) -> AsyncIterator[None]:
        """Switch the device on."""
        process = await asyncio.create_subprocess_exec(
            *self.enter, sys.executable, str(EXAMPLE / "device.py"),
            env={**os.environ, **self.at_edge},
        )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            with contextlib.suppress(ProcessLookupError):
                await process.wait()


async def test_air_conditioner_is_driven_from_both_sides(story: Story) -> None:
    commands = Commands(story)
    story.apply(EXAMPLE)
    edge = story.stack.edge(EDGE)
    async with commands.device():
        code, told = await commands.cloud("set", "ac-1", "temperature=24", "--wait", "40s")
        assert code == 0, told
        shown = await commands.cloud_tells("State: online")
        [row] = [line.split() for line in shown.splitlines() if line.startswith("  temperature ")]
        assert row[5:8] == ["24", "24", "cloud"]
        assert row[-1] == "Synced"

        code, told = await commands.cloud("set", "ac-1", "temperature=99")
        assert (code, "above the maximum of 30" in told) == (1, True)

        code, told = await commands.cloud("history", "ac-1", "temperature", "-o", "json")
        assert code == 0, told
        newest = json.loads(told)["items"][0]
        assert (newest["side"], newest["by"], newest["value"]) == ("reported", "device", "24")

        await edge.cut()
        try:
            code, told = await commands.edge(
                "set", "ac-1", "temperature=21", "mode=heat", "--wait", "30s"
            )
            assert code == 0, told
            _, shown = await commands.edge("describe", "ac-1")
            assert "SetAtEdge" in shown
            code, told = await commands.edge("history", "ac-1", "temperature", "--limit", "1")
            assert told.split()[-3:] == ["reported", "device", "21"]
            code, told = await commands.cloud("set", "ac-1", "power=false", "--wait", "1s")
            assert code != 0
            assert "power should be false and is true" in told
        finally:
            await edge.heal()
        code, told = await commands.cloud("set", "ac-1", "power=false", "--wait", "40s")
        assert code == 0, told
        code, told = await commands.edge("set", "ac-1", "temperature-", "--wait", "30s")
        assert code == 0, told
        code, told = await commands.cloud("set", "ac-1", "temperature=24", "--wait", "40s")
        assert code == 0, told
        # the model says that the edge wins the mode: what the cloud wishes is lost, and told
        code, told = await commands.cloud("set", "ac-1", "mode=dry")
        assert code == 0, told
        await commands.cloud_tells("mode is to be heat (edge); dry (cloud) was lost")
        code, told = await commands.edge("set", "ac-1", "mode-", "--wait", "30s")
        assert code == 0, told
        code, told = await commands.cloud("set", "ac-1", "mode=dry", "--wait", "40s")
        assert code == 0, told


async def test_shell_learns_where_the_edge_is(story: Story) -> None:
    script = 'eval "$("$0" -m fedge_cli config edge)"; test -S "$FEDGE_EDGE_SOCKET" && env'
    folder = f"FEDGE_DATA_DIR={story.stack.folder}"
    code, out, err = await run("env", folder, "bash", "-c", script, sys.executable)
    assert (code, err) == (0, b"")
    variables = edge_variables(story.stack.folder, EDGE)
    assert {f"{name}={value}" for name, value in variables.items()} <= set(out.decode().split("\n"))


async def test_watch_tells_what_changes(story: Story) -> None:
    commands = Commands(story)
    story.apply(EXAMPLE)
    async with commands.device():
        watching = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fedge_cli", "device", "watch", "ac-1", "-o", "json",
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "FEDGE_KUBECONFIG": str(story.stack.kubeconfig)},
        )  # fmt: skip
        try:
            async with asyncio.timeout(60):
                assert watching.stdout is not None
                await commands.cloud("set", "ac-1", "mode=cool")
                seen: dict[str, str] = {}
                async for line in watching.stdout:
                    seen = json.loads(line)
                    if (seen["property"], seen["reported"]) == ("mode", "cool"):
                        break
            assert seen["state"] == "online"
        finally:
            watching.terminate()
            await watching.wait()
