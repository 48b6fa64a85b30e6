"""Spans of messages: one where it is sent, one where it is handled, one for a wait between them.

https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/

A message continues the trace that it comes with, or that it is sent in; none begins here.
"""

import time

from fedge_fabric.envelope import SENT, TRACEPARENT, Envelope, moment
from fedge_fabric.topology import Queue
from fedge_tracing import (
    LINK_AFTER_SECONDS,
    Active,
    Attributes,
    Cause,
    SpanKind,
    Spanning,
    Tracer,
    names,
    records,
    traceparent,
)

SHOWN_AFTER_SECONDS = 0.001
"""A shorter wait has no span of its own."""
_RABBITMQ = "rabbitmq"


class Spans:
    """The spans of one service's messages."""

    def __init__(self, service: str) -> None:
        """Take whose they are."""
        self._service = service
        self._tracer = Tracer(service)

    def sending(
        self, envelope: Envelope, exchange: str, routing_key: str, body_bytes: int
    ) -> Spanning:
        """Return the span of sending a message, below its own trace context or the current one."""
        name = f"send {exchange}"
        context = envelope.traceparent or traceparent()
        if not records(context):
            return self._tracer.child(context, name, kind=SpanKind.PRODUCER)
        now = time.time()
        self._waited(context, f"wait to {name}", envelope.since, now)
        return self._tracer.child(
            context,
            name,
            kind=SpanKind.PRODUCER,
            attributes={
                **_about(envelope, routing_key),
                names.MESSAGING_OPERATION_NAME: "send",
                names.MESSAGING_OPERATION_TYPE: "send",
                names.MESSAGING_DESTINATION_NAME: f"{exchange}:{routing_key}",
                names.MESSAGING_BODY_SIZE: body_bytes,
            },
            causes=_causes(context, envelope.since, now),
        )

    def processing(self, envelope: Envelope, queue: Queue, routing_key: str) -> Spanning:
        """Return the span of handling a message."""
        name = f"process {queue.pattern}"
        context = envelope.traceparent
        if not records(context):
            return self._tracer.child(context, name, kind=SpanKind.CONSUMER)
        now = time.time()
        self._waited(context, f"wait in {queue.pattern}", envelope.sent, now)
        wait = max(0.0, now - envelope.sent) if envelope.sent else 0.0
        return self._tracer.child(
            context,
            name,
            kind=SpanKind.CONSUMER,
            attributes={
                **_about(envelope, routing_key),
                names.MESSAGING_OPERATION_NAME: "process",
                names.MESSAGING_OPERATION_TYPE: "process",
                names.MESSAGING_DESTINATION_NAME: f"{routing_key}:{queue.name}",
                names.WAIT_SECONDS: round(wait, 6),
            },
            causes=_causes(context, envelope.sent, now),
        )

    def headers(self, envelope: Envelope, active: Active) -> dict[str, str]:
        """Return a message's headers, with the trace context of its sending and when that was."""
        headers = envelope.headers()
        if context := active.traceparent:
            headers[TRACEPARENT] = context
            if records(context):
                headers[SENT] = moment(time.time())
        return headers

    def _waited(self, context: str, name: str, since: float, now: float) -> None:
        """Make a span of a wait that is over now."""
        if not since or now - since < SHOWN_AFTER_SECONDS:
            return
        waited: Attributes = {names.WAIT_SECONDS: round(now - since, 6)}
        with self._tracer.child(context, name, attributes=waited, start=since):
            pass


def _about(envelope: Envelope, routing_key: str) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {
        names.MESSAGING_SYSTEM: _RABBITMQ,
        names.MESSAGING_MESSAGE_ID: envelope.id,
        names.MESSAGING_ROUTING_KEY: routing_key,
        names.EVENT_TYPE: envelope.type,
    }
    if envelope.subject:
        attributes[names.OBJECT] = envelope.subject
    return attributes


def _causes(context: str, since: float, now: float) -> tuple[Cause, ...]:
    """Return what a message is linked to: what sent it, where time passed between."""
    if not since or now - since < LINK_AFTER_SECONDS:
        return ()
    return (Cause(context, since),)
