"""Whoever asks for a log, from the cloud or at the node itself."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedge_edged.logs import Limit, Log, LogError, LogOptions
from fedge_edged.node_pods import NodePods
from fedge_edged.specs import Specs
from fedge_edged.streams import Sink

PIECE_CHARACTERS = 256 * 1024
FOLLOW_SECONDS = 0.25
"""How often a log that is followed is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAsked:
    """Which log is asked for, how, and whether somebody still writes to it."""

    path: Path
    options: LogOptions
    is_running: Callable[[], bool]


class LogRequests:
    """Finds and follows the logs of the node's pods."""

    def __init__(self, pods: NodePods, specs: Specs) -> None:
        self._pods = pods
        self._specs = specs

    def asked(self, data: Mapping[str, Any]) -> LogAsked:
        """Return what a request asks for.

        Raises:
            LogError: there is no such log here, or the options are wrong.
            KeyError: the request lacks a field.
        """
        namespace, name = str(data["namespace"]), str(data["pod"])
        container, query = str(data["container"]), data["options"]
        if not isinstance(query, Mapping):
            raise LogError(400, "options are not an object")
        worker = self._pods.find(namespace, name)
        if worker is None or worker.pod is None:
            raise LogError(404, f'pod "{namespace}/{name}" is not on this node')
        options = LogOptions.parse(query, datetime.now(UTC))
        attempts = worker.observed.attempts_of(container)
        index = 1 if options.previous else 0
        if len(attempts) <= index:
            what = "previous terminated container" if options.previous else "container"
            raise LogError(
                400, f'{what} "{container}" in pod "{name}" not found or not started yet'
            )
        container_id, observed = attempts[index].id, worker.observed
        folder = self._specs.log_folder(namespace, name, worker.uid)
        return LogAsked(
            path=folder / container / f"{attempts[index].attempt}.log",
            options=options,
            is_running=lambda: any(each.id == container_id for each in observed.running()),
        )

    async def follow(self, asked: LogAsked, sink: Sink) -> None:
        """Send a log and, if that is asked, what comes until its container has ended."""
        try:
            log = await asyncio.to_thread(Log, asked.path, asked.options)
        except LogError as exc:
            await sink.send({"status": exc.code, "body": f"{exc}\n"}, last=True)
            return
        limit = Limit(asked.options.limit_bytes)
        is_running = True
        with log:
            coming = log.first()
            while True:
                has_come = False
                while not limit.is_reached:
                    text = await asyncio.to_thread(next, coming, None)
                    if text is None:
                        break
                    if text:
                        has_come = True
                        for piece in pieces_of(limit.cut(text)):
                            await sink.send({"body": piece})
                if limit.is_reached or not asked.options.follow:
                    break
                if not (has_come or is_running):
                    break
                if not has_come:
                    await asyncio.sleep(FOLLOW_SECONDS)
                is_running = asked.is_running()  # what it wrote before its end is still read
                coming = log.more()
        await sink.send({"body": ""}, last=True)


def pieces_of(text: str) -> list[str]:
    """Return a text in parts that a message may carry; at least one."""
    return [
        text[start : start + PIECE_CHARACTERS]
        for start in range(0, max(1, len(text)), PIECE_CHARACTERS)
    ]
