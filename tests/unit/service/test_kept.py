"""Settings that were changed from afar: tried out, kept, or taken back by themselves."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedge_service import KeptSettings
from fedge_service._kept import FILE, MOST_STARTS

OLD, NEW = {"FEDGE_LOG_LEVEL": "info"}, {"FEDGE_LOG_LEVEL": "debug"}


@pytest.fixture
def kept(tmp_path: Path) -> KeptSettings:
    kept = KeptSettings(tmp_path)
    kept.try_out(OLD, id="first")
    kept.keep()
    return kept


def test_change_holds_once_it_is_kept(kept: KeptSettings, tmp_path: Path) -> None:
    kept.try_out(NEW, id="second")
    assert KeptSettings(tmp_path).begin() == NEW
    kept.keep()
    again = KeptSettings(tmp_path)
    assert again.begin() == NEW
    assert again.outcome is not None
    assert (again.outcome.id, again.outcome.reason) == ("second", "")
    assert again.trial is None
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_change_that_is_taken_back_leaves_the_one_before(
    kept: KeptSettings, tmp_path: Path
) -> None:
    kept.try_out(NEW, id="second")
    kept.take_back("not ready")
    again = KeptSettings(tmp_path)
    assert again.begin() == OLD
    assert again.outcome is not None
    assert (again.outcome.id, again.outcome.reason) == ("second", "not ready")


def test_change_under_which_processes_end_is_taken_back(kept: KeptSettings, tmp_path: Path) -> None:
    kept.try_out(NEW, id="second")
    begun = [KeptSettings(tmp_path).begin() for _ in range(MOST_STARTS + 1)]
    assert begun == [NEW] * MOST_STARTS + [OLD]
    assert "ended 3 times" in (kept.outcome.reason if kept.outcome else "")


def test_change_upon_one_that_is_tried_out_falls_back_to_what_held(kept: KeptSettings) -> None:
    kept.try_out(NEW, id="second")
    kept.try_out({"FEDGE_LOG_LEVEL": "error"}, id="third")
    kept.take_back("not ready")
    assert kept.values == OLD


def test_file_that_cannot_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{not json")
    assert KeptSettings(tmp_path).begin() == {}


SERVICE = """
import asyncio, json, os, signal, sys
import fedge_service._running as running
from fedge_service import ServicePlugin, ServiceSettings
from pydantic_settings import SettingsConfigDict

class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="FEDGE_TOY_")
    size: int = 1
    other: str = ""

async def run(settings, ready):
    print(json.dumps([os.getpid(), settings.size, settings.other]), flush=True)
    if settings.size == 13:
        await asyncio.sleep(3600)
    ready()
    await asyncio.sleep(3600)

plugin = ServicePlugin(name="toy", side="edge", summary="", settings=Settings, run=run)
running.load_plugins = lambda names: [plugin]
running.READY_SECONDS, running.STEADY_SECONDS = 0.5, 0.05
running.run_services(["toy"])
"""


class Toy:
    """A service in a process, which says its pid and its settings whenever it begins."""

    def __init__(self, folder: Path) -> None:
        self.kept = KeptSettings(folder)
        script = folder / "toy.py"
        script.write_text(SERVICE)
        environment = {
            **os.environ,
            "FEDGE_EDGE_DATA_DIR": str(folder),
            "FEDGE_TOY_SIZE": "2",
            "FEDGE_TOY_OTHER": "of the environment",
        }
        self.process = subprocess.Popen(
            [sys.executable, script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def says(self) -> list[object]:
        assert self.process.stdout is not None
        said: list[object] = json.loads(self.process.stdout.readline())
        return said

    def change(self, **values: str) -> None:
        self.kept.try_out(
            {f"FEDGE_TOY_{name.upper()}": each for name, each in values.items()}, id="x"
        )
        self.process.send_signal(signal.SIGHUP)

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


@pytest.mark.timeout(60)
def test_process_begins_anew_in_its_place_and_takes_back_what_does_not_work(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    try:
        pid = toy.process.pid
        assert toy.says() == [pid, 2, "of the environment"]
        toy.change(size="3")
        assert toy.says() == [pid, 3, "of the environment"]
        while toy.kept.trial is not None:
            time.sleep(0.01)
        # never ready
        toy.change(size="13")
        assert toy.says() == [pid, 13, "of the environment"]
        assert toy.says() == [pid, 3, "of the environment"]
        assert toy.kept.outcome is not None
        assert toy.kept.outcome.reason == "toy not ready within 0.5 s"
        # not even read
        toy.change(size="much")
        assert toy.says() == [pid, 3, "of the environment"]
        assert "do not take them" in toy.kept.outcome.reason
        assert toy.process.poll() is None
    finally:
        toy.end()
