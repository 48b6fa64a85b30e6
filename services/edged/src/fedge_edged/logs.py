"""Containers' logs, as the runtime wrote them.

Each line is ``time stream tag text`` with the tag ``F`` for a whole line and ``P`` for a part
(https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md).
"""

import gzip
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Self

MAX_BYTES = 4 * 1024 * 1024
"""The most that one answer carries."""


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
    limit_bytes: int = MAX_BYTES

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
            return cls(
                tail_lines=tail,
                since=since,
                timestamps=query.get("timestamps") == "true",
                previous=query.get("previous") == "true",
                follow=query.get("follow") == "true",
                limit_bytes=min(int(query.get("limitBytes", MAX_BYTES)), MAX_BYTES),
            )
        except ValueError as exc:
            raise LogError(400, f"log options: {exc}") from exc


def read_log(path: Path, options: LogOptions) -> str:
    """Return the wanted part of a log, over its rotated files.

    Raises:
        LogError: 404, there is no log.
    """
    with Log(path, options) as log:
        text = log.first()
    encoded = text.encode()
    if len(encoded) <= options.limit_bytes:
        return text
    return encoded[: options.limit_bytes].decode(errors="ignore")


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
        try:
            self._file = path.open("rb")
        except FileNotFoundError as exc:
            raise LogError(404, f"no log at {path}: the container has not started yet") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def first(self) -> str:
        """Return what is there and wanted."""
        current = self._new_lines(self._file)
        tail = self._options.tail_lines
        newest_first = [self._texts(current)]
        count = len(newest_first[0])
        for old in reversed(rotated_files(self._path)):
            if tail is not None and count >= tail:
                break  # what is older is not wanted
            newest_first.append(self._texts(_lines_of(old)))
            count += len(newest_first[-1])
        lines = [line for texts in reversed(newest_first) for line in texts]
        return "".join(lines if tail is None else lines[len(lines) - min(tail, len(lines)) :])

    def more(self) -> str:
        """Return what was written since, in whole lines; empty if nothing was."""
        lines = self._new_lines(self._file)
        if self._was_rotated():
            lines += self._new_lines(self._file)  # the last that was written before
            with self._file:
                self._file = self._path.open("rb")
            self._rest = b""
            lines += self._new_lines(self._file)
        return "".join(self._texts(lines))

    def _was_rotated(self) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False  # it is just being rotated

    def _new_lines(self, file: BinaryIO) -> list[bytes]:
        *whole, self._rest = (self._rest + file.read()).split(b"\n")
        return whole

    def _texts(self, lines: Iterable[bytes]) -> list[str]:
        found = []
        for line in lines:
            text = _wanted(line.decode(errors="replace"), self._options)
            if text is not None:
                found.append(text)
        return found


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


def _lines_of(path: Path) -> list[bytes]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        return []  # it was compressed or removed meanwhile
    return content.removesuffix(b"\n").split(b"\n") if content else []


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
