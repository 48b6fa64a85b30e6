"""What is remembered about faults, and which may be at once."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fedge_local.errors import FaultError
from fedge_local.fault_records import FaultBook, FaultKind, FaultRecord
from fedge_local.processes import Process


def record(where: str, kind: FaultKind, what: str = "") -> FaultRecord:
    return FaultRecord(where=where, kind=kind, what=what, owner=Process.of(os.getpid()))


SLOW = record("gw-1", FaultKind.SLOW)


@pytest.fixture
def book(tmp_path: Path) -> FaultBook:
    return FaultBook(tmp_path / "faults")


def test_faults_are_found_by_another_command_until_they_are_forgotten(
    book: FaultBook, tmp_path: Path
) -> None:
    slow = replace(SLOW, detour_port=4711)
    lossy = replace(record("gw-1", FaultKind.LOSSY), loss_percent=0.5)
    for each in (slow, lossy):
        book.add(each)
    other = FaultBook(tmp_path / "faults")
    assert other.all() == [lossy, slow]
    other.forget(lossy)
    other.forget(lossy)
    assert book.all() == [slow]


def test_nothing_is_remembered_where_nothing_was_made(book: FaultBook) -> None:
    assert book.all() == []


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        (SLOW, SLOW, True),
        (SLOW, record("gw-2", FaultKind.SLOW), False),
        (SLOW, record("gw-1", FaultKind.LOSSY), False),
        (record("c", FaultKind.KILL, "hub"), record("c", FaultKind.KILL, "redis"), False),
        (record("c", FaultKind.KILL, "hub"), record("c", FaultKind.PAUSE, "hub"), True),
        (record("c", FaultKind.KILL, "all"), record("c", FaultKind.PAUSE, "broker"), True),
        (record("c", FaultKind.PAUSE, "broker"), record("c", FaultKind.KILL, "all"), True),
        (record("c", FaultKind.KILL, "all"), record("c", FaultKind.CUT), False),
    ],
)
def test_faults_that_cannot_be_at_once_exclude_each_other(
    book: FaultBook, one: FaultRecord, other: FaultRecord, excluded: bool
) -> None:
    book.add(one)
    if excluded:
        with pytest.raises(FaultError, match=f"there is {one} already, made by process"):
            book.add(other)
        assert book.all() == [one]
    else:
        book.add(other)
        assert len(book.all()) == 2


def test_fault_of_a_process_that_is_gone_was_left_behind() -> None:
    assert not SLOW.is_left_behind
    assert replace(SLOW, owner=replace(SLOW.owner, start_ticks=0)).is_left_behind


def test_file_that_is_not_ours_is_an_error_with_a_remedy(book: FaultBook, tmp_path: Path) -> None:
    book.add(SLOW)
    (tmp_path / "faults" / "gw-1" / "slow.json").write_text("{}")
    with pytest.raises(FaultError, match="remove it"):
        book.all()


async def test_fault_is_healed_by_one_of_two_who_try_at_once(book: FaultBook) -> None:
    book.add(SLOW)
    healed = 0

    async def heal() -> None:
        nonlocal healed
        async with book.healing(SLOW) as is_ours:
            if is_ours:
                await asyncio.sleep(0)
                healed += 1
                book.forget(SLOW)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(heal())
    assert healed == 1
