"""Messages in: changes that meta stored, and requests of hub."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from fedge_edged.execs import Execs
from fedge_edged.logs import Log, LogError, LogOptions, read_log
from fedge_edged.node_pods import NodePods
from fedge_edged.specs import Specs
from fedge_edged.streams import Stream, Streams
from fedge_fabric import (
    Address,
    Envelope,
    InvalidError,
    MalformedError,
    MessageClass,
    change_of,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import Change, NodeName

RESOURCES = ("pods", "configmaps", "secrets", "serviceaccounts", "nodes")
PIECE_CHARACTERS = 256 * 1024
FOLLOW_SECONDS = 0.25
"""How often a log that is followed is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Which log is asked for, how, and whether somebody still writes to it."""

    path: Path
    options: LogOptions
    is_running: Callable[[], bool]


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(
        self,
        *,
        node: NodeName,
        pods: NodePods,
        specs: Specs,
        execs: Execs,
        fabric: Fabric,
        take: Callable[[Change], None],
        report_all: Callable[[], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._streams = Streams(self._publish, tasks)
        self._take = take
        self._report_all = report_all
        self._node = node
        self._pods = pods
        self._specs = specs
        self._execs = execs
        self._fabric = fabric

    def subscribe(self) -> None:
        """Take part in all of edged's queues."""
        self._fabric.subscribe(t.local_objects("edged", RESOURCES), self.on_change)
        self._fabric.subscribe(
            t.edge_request("edged", self._node, ("logs", "exec", "stream", "inventory")),
            self.on_request,
        )

    async def on_change(self, delivery: Delivery) -> None:
        """Take an object or its tombstone."""
        self._take(change_of(delivery.envelope))

    async def on_request(self, delivery: Delivery) -> None:
        """Answer a request."""
        match delivery.envelope.type:
            case kinds.INVENTORY_ASKED:
                self._report_all()
            case kinds.LOGS_ASKED:
                await self._logs(delivery.envelope)
            case kinds.EXEC_ASKED:
                await self._exec(delivery.envelope)
            case kinds.STREAM_HEARD:
                self._streams.hear(delivery.envelope.subject, _data_of(delivery.envelope))
            case other:
                raise InvalidError(f"message type {other!r} is no request to edged")

    async def _logs(self, request: Envelope) -> None:
        data = _data_of(request)
        try:
            asked = self._asked(data)
            if asked.options.follow:
                self._streams.open(request.id, partial(self._follow, asked))
                return
            text, status = await asyncio.to_thread(read_log, asked.path, asked.options), 200
        except LogError as exc:
            text, status = f"{exc}\n", exc.code
        except (KeyError, AttributeError) as exc:
            raise MalformedError(f"a request for logs without {exc}") from exc
        pieces = _pieces(text)
        for index, piece in enumerate(pieces):
            answer = {"status": status, "body": piece, "index": index}
            await self._publish(request.id, {**answer, "last": index == len(pieces) - 1})

    async def _exec(self, request: Envelope) -> None:
        try:
            asked = self._execs.asked(_data_of(request))
        except LogError as exc:
            refusal = {"status": exc.code, "body": f"{exc}\n", "index": 0, "last": True}
            await self._publish(request.id, refusal)
        except (KeyError, AttributeError) as exc:
            raise MalformedError(f"a request to run a command without {exc}") from exc
        else:
            self._streams.open(request.id, partial(self._execs.run, asked))

    async def _publish(self, request_id: str, data: Mapping[str, Any]) -> None:
        await self._fabric.publish(
            Envelope(
                type=kinds.ANSWERED,
                source=f"/node/{self._node}/edged",
                subject=request_id,
                data=dict(data),
            ),
            exchange=t.UP,
            routing_key=str(Address(self._node, MessageClass.REQUEST, ("answer",))),
        )

    async def _follow(self, asked: _Asked, stream: Stream) -> None:
        """Send a log and what comes, until its container has ended."""
        try:
            log = await asyncio.to_thread(Log, asked.path, asked.options)
        except LogError as exc:
            await stream.send({"status": exc.code, "body": f"{exc}\n"}, last=True)
            return
        with log:
            text = await asyncio.to_thread(log.first)
            while True:
                for piece in _pieces(text):
                    await stream.send({"body": piece})
                is_running = asked.is_running()
                text = await asyncio.to_thread(log.more)
                if not text and not is_running:
                    break
                if not text:
                    await asyncio.sleep(FOLLOW_SECONDS)
        await stream.send({"body": ""}, last=True)

    def _asked(self, data: Mapping[str, Any]) -> _Asked:
        namespace, name = str(data["namespace"]), str(data["pod"])
        container, query = str(data["container"]), data["options"]
        if not isinstance(query, dict):
            raise MalformedError("a request for logs without options")
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
        return _Asked(
            path=folder / container / f"{attempts[index].attempt}.log",
            options=options,
            is_running=lambda: any(each.id == container_id for each in observed.running()),
        )


def _pieces(text: str) -> list[str]:
    """Return a text in parts that a message may carry; at least one."""
    return [
        text[start : start + PIECE_CHARACTERS]
        for start in range(0, max(1, len(text)), PIECE_CHARACTERS)
    ]


def _data_of(request: Envelope) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise MalformedError(f"a message {request.type} without data")
    return request.data
