"""Messages in: changes that meta stored, and requests of hub."""

import asyncio
import base64
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog

import fedge_tracing as tracing
from fedge_edged.execs import Execs
from fedge_edged.log_requests import LogRequests
from fedge_edged.logs import LogError
from fedge_edged.once import cut
from fedge_edged.streams import Streams
from fedge_fabric import (
    Address,
    Envelope,
    InvalidError,
    MalformedError,
    MessageClass,
    UnavailableError,
    change_of,
    fields,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import Change, JsonObject, NodeName
from fedge_operations import NODE_TASKS

log = structlog.stdlib.get_logger("fedge.edged")

MOST_DEADLINE_SECONDS = 3600.0
MOST_FRAME_CHARACTERS = 1024 * 1024
RESOURCES = ("pods", "configmaps", "secrets", "serviceaccounts", "nodes", NODE_TASKS)


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(
        self,
        *,
        node: NodeName,
        log_requests: LogRequests,
        execs: Execs,
        fabric: Fabric,
        take: Callable[[Change], None],
        report_all: Callable[[], None],
        take_token: Callable[[JsonObject], None],
        take_heard: Callable[[str], None],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._streams = Streams(self._publish, tasks)
        self._take = take
        self._report_all = report_all
        self._take_token = take_token
        self._take_heard = take_heard
        self._node = node
        self._log_requests = log_requests
        self._execs = execs
        self._fabric = fabric

    def subscribe(self) -> None:
        """Take part in all of edged's queues."""
        self._fabric.subscribe(t.local_objects("edged", RESOURCES), self.on_change)
        self._fabric.subscribe(
            t.edge_request(
                "edged", self._node, ("logs", "exec", "stream", "token", "statuses", "heard")
            ),
            self.on_request,
        )

    async def on_change(self, delivery: Delivery) -> None:
        """Take an object or its tombstone."""
        self._take(change_of(delivery.envelope))

    async def on_request(self, delivery: Delivery) -> None:
        """Answer a request."""
        match delivery.envelope.type:
            case kinds.STATUSES_ASKED:
                self._report_all()
            case kinds.LOGS_ASKED:
                await self._logs(delivery.envelope)
            case kinds.EXEC_ASKED:
                await self._exec(delivery.envelope)
            case kinds.TOKEN_ISSUED:
                self._issued(_data_of(delivery.envelope))
            case kinds.NODE_HEARD:
                self._take_heard(delivery.envelope.subject)
            case kinds.STREAM_HEARD:
                self._heard(delivery.envelope.subject, _data_of(delivery.envelope))
            case other:
                raise InvalidError(f"message type {other!r} is no request to edged")

    async def _logs(self, request: Envelope) -> None:
        try:
            asked = self._log_requests.asked(_data_of(request))
        except LogError as exc:
            await self._refuse(request, exc)
        except (KeyError, AttributeError) as exc:
            raise MalformedError(f"a request for logs without {exc}") from exc
        else:
            self._streams.open(
                request.id,
                partial(self._log_requests.follow, asked),
                name="answer with log",
                traceparent=request.traceparent,
            )

    async def _exec(self, request: Envelope) -> None:
        data = _data_of(request)
        seconds = fields.number(data, "deadline_seconds", least=0, most=MOST_DEADLINE_SECONDS)
        try:
            asked = self._execs.asked(data)
        except LogError as exc:
            await self._refuse(request, exc)
        except (KeyError, AttributeError) as exc:
            raise MalformedError(f"a request to run a command without {exc}") from exc
        else:
            answer = partial(self._execs.answer, request.id, asked, seconds)
            self._streams.open(
                request.id, answer, name="answer with command", traceparent=request.traceparent
            )

    async def tell_lost(self, begun: Mapping[str, float]) -> None:
        """Tell the askers of what an edged before this one had begun that no more will come."""
        try:
            for request_id, at in begun.items():
                await self._publish(request_id, {**cut(at), "index": 0, "last": True})
        except UnavailableError as exc:
            log.warning("askers_not_told", reason=str(exc))

    async def _refuse(self, request: Envelope, error: LogError) -> None:
        refusal = {"status": error.code, "body": f"{error}\n", "index": 0, "last": True}
        await self._publish(request.id, refusal)

    def _heard(self, request_id: str, data: JsonObject) -> None:
        fields.whole(data, "seen", default=0)
        fields.flag(data, "over", default=False)
        fields.flag(data, "begin", default=False)
        try:
            if "frame" in data:
                fields.whole(data, "number")
                base64.b64decode(fields.text(data, "frame", most=MOST_FRAME_CHARACTERS))
            self._streams.hear(request_id, data)
        except ValueError as exc:
            raise MalformedError(f"an input for request {request_id!r}: {exc}") from exc

    def _issued(self, data: JsonObject) -> None:
        try:
            self._take_token(data)
        except (KeyError, ValueError, TypeError, OverflowError) as exc:
            # never with its text, which may be the token
            raise MalformedError(f"no token that can be used: {type(exc).__name__}") from None

    async def _publish(self, request_id: str, data: Mapping[str, Any]) -> None:
        if data["index"] and not data["last"]:
            # of an answer that goes on, its begin and its end are enough to see
            with tracing.untraced():
                await self._send(request_id, data)
        else:
            await self._send(request_id, data)

    async def _send(self, request_id: str, data: Mapping[str, Any]) -> None:
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


def _data_of(request: Envelope) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise MalformedError(f"a message {request.type} without data")
    return request.data
