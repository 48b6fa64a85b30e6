"""Containers' logs, as the runtime wrote them.

Each line is ``time stream tag text`` with the tag ``F`` for a whole line and ``P`` for a part
(https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md).
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

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
                limit_bytes=min(int(query.get("limitBytes", MAX_BYTES)), MAX_BYTES),
            )
        except ValueError as exc:
            raise LogError(400, f"log options: {exc}") from exc


def read_log(path: Path, options: LogOptions) -> str:
    """Return the wanted part of a log.

    Raises:
        LogError: 404, there is no log.
    """
    lines: deque[str] = deque(maxlen=options.tail_lines)
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines.extend(_wanted(file, options))
    except FileNotFoundError as exc:
        raise LogError(404, f"no log at {path}: the container has not started yet") from exc
    text = "".join(lines)
    encoded = text.encode()
    if len(encoded) <= options.limit_bytes:
        return text
    return encoded[: options.limit_bytes].decode(errors="ignore")


def _wanted(file: Iterator[str], options: LogOptions) -> Iterator[str]:
    for line in file:
        stamp, _, rest = line.partition(" ")
        _stream, _, rest = rest.partition(" ")
        tag, _, text = rest.partition(" ")
        if options.since is not None and _time(stamp) < options.since:
            continue
        if tag.startswith("P"):
            text = text.removesuffix("\n")
        yield f"{stamp} {text}" if options.timestamps else text


def _time(stamp: str) -> datetime:
    try:
        return datetime.fromisoformat(stamp).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
