"""What `fedge chaos` asks for before it makes anything fail, and how it ends."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedge_cli.app import app
from fedge_cli.holding import lasting
from fedge_local.state import EdgeState, StackState

runner = CliRunner()
COMMANDS = ["cut", "halfopen", "lossy", "slow", "kill", "pause", "fill-disk", "clock", "heal"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a system of one edge in which nothing runs."""
    monkeypatch.setenv("FEDGE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    StackState(
        password="p",
        network="198.19.252.0/24",
        ports={
            "amqp": 1,
            "amqp-dist": 2,
            "redis": 3,
            "apiserver": 4,
            "hub": 5,
            "amqps": 6,
            "management": 7,
            "enrolment": 8,
        },
        edges={"gw-1": EdgeState(index=0, password="p")},
    ).save(tmp_path / "stack.json")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    result = runner.invoke(app, ["chaos", command, "--help"])
    assert result.exit_code == 0
    assert f"fedge chaos {command}" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["cut"], 2, "Missing argument"),
        (["cut", "gw-9"], 3, "there is no node 'gw-9': name one of gw-1, cloud"),
        (["cut", "gw-1", "--for", "soon"], 2, "'soon' is no duration"),
        (["cut", "gw-1"], 1, "start it with `fedge demo`"),
        (["halfopen", "gw-1", "--direction", "left"], 2, "use both, up, down"),
        (["slow", "gw-1"], 2, "say how slow: --delay 300ms, --rate 64k, or both"),
        (["slow", "gw-1", "--delay", "3x"], 2, "'3x' is no duration: write 300ms"),
        (["slow", "gw-1", "--rate", "fast"], 2, "--rate is 'fast': write a number of bytes"),
        (["kill", "gw-1", "--what", "cpu"], 2, "--what is 'cpu': use services"),
        (["clock", "gw-1", "--step", "now"], 2, "'now' is no step of a clock"),
        (["heal", "gw-9"], 3, "there is no node 'gw-9'"),
    ],
)
def test_what_cannot_be_is_told_with_what_can(arguments: list[str], code: int, said: str) -> None:
    result = runner.invoke(app, ["chaos", *arguments])
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stdout == ""


def test_system_that_was_never_started_is_told(tmp_path: Path) -> None:
    result = runner.invoke(app, ["chaos", "cut", "gw-1", "--data-dir", str(tmp_path / "none")])
    assert result.exit_code == 3
    assert "start it with `fedge demo`" in result.stderr


def test_somebody_else_than_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = runner.invoke(app, ["chaos", "cut", "gw-1"])
    assert result.exit_code == 2
    assert "root" in result.stderr


class Recorder:
    """A fault that tells what happened to it, and signals that come at each point."""

    def __init__(self, *, at_entry: bool = False, inside: bool = False, at_end: int = 0) -> None:
        self.events: list[str] = []
        self._at_entry = at_entry
        self._inside = inside
        self._at_end = at_end

    @asynccontextmanager
    async def fault(self) -> AsyncIterator[None]:
        try:
            if self._at_entry:
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.Event().wait()
            self.events.append("made")
            if self._inside:
                os.kill(os.getpid(), signal.SIGTERM)
            yield
        finally:
            for _ in range(self._at_end):
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(0)
            self.events.append("healed")


async def test_fault_ends_when_its_time_is_over() -> None:
    recorder = Recorder()
    assert await lasting(recorder.fault(), "", 0.01) == 0
    assert recorder.events == ["made", "healed"]


@pytest.mark.parametrize(
    ("recorder", "events"),
    [
        (Recorder(at_entry=True), ["healed"]),
        (Recorder(inside=True), ["made", "healed"]),
        (Recorder(inside=True, at_end=3), ["made", "healed"]),
        (Recorder(at_entry=True, at_end=3), ["healed"]),
    ],
)
async def test_signal_heals_whenever_it_comes(recorder: Recorder, events: list[str]) -> None:
    assert await lasting(recorder.fault(), "", 60) == 128 + signal.SIGTERM
    assert recorder.events == events
