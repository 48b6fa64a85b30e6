"""Logs: rotated when they grow, read over their parts, followed while they are written."""

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedge_cri import RuntimeFaultError, UnavailableError
from fedge_cri.fake import FakeRuntime
from fedge_edged.log_rotation import LogRotation, RunningLog
from fedge_edged.logs import Log, LogOptions, remove_log, rotated_files
from tests.unit.edged.kit import Clock, read_log

LINES = 50


def line(number: int) -> str:
    return f"2027-01-01T00:00:{number % 60:02}.0Z stdout F line {number}\n"


class Writer(FakeRuntime):
    """A runtime that writes one log, as real ones do: to the file it opened."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.written = 0
        self.reopened = 0
        self.error: RuntimeFaultError | None = None
        self.file = path.open("a")

    def write(self, lines: int = LINES) -> None:
        for _ in range(lines):
            self.file.write(line(self.written))
            self.written += 1
        self.file.flush()

    async def reopen_log(self, container_id: str) -> None:
        assert container_id == "c"
        if self.error is not None:
            raise self.error
        self.reopened += 1
        self.file.close()
        self.file = self.path.open("a")

    def close(self) -> None:
        self.file.close()

    def expected(self, first: int = 0) -> str:
        return "".join(f"line {number}\n" for number in range(first, self.written))


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path / "0.log")
    with contextlib.closing(writer):
        yield writer


def rotation(writer: Writer, clock: Clock, *, max_files: int = 3) -> LogRotation:
    return LogRotation(
        runtime=writer,
        clock=clock,
        running=lambda: [RunningLog(container_id="c", path=writer.path)],
        max_bytes=1000,
        max_files=max_files,
    )


async def rotate(rotation: LogRotation, writer: Writer, clock: Clock) -> None:
    clock.time += 10
    await rotation.look_at(RunningLog(container_id="c", path=writer.path))


async def test_nothing_is_lost_and_no_more_parts_are_kept_than_wanted(writer: Writer) -> None:
    clock = Clock()
    rotating = rotation(writer, clock)
    for kept in (1, 2, 2, 2):
        writer.write()
        await rotate(rotating, writer, clock)
        assert len(rotated_files(writer.path)) == kept
    writer.write(3)
    # two parts and what is being written
    assert read_log(writer.path, LogOptions()) == writer.expected(first=2 * LINES)
    assert [each.suffix == ".gz" for each in rotated_files(writer.path)] == [True, False]


async def test_as_many_parts_are_kept_as_wanted(writer: Writer) -> None:
    clock = Clock()
    rotating = rotation(writer, clock, max_files=5)
    for kept in (1, 2, 3, 4, 4):
        writer.write()
        await rotate(rotating, writer, clock)
        assert len(rotated_files(writer.path)) == kept
    assert read_log(writer.path, LogOptions()) == writer.expected(first=LINES)


async def test_small_log_is_left_alone(writer: Writer) -> None:
    writer.write(3)
    await rotate(rotation(writer, Clock()), writer, Clock())
    assert writer.reopened == 0


async def test_runtime_that_does_not_open_a_new_log_keeps_the_old(writer: Writer) -> None:
    clock = Clock()
    rotating = rotation(writer, clock)
    writer.write()
    writer.error = UnavailableError("away")
    with pytest.raises(UnavailableError):
        await rotate(rotating, writer, clock)
    writer.write(2)
    assert read_log(writer.path, LogOptions()) == writer.expected()


async def test_rotation_that_was_cut_is_finished(writer: Writer) -> None:
    clock = Clock()
    writer.write()
    writer.path.rename(writer.path.with_name("0.log.000000000000001"))  # killed right here
    writer.write(5)
    await rotate(rotation(writer, clock), writer, clock)
    writer.write(5)
    assert writer.reopened == 1
    assert read_log(writer.path, LogOptions()) == writer.expected()


async def test_tail_reaches_into_older_parts(writer: Writer) -> None:
    clock = Clock()
    rotating = rotation(writer, clock, max_files=5)
    for _ in range(3):
        writer.write()
        await rotate(rotating, writer, clock)
    writer.write(3)
    options = LogOptions(tail_lines=LINES + 10)
    assert read_log(writer.path, options) == writer.expected(first=writer.written - LINES - 10)
    assert read_log(writer.path, LogOptions(tail_lines=2)) == writer.expected(writer.written - 2)


async def test_follower_misses_nothing_when_the_log_is_rotated(writer: Writer) -> None:
    clock = Clock()
    rotating = rotation(writer, clock)
    writer.write()
    with Log(writer.path, LogOptions(tail_lines=1)) as log:
        text = "".join(log.first())
        assert text == writer.expected(first=LINES - 1)
        for _ in range(3):
            writer.write()
            await rotate(rotating, writer, clock)
            writer.write(2)
            text += "".join(log.more())
        assert "".join(log.more()) == ""
    assert text == writer.expected(first=LINES - 1)


def test_follower_waits_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    whole = line(1)
    path.write_text(whole[:30])
    with Log(path, LogOptions()) as log:
        assert "".join(log.first()) == ""
        with path.open("a") as file:
            file.write(whole[30:])
        assert "".join(log.more()) == "line 1\n"


def test_compressed_part_whose_source_was_not_removed_yet_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(line(2))
    part = tmp_path / "0.log.000000000000001"
    part.write_text(line(1))
    (tmp_path / f"{part.name}.gz").write_bytes(gzip.compress(line(1).encode()))
    assert read_log(path, LogOptions()) == "line 1\nline 2\n"


def test_cut_rotation_of_a_container_that_has_ended_leaves_its_log_readable(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    (tmp_path / "0.log.000000000000001").write_text(line(1))
    assert read_log(path, LogOptions()) == "line 1\n"
    assert read_log(path, LogOptions(tail_lines=1)) == "line 1\n"


async def test_slow_follower_misses_nothing_when_the_log_is_rotated_twice(writer: Writer) -> None:
    clock = Clock()
    rotating = rotation(writer, clock, max_files=5)
    writer.write()
    await rotate(rotating, writer, clock)
    writer.write(3)
    with Log(writer.path, LogOptions()) as log:
        text = "".join(log.first())
        for _ in range(3):
            writer.write()
            await rotate(rotating, writer, clock)
        writer.write(2)
        text += "".join(log.more())
        writer.write(2)
        text += "".join(log.more())
    assert text == writer.expected()


async def test_log_that_is_rotated_while_it_is_opened_is_read_once(writer: Writer) -> None:
    clock = Clock()
    writer.write()
    with Log(writer.path, LogOptions()) as log:
        await rotate(rotation(writer, clock), writer, clock)
        writer.write(2)
        text = "".join(log.first()) + "".join(log.more())
    assert text == writer.expected()


@pytest.mark.parametrize("wanted", [0, 1, 2, 699, 700, 701, 4999, 5000, 5001])
def test_tail_is_read_from_the_end(tmp_path: Path, wanted: int) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(line(number) for number in range(5000)) + line(5000)[:-1])
    expected = "".join(f"line {number}\n" for number in range(max(0, 5000 - wanted), 5000))
    assert read_log(path, LogOptions(tail_lines=wanted)) == expected


def test_log_is_removed_with_its_parts(tmp_path: Path) -> None:
    kept = tmp_path / "10.log"
    for name in ("0.log", "0.log.1.gz", "0.log.2", "0.log.2.tmp", kept.name):
        (tmp_path / name).write_text("x")
    remove_log(tmp_path / "0.log")
    assert list(tmp_path.iterdir()) == [kept]
