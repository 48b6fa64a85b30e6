"""Spans of messages: sent, waited, handled; and nothing where nothing is traced."""

import time
from collections.abc import Iterator, Mapping

import pytest
from opentelemetry.sdk.trace import ReadableSpan

import fedge_tracing as tracing
from fedge_fabric import Envelope
from fedge_fabric.spans import Spans
from fedge_fabric.topology import Queue
from fedge_tracing import SpanBuffer, SpanKind, names

QUEUE = Queue("meta.state")
SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-2] + "00"


@pytest.fixture
def buffer() -> Iterator[SpanBuffer]:
    try:
        yield tracing.configure()
    finally:
        tracing.stop()


def message(traceparent: str = "", *, since: float = 0.0, sent: float = 0.0) -> Envelope:
    return Envelope(
        type="fedge.object.put",
        source="/cloud/hub",
        subject="pods/default/a",
        traceparent=traceparent,
        since=since,
        sent=sent,
        id="m-1",
    )


def send(spans: Spans, envelope: Envelope) -> Envelope:
    with spans.sending(envelope, "fedge.down", "node.edge-1.state.pods", 12) as active:
        return over_the_wire(envelope, spans.headers(envelope, active))


def over_the_wire(envelope: Envelope, headers: dict[str, str] | None = None) -> Envelope:
    body, encoding = envelope.body()
    return Envelope.read(
        headers=headers or envelope.headers(), body=body, content_encoding=encoding
    )


def handle(spans: Spans, envelope: Envelope) -> str:
    with spans.processing(envelope, QUEUE, "node.edge-1.state.pods") as active:
        return active.traceparent


def taken(buffer: SpanBuffer) -> dict[str, ReadableSpan]:
    return {each.name: each for each in buffer.take_now()[0]}


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def wait_of(attributes: object) -> float:
    assert isinstance(attributes, Mapping)
    return float(attributes[names.WAIT_SECONDS])


def parent_of(span: ReadableSpan) -> int | None:
    return int(span.parent.span_id) if span.parent is not None else None


def test_handling_is_below_sending(buffer: SpanBuffer) -> None:
    sent = send(Spans("hub"), message(SAMPLED))
    handle(Spans("meta"), over_the_wire(sent))
    spans = taken(buffer)
    producer, consumer = spans["send fedge.down"], spans["process meta.state"]
    assert producer.kind is SpanKind.PRODUCER
    assert consumer.kind is SpanKind.CONSUMER
    assert parent_of(consumer) == id_of(producer)
    assert producer.attributes == {
        names.MESSAGING_SYSTEM: "rabbitmq",
        names.MESSAGING_MESSAGE_ID: "m-1",
        names.MESSAGING_ROUTING_KEY: "node.edge-1.state.pods",
        names.EVENT_TYPE: "fedge.object.put",
        names.OBJECT: "pods/default/a",
        names.MESSAGING_OPERATION_NAME: "send",
        names.MESSAGING_OPERATION_TYPE: "send",
        names.MESSAGING_DESTINATION_NAME: "fedge.down:node.edge-1.state.pods",
        names.MESSAGING_BODY_SIZE: 12,
    }
    assert consumer.resource.attributes["service.name"] == "fedge-meta"


def test_message_sent_within_a_span_is_below_it(buffer: SpanBuffer) -> None:
    with tracing.Tracer("hub").root("root") as root:
        sent = send(Spans("hub"), message())
    assert tracing.trace_id_of(sent.traceparent) == tracing.trace_id_of(root.traceparent)
    assert sent.traceparent != root.traceparent


def test_wait_in_a_queue_is_a_span_and_a_link(buffer: SpanBuffer) -> None:
    sent = message(SAMPLED, sent=time.time() - 31)
    handle(Spans("meta"), over_the_wire(sent))
    spans = taken(buffer)
    wait, work = spans["wait in meta.state"], spans["process meta.state"]
    assert wait.end_time is not None
    assert wait.start_time is not None
    assert 31e9 <= wait.end_time - wait.start_time < 40e9
    assert wait_of(work.attributes) >= 31
    [link] = work.links
    assert wait_of(link.attributes) >= 31


def test_wait_before_sending_is_a_span_and_a_link(buffer: SpanBuffer) -> None:
    sent = send(Spans("hub"), message(SAMPLED, since=time.time() - 5))
    assert "fedge-sent" in sent.headers()
    assert over_the_wire(sent).since == 0.0
    spans = taken(buffer)
    assert {"wait to send fedge.down", "send fedge.down"} == spans.keys()
    assert len(spans["send fedge.down"].links) == 1


def test_clock_that_is_behind_the_senders_is_no_wait(buffer: SpanBuffer) -> None:
    handle(Spans("meta"), message(SAMPLED, sent=time.time() + 3600))
    [(name, work)] = taken(buffer).items()
    assert name == "process meta.state"
    assert wait_of(work.attributes) == 0


@pytest.mark.parametrize("context", ["", UNSAMPLED])
def test_what_is_not_traced_stays_so(buffer: SpanBuffer, context: str) -> None:
    sent = send(Spans("hub"), message(context))
    assert sent.traceparent == context
    assert "fedge-sent" not in sent.headers()
    assert handle(Spans("meta"), over_the_wire(sent)) == context
    assert taken(buffer) == {}


def test_context_passes_where_nothing_is_recorded() -> None:
    sent = send(Spans("hub"), message(SAMPLED))
    assert sent.traceparent == SAMPLED
    assert handle(Spans("meta"), over_the_wire(sent)) == SAMPLED


@pytest.mark.parametrize("text", ["-1", "soon", "1e9", "٣", "9" * 30, ""])
def test_sender_that_says_nonsense_of_the_time_is_not_believed(text: str) -> None:
    headers = {**message(SAMPLED).headers(), "fedge-sent": text}
    assert Envelope.read(headers=headers, body=b"null", content_encoding=None).sent == 0.0
