"""Begun requests: known ever after, whatever the clock does, in a file that stays small."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from fedge_fabric import UnavailableError
from fedge_store import BegunRequests
from fedge_store._begun import KEEP_ROWS, KEEP_SECONDS

NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edge" / "begun.db"


async def test_request_is_begun_once_and_known_after_a_restart(path: Path) -> None:
    assert await BegunRequests(path).begin("r", NOW) is None
    again = BegunRequests(path)
    assert await again.begin("r", NOW + 5) == NOW
    assert await again.all() == {"r": NOW}


async def test_one_of_many_at_once_begins_a_request(path: Path) -> None:
    begun = BegunRequests(path)
    told = await asyncio.gather(*(begun.begin("r", NOW + each) for each in range(16)))
    assert told.count(None) == 1


async def test_looking_makes_no_file(path: Path) -> None:
    assert await BegunRequests(path).all() == {}
    assert not path.parent.exists()


async def test_old_requests_are_forgotten_but_never_the_newest(path: Path) -> None:
    begun = BegunRequests(path)
    for number in range(KEEP_ROWS + 2):
        await begun.begin(f"old-{number}", NOW)
    assert len(await begun.all()) == KEEP_ROWS + 2  # none is old yet
    await begun.begin("new", NOW + KEEP_SECONDS + 1)
    known = await begun.all()
    assert list(known) == [f"old-{number}" for number in range(3, KEEP_ROWS + 2)] + ["new"]


@pytest.mark.parametrize("jump", [-20 * 365 * 86400.0, 20 * 365 * 86400.0])
async def test_clock_that_jumps_makes_no_request_new(path: Path, jump: float) -> None:
    begun = BegunRequests(path)
    await begun.begin("before", NOW)
    await begun.begin("after", NOW + jump)
    assert await begun.begin("before", NOW + jump) == NOW


@pytest.fixture
def damaged(path: Path) -> Path:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 1000)
    return path


async def test_damaged_file_is_set_aside_and_the_request_at_hand_refused(damaged: Path) -> None:
    begun = BegunRequests(damaged)
    with pytest.raises(UnavailableError, match=r"begun\.db takes nothing now"):
        await begun.begin("r", NOW)
    [aside] = damaged.parent.glob("begun.db.damaged-*")
    assert aside.stat().st_size == len(b"no database" * 1000)
    assert await begun.begin("another", NOW) is None


async def test_file_of_a_newer_fedge_is_left_alone(path: Path) -> None:
    begun = BegunRequests(path)
    await begun.begin("r", NOW)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(UnavailableError, match="run the newer fedge again, or remove the file"):
        await begun.begin("other", NOW)
