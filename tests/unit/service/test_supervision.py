"""Tasks that are started again, services that are found, settings that are shown."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from fedge_service import (
    EdgeSettings,
    UnknownServiceError,
    backoff,
    describe,
    find_services,
    load_plugins,
    supervise,
    to_its_end,
)


@pytest.mark.looptime
async def test_waits_double_with_jitter_up_to_the_most() -> None:
    waits = []
    async for waited in backoff(first_seconds=1, most_seconds=8):
        waits.append(waited)
        if len(waits) == 7:
            break
    assert waits[0] == 0
    limits = [1, 2, 4, 8, 8, 8]
    assert all(limit / 2 <= wait <= limit for limit, wait in zip(limits, waits[1:], strict=True))


@pytest.mark.looptime
async def test_work_that_loses_a_cancellation_is_cancelled_again_in_a_group_too() -> None:
    lost: list[str] = []

    async def careless() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if len(lost) == 2:
                    raise
                lost.append("once more")

    async def grouped() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(to_its_end(careless(), name="careless"))

    running = asyncio.create_task(grouped())
    await asyncio.sleep(1)
    running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait({running})
    assert running.cancelled()
    assert len(lost) == 2


async def test_what_work_raises_is_raised() -> None:
    async def work() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await to_its_end(work(), name="work")


@pytest.mark.looptime
async def test_failing_work_is_started_again_and_its_end_ends_all() -> None:
    attempts = []

    async def work() -> None:
        attempts.append(asyncio.get_running_loop().time())
        if len(attempts) < 4:
            raise RuntimeError("a defect")

    await supervise("test", work)
    assert len(attempts) == 4
    assert attempts == sorted(attempts)
    assert attempts[1] > attempts[0]


@pytest.mark.looptime
async def test_waits_begin_anew_after_a_healthy_while() -> None:
    ends: list[float] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        if ends:
            waits.append(started - ends[-1])
        if len(ends) == 6:
            return
        await asyncio.sleep(100)
        ends.append(loop.time())
        raise RuntimeError("a defect")

    waits: list[float] = []
    await supervise("test", work, most_seconds=30)
    assert max(waits) <= 0.5


async def test_cancelled_supervision_ends() -> None:
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(supervise("test", work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_all_services_are_found_and_say_what_they_are() -> None:
    expected = {"apiserver", "hub", "controller", "device", "meta", "edged", "twin"}
    assert expected <= set(find_services())
    plugins = {plugin.name: plugin for plugin in load_plugins(sorted(expected))}
    assert {name for name, plugin in plugins.items() if plugin.side == "edge"} == {
        "meta",
        "edged",
        "twin",
    }
    assert all(plugin.summary for plugin in plugins.values())


def test_unknown_service_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownServiceError, match=r"no service 'hbu'; installed are: .*hub"):
        load_plugins(["hbu"])


def test_settings_are_shown_without_secrets() -> None:
    settings = EdgeSettings(
        node_name="edge-1", amqp_url=SecretStr("amqp://u:pw@h/"), data_dir=Path("/d")
    )
    shown = describe(settings)
    assert shown["amqp_url"] == "***"
    assert shown["data_dir"] == "/d"
    assert "pw" not in str(shown)


@pytest.mark.parametrize("name", ["", "UPPER", "-x", "a_b", "x" * 300])
def test_node_name_that_kubernetes_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="node_name"):
        EdgeSettings(node_name=name)


def test_settings_that_are_missing_or_wrong_stop_the_start_and_are_all_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedge_cli", "run", "meta", "hub"],
        env={"PATH": os.environ["PATH"], "FEDGE_HUB_HTTP_PORT": "none"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "FEDGE_EDGE_NODE_NAME" in done.stderr


def test_service_ends_at_once_on_sigterm(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "fedge_cli", "run", "meta"],
        env={
            "PATH": os.environ["PATH"],
            "FEDGE_EDGE_NODE_NAME": "edge-1",
            "FEDGE_EDGE_DATA_DIR": str(tmp_path),
            "FEDGE_EDGE_AMQP_URL": "amqp://127.0.0.1:9/",
        },
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if '"starting"' in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(timeout=30) == 0
    assert '"stopped"' in rest
    assert "Traceback" not in rest
