"""What a container has to say about its end.

https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

import os
from pathlib import Path

import structlog

log = structlog.stdlib.get_logger("fedge.edged")

MOST_BYTES = 4096
MOST_LOG_BYTES = 2048
MOST_LOG_LINES = 80
FROM_LOGS = "FallbackToLogsOnError"


def termination_message(message: Path, container_log: Path, *, policy: str, exit_code: int) -> str:
    """Return the text that a container left; empty if it left none.

    Args:
        message: the file of the node that it saw at its ``terminationMessagePath``.
        container_log: its log in the CRI format.
        policy: its ``terminationMessagePolicy``.
        exit_code: how it ended.
    """
    try:
        text = _head(message)
        if not text and policy == FROM_LOGS and exit_code != 0:
            text = _last_lines(container_log)
    except OSError as exc:
        log.info("termination_message_unreadable", path=str(message), reason=str(exc))
        return ""
    return text.decode(errors="replace")


def _head(path: Path) -> bytes:
    # the container may have put anything there: a link would lead out of it, a pipe never end
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MOST_BYTES)


def _last_lines(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            # each line bears a time, a stream and a mark beside its text
            file.seek(max(0, size - MOST_LOG_BYTES - MOST_LOG_LINES * 64))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return b""
    text = b""
    for line in lines[-MOST_LOG_LINES:]:
        time, _, rest = line.partition(b" ")
        stream, _, rest = rest.partition(b" ")
        mark, _, said = rest.partition(b" ")
        if not time or stream not in {b"stdout", b"stderr"}:
            continue  # the first line may be cut
        text += said + (b"" if mark.startswith(b"P") else b"\n")
    return text[-MOST_LOG_BYTES:]
