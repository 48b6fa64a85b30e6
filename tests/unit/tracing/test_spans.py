"""Spans: one inside the other, in the trace they belong to, and nothing where there is none."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan

import fedge_tracing as tracing
from fedge_tracing import Cause, SpanBuffer, SpanKind, Tracer, names

tracer = Tracer("hub")
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-01"
UNSAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-00"


@pytest.fixture
def buffer() -> Iterator[SpanBuffer]:
    try:
        yield tracing.configure(node="edge-1")
    finally:
        tracing.stop()


def taken(buffer: SpanBuffer) -> dict[str, ReadableSpan]:
    spans, _ = buffer.take_now()
    return {each.name: each for each in spans}


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def test_nothing_is_recorded_until_it_is_asked_for_but_contexts_pass() -> None:
    with tracer.root("first") as active:
        assert active.span is None
        assert tracing.traceparent() == ""
    with tracer.child(SAMPLED, "second"):
        assert tracing.traceparent() == SAMPLED
        with tracing.span("third"):
            assert tracing.traceparent() == SAMPLED
    assert tracing.traceparent() == ""
    assert not tracing.records(SAMPLED)


def test_spans_are_in_each_other(buffer: SpanBuffer) -> None:
    with tracer.root("root", kind=SpanKind.SERVER) as root:
        with tracing.span("below", attributes={names.OBJECT: "pods/default/a"}) as below:
            assert tracing.traceparent() == below.traceparent
        assert tracing.traceparent() == root.traceparent
    spans = taken(buffer)
    context = spans["root"].context
    assert context is not None
    assert parent_of(spans["root"]) is None
    assert parent_of(spans["below"]) == context.span_id
    assert spans["below"].attributes == {names.OBJECT: "pods/default/a"}
    assert spans["root"].kind is SpanKind.SERVER
    resource = spans["root"].resource.attributes
    assert resource["service.name"] == "fedge-hub"
    assert resource["k8s.node.name"] == "edge-1"
    assert tracing.trace_id_of(root.traceparent) == f"{context.trace_id:032x}"


def test_child_goes_on_with_the_trace_of_a_message(buffer: SpanBuffer) -> None:
    with tracer.child(SAMPLED, "process"):
        pass
    context = taken(buffer)["process"].context
    assert context is not None
    assert f"{context.trace_id:032x}" == TRACE_ID


@pytest.mark.parametrize(
    "text",
    [
        "", "x", SAMPLED.upper(), SAMPLED + "-more", SAMPLED.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{TRACE_ID}-{'0' * 16}-01",
    ],
)  # fmt: skip
def test_what_is_no_context_begins_nothing(buffer: SpanBuffer, text: str) -> None:
    with tracer.child(text, "process"), tracing.span("below"):
        pass
    assert taken(buffer) == {}


@given(st.text(max_size=80))
def test_no_text_breaks_reading_a_context(text: str) -> None:
    assert tracing.parse(text) is None or len(text) == 55


def test_unsampled_trace_is_passed_on_and_not_recorded(buffer: SpanBuffer) -> None:
    with tracer.child(UNSAMPLED, "process"), tracing.span("below"):
        assert tracing.traceparent() == UNSAMPLED
    assert taken(buffer) == {}


def test_errors_are_kept_where_nothing_else_is(buffer: SpanBuffer) -> None:
    with (
        pytest.raises(ValueError, match="wrong"),
        tracer.child(UNSAMPLED, "process"),
        tracing.span("below"),
    ):
        raise ValueError("it went wrong")
    [(name, span)] = taken(buffer).items()
    assert name == "below"  # once: where it came from
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.parent is None  # which is not recorded
    assert span.status.description == "it went wrong"
    assert (span.attributes or {})[names.ERROR_TYPE] == "ValueError"


def test_errors_outside_of_every_trace_are_kept(buffer: SpanBuffer) -> None:
    with pytest.raises(ValueError, match="wrong"), tracer.child("", "process"):
        raise ValueError("wrong")
    assert list(taken(buffer)) == ["process"]


def test_errors_without_end_do_not_become_spans_without_end(buffer: SpanBuffer) -> None:
    for _ in range(1000):
        with pytest.raises(ValueError, match="wrong"), tracer.child(UNSAMPLED, "process"):
            raise ValueError("wrong")
    assert len(buffer) < 100


def test_error_is_said_where_it_came_from_and_marked_on_its_way(buffer: SpanBuffer) -> None:
    with pytest.raises(OSError, match="gone"), tracer.root("root"), tracing.span("below"):
        raise OSError("gone")
    spans = taken(buffer)
    assert spans["below"].status.description == "gone"
    assert not spans["root"].status.is_ok
    assert not spans["root"].status.description


async def test_being_cancelled_is_no_error(buffer: SpanBuffer) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        with tracer.root("work"):
            begun.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert taken(buffer)["work"].status.is_unset


def test_lazy_span_is_there_only_if_something_happened(buffer: SpanBuffer) -> None:
    with tracer.root("idle", lazily=True):
        assert tracing.log_fields() == {}
    assert taken(buffer) == {}
    with tracer.root("busy", lazily=True), tracing.span("below"):
        pass
    spans = taken(buffer)
    assert spans["busy"].context is not None
    assert parent_of(spans["below"]) == spans["busy"].context.span_id
    with tracer.child(SAMPLED, "told", lazily=True):
        assert tracing.records(tracing.traceparent())
    assert list(taken(buffer)) == ["told"]
    with tracer.root("failed", lazily=True) as active:
        active.fail("it did not work")
    assert taken(buffer)["failed"].status.description == "it did not work"


def test_what_outlives_a_span_is_not_in_it(buffer: SpanBuffer) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def later() -> str:
            await ended.wait()
            with tracing.span("after"):
                return tracing.traceparent()

        with tracer.root("root"):
            task = asyncio.create_task(later())
        ended.set()
        assert await task == ""

    asyncio.run(main())
    assert list(taken(buffer)) == ["root"]


def test_links_say_how_long_ago_the_cause_was(buffer: SpanBuffer) -> None:
    with tracer.root("late", causes=[Cause(SAMPLED, 1000.0), Cause("none")], start=1031.5):
        pass
    [link] = taken(buffer)["late"].links
    assert f"{link.context.trace_id:032x}" == TRACE_ID
    assert (link.attributes or {})[names.WAIT_SECONDS] == 31.5


def test_untraced_is_in_no_trace(buffer: SpanBuffer) -> None:
    with tracer.root("root"):
        with tracing.untraced(), tracing.span("piece"):
            assert tracing.traceparent() == ""
        assert tracing.traceparent()
    assert list(taken(buffer)) == ["root"]


def test_spans_are_written_as_otlp(buffer: SpanBuffer) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415
        ExportTraceServiceRequest,
    )

    with tracer.root("root"), Tracer("meta").child(tracing.traceparent(), "other"):
        pass
    spans, _ = buffer.take_now()
    request = ExportTraceServiceRequest.FromString(tracing.encode(spans))
    services = {
        each.value.string_value
        for resource in request.resource_spans
        for each in resource.resource.attributes
        if each.key == "service.name"
    }
    assert services == {"fedge-hub", "fedge-meta"}
