"""Containers' logs, as the runtime wrote them.

Each line is ``time stream tag text`` with the tag ``F`` for a whole line and ``P`` for a part
(https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md).
"""

import gzip
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Self

BLOCK_BYTES = 64 * 1024
"""How much of a log is held in memory at a time."""


class LogError(Exception):
    """No log can be read; the code is HTTP's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What of a log is wanted (``PodLogOptions``)."""

    tail_lines: int | None = None
    since: datetime | None = None
    timestamps: bool = False
    previous: bool = False
    follow: bool = False
    limit_bytes: int | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str], now: datetime) -> Self:
        """Read the options as they stand in the URL of the API.

        Raises:
            LogError: 400, one of them is wrong or not served.
        """
        try:
            since = None
            if "sinceSeconds" in query:
                since = now - timedelta(seconds=int(query["sinceSeconds"]))
            elif "sinceTime" in query:
                since = datetime.fromisoformat(query["sinceTime"])
                if since.tzinfo is None:
                    raise LogError(400, "sinceTime must say its time zone, e.g. end with Z")
            tail = int(query["tailLines"]) if "tailLines" in query else None
            if tail is not None and tail < 0:
                raise LogError(400, "tailLines must be greater than or equal to 0")
            limit = int(query["limitBytes"]) if "limitBytes" in query else None
            if limit is not None and limit < 1:
                raise LogError(400, "limitBytes must be greater than 0")
            return cls(
                tail_lines=tail,
                since=since,
                timestamps=query.get("timestamps") == "true",
                previous=query.get("previous") == "true",
                follow=query.get("follow") == "true",
                limit_bytes=limit,
            )
        except (ValueError, TypeError, OverflowError) as exc:
            raise LogError(400, f"log options: {exc}") from exc


class Limit:
    """Cuts a text that comes in pieces after so many bytes."""

    def __init__(self, most_bytes: int | None) -> None:
        self._left = most_bytes

    @property
    def is_reached(self) -> bool:
        """Whether nothing more may come."""
        return self._left == 0

    def cut(self, text: str) -> str:
        """Return as much of the next piece as is allowed."""
        if self._left is None:
            return text
        encoded = text.encode()
        if len(encoded) < self._left:
            self._left -= len(encoded)
            return text
        allowed, self._left = encoded[: self._left], 0
        return allowed.decode(errors="ignore")


class Log:
    """A log that may still be written: what is there first, then what comes."""

    def __init__(self, path: Path, options: LogOptions) -> None:
        """Open it.

        Raises:
            LogError: 404, there is no log.
        """
        self._path = path
        self._options = options
        self._rest = b""
        self._file = _opened(path)
        self._older = [part for part in rotated_files(path) if not self._holds(part)]
        self._newest_part = part_time(self._older[-1]) if self._older else ""
        if self._file is None and not self._older:
            raise LogError(404, f"no log at {path}: the container has not started yet")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def first(self) -> Iterator[str]:
        """Yield what is there and wanted, piece by piece."""
        lacking = self._options.tail_lines
        if lacking is not None and self._file is not None:
            lacking -= _seek_last_lines(self._file, lacking)
        for last in _last_of(self._older, lacking):
            yield self._text(last)
        if self._file is not None:
            for lines in self._new_lines(self._file):
                yield self._text(lines)

    def more(self) -> Iterator[str]:
        """Yield what was written since, in whole lines; nothing if nothing was."""
        if self._file is not None:
            for lines in self._new_lines(self._file):
                yield self._text(lines)
        if not self._was_rotated():
            return
        held = self._file is not None
        if self._file is not None:
            with self._file:
                for lines in self._new_lines(self._file):  # the last that was written before
                    yield self._text(lines)
        self._file, self._rest = _opened(self._path), b""
        newer = [
            part
            for part in rotated_files(self._path)
            if part_time(part) > self._newest_part and not self._holds(part)
        ]
        if newer:
            self._newest_part = part_time(newer[-1])
        for part in newer[1:] if held else newer:  # the first is what was held
            for lines in _blocks_of(part):
                yield self._text(lines)
        if self._file is not None:
            for lines in self._new_lines(self._file):
                yield self._text(lines)

    def _holds(self, part: Path) -> bool:
        """Whether a part is what is being read: it was rotated after it had been opened."""
        try:
            return self._file is not None and os.path.samestat(
                part.stat(), os.fstat(self._file.fileno())
            )
        except FileNotFoundError:
            return False

    def _was_rotated(self) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False  # it is just being rotated
        return self._file is None or not os.path.samestat(now, os.fstat(self._file.fileno()))

    def _new_lines(self, file: BinaryIO) -> Iterator[list[bytes]]:
        while block := file.read(BLOCK_BYTES):
            *whole, self._rest = (self._rest + block).split(b"\n")
            yield whole

    def _text(self, lines: Iterable[bytes]) -> str:
        texts = (_wanted(line.decode(errors="replace"), self._options) for line in lines)
        return "".join(text for text in texts if text is not None)


def rotated_files(path: Path) -> list[Path]:
    """Return the older parts of a log, the oldest first.

    Their names are the log's with the time of the rotation, and ``.gz`` if they are compressed.
    A part that is there in both ways was just being compressed: it counts once.
    """
    names = {
        each.name.removeprefix(f"{path.name}."): each for each in path.parent.glob(f"{path.name}.*")
    }
    times = {name.removesuffix(".gz") for name in names}
    return [names.get(time) or names[f"{time}.gz"] for time in sorted(times) if time.isdecimal()]


def part_time(part: Path) -> str:
    """Return when a part was rotated, as its name says."""
    return part.name.removesuffix(".gz").rpartition(".")[2]


def remove_log(path: Path) -> None:
    """Remove a log and its parts."""
    for part in (*path.parent.glob(f"{path.name}.*"), path):
        part.unlink(missing_ok=True)


def _opened(path: Path) -> BinaryIO | None:
    """Open a part of a log; None if it is not there."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _last_of(parts: list[Path], lacking: int | None) -> Iterator[Iterable[bytes]]:
    """Yield the last lines of the older parts; all of them if None are lacking."""
    if lacking is None:
        for part in parts:
            yield from _blocks_of(part)
        return
    found: deque[Iterable[bytes]] = deque()
    for part in reversed(parts):
        if lacking == 0:
            break
        last = deque((line for lines in _blocks_of(part) for line in lines), maxlen=lacking)
        lacking -= len(last)
        found.appendleft(last)
    yield from found


def _blocks_of(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a part that is written no more; none if it was removed meanwhile."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    file: BinaryIO | gzip.GzipFile | None = _opened(plain)
    if file is None:
        try:
            file = gzip.open(plain.with_name(f"{plain.name}.gz"))  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return
    rest = b""
    with file:
        while block := file.read(BLOCK_BYTES):
            *whole, rest = (rest + block).split(b"\n")
            yield whole
    if rest:
        yield [rest]


def _seek_last_lines(file: BinaryIO, wanted: int) -> int:
    """Go to where the last whole lines begin, from the end; return how many there are."""
    start, needed, found = file.seek(0, os.SEEK_END), wanted + 1, 0
    while start > 0:
        size = min(BLOCK_BYTES, start)
        start -= size
        file.seek(start)
        block = file.read(size)
        count = block.count(b"\n")
        if found + count >= needed:
            end = size
            for _ in range(needed - found):
                end = block.rindex(b"\n", 0, end)
            file.seek(start + end + 1)
            return wanted
        found += count
    file.seek(0)
    return found


def _wanted(line: str, options: LogOptions) -> str | None:
    stamp, _, rest = line.partition(" ")
    _stream, _, rest = rest.partition(" ")
    tag, _, text = rest.partition(" ")
    if options.since is not None and _time(stamp) < options.since:
        return None
    end = "" if tag.startswith("P") else "\n"
    return f"{stamp} {text}{end}" if options.timestamps else f"{text}{end}"


def _time(stamp: str) -> datetime:
    try:
        return datetime.fromisoformat(stamp).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
