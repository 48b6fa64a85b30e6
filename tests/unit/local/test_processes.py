import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedge_local.errors import NotReadyError
from fedge_local.processes import Process, spawn, until


@pytest.fixture
async def sleeper(tmp_path: Path) -> AsyncIterator[Process]:
    process = spawn(["/bin/sleep", "1000"], env={}, log=tmp_path / "log")
    yield process
    await process.kill()


async def test_process_ends_when_it_is_stopped(sleeper: Process) -> None:
    assert sleeper.is_alive
    await sleeper.stop()
    assert not sleeper.is_alive


async def test_process_is_killed_when_it_ignores_the_request(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap '' TERM; echo ready; while :; do sleep 1000; done"
    process = spawn(["/bin/sh", "-c", script], env={"PATH": "/bin"}, log=log)

    async def says_ready() -> bool:
        return "ready" in log.read_text()

    await until(says_ready, name="stubborn", process=process, log=log, timeout_seconds=10)
    await process.stop(grace_seconds=0.1)
    assert not process.is_alive
    os.killpg(process.pid, signal.SIGKILL)


async def test_pid_that_belongs_to_another_by_now_is_never_signalled(sleeper: Process) -> None:
    earlier = replace(sleeper, start_ticks=sleeper.start_ticks - 1)
    assert not earlier.is_alive
    await earlier.kill()
    assert sleeper.is_alive


async def test_process_of_an_earlier_boot_is_not_alive(sleeper: Process) -> None:
    assert not replace(sleeper, boot_id="another").is_alive


async def test_pid_file_names_the_process_beyond_doubt(sleeper: Process, tmp_path: Path) -> None:
    sleeper.save(tmp_path / "x.pid")
    assert Process.load(tmp_path / "x.pid") == sleeper


@pytest.mark.parametrize("text", ["", "12", '{"pid": 1}'])
def test_pid_file_that_is_not_whole_names_nobody(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.pid").write_text(text)
    assert Process.load(tmp_path / "x.pid") is None


async def test_waiting_ends_with_the_log_when_the_process_dies(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = spawn(["/bin/sh", "-c", "echo no such luck; exit 1"], env={}, log=log)

    async def never() -> bool:
        return False

    with pytest.raises(NotReadyError, match=r"unlucky ended(?s:.*)no such luck"):
        await until(never, name="unlucky", process=process, log=log, timeout_seconds=10)


async def test_waiting_ends_with_the_log_when_the_time_is_over(
    sleeper: Process, tmp_path: Path
) -> None:
    async def never() -> bool:
        await asyncio.Event().wait()
        return False

    with pytest.raises(NotReadyError, match=r"sleeper did not answer within 0\.05 s"):
        await until(
            never, name="sleeper", process=sleeper, log=tmp_path / "log", timeout_seconds=0.05
        )
