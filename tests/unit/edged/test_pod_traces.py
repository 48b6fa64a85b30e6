"""Which trace a pod's work is in: its change's until the pod is ready, then one of its own."""

import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan

import fedge_tracing as tracing
from fedge_edged.pod_traces import OPEN_SECONDS, PodTrace
from fedge_tracing import Cause, SpanBuffer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CONTEXT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
OTHER = CONTEXT.replace("0af7", "1111")
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
PENDING = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}


@pytest.fixture
def buffer() -> Iterator[SpanBuffer]:
    try:
        yield tracing.configure()
    finally:
        tracing.stop()


def work(trace: PodTrace, buffer: SpanBuffer) -> ReadableSpan:
    """Do a round in which something happens; return its span."""
    with trace.round(None, "uid"), tracing.span("call"):
        pass
    [span] = [each for each in buffer.take_now()[0] if each.name == "sync pod"]
    return span


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def linked(span: ReadableSpan) -> list[str]:
    return [f"{each.context.trace_id:032x}" for each in span.links]


def test_work_belongs_to_the_change_until_the_pod_is_ready(buffer: SpanBuffer) -> None:
    trace = PodTrace(is_new=True)
    trace.wanted(Cause(CONTEXT, time.time()))
    assert trace_of(work(trace, buffer)) == TRACE_ID
    trace.look(PENDING)
    assert trace_of(work(trace, buffer)) == TRACE_ID
    trace.look(READY)
    later = work(trace, buffer)
    assert trace_of(later) != TRACE_ID
    assert linked(later) == [TRACE_ID]


def test_next_change_is_another_trace(buffer: SpanBuffer) -> None:
    trace = PodTrace(is_new=True)
    trace.wanted(Cause(CONTEXT, time.time()))
    trace.look(READY)
    trace.wanted(Cause(OTHER, time.time()))
    assert trace_of(work(trace, buffer)) == tracing.trace_id_of(OTHER)


def test_pod_that_was_begun_before_is_not_in_its_changes_trace_again(buffer: SpanBuffer) -> None:
    trace = PodTrace(is_new=False)
    trace.wanted(Cause(CONTEXT, time.time() - 3600))
    restored = work(trace, buffer)
    assert trace_of(restored) != TRACE_ID
    assert linked(restored) == [TRACE_ID]
    trace.wanted(Cause(OTHER, time.time()))
    assert trace_of(work(trace, buffer)) == tracing.trace_id_of(OTHER)


def test_pod_that_waited_on_the_disk_says_how_long(buffer: SpanBuffer) -> None:
    trace = PodTrace(is_new=True)
    trace.wanted(Cause(CONTEXT, time.time() - 60))
    with trace.round(None, "uid"), tracing.span("call"):
        pass
    spans = {each.name: each for each in buffer.take_now()[0]}
    wait = spans["wait for edged"]
    assert wait.end_time is not None
    assert wait.start_time is not None
    assert 60e9 <= wait.end_time - wait.start_time < 70e9
    assert linked(spans["sync pod"]) == [TRACE_ID]
    assert work(trace, buffer).links == ()  # it waited once


def test_pod_that_never_gets_ready_does_not_grow_its_trace_for_ever(buffer: SpanBuffer) -> None:
    trace = PodTrace(is_new=True)
    trace.wanted(Cause(CONTEXT, time.time() - OPEN_SECONDS - 1))
    assert trace_of(work(trace, buffer)) != TRACE_ID


def test_round_in_which_nothing_happens_is_no_span(buffer: SpanBuffer) -> None:
    trace = PodTrace(is_new=True)
    trace.wanted(Cause(CONTEXT, time.time()))
    with trace.round(None, "uid"):
        pass
    assert [each.name for each in buffer.take_now()[0] if each.name == "sync pod"] == []


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pod_that_is_over_has_had_its_trace(buffer: SpanBuffer, phase: str) -> None:
    trace = PodTrace(is_new=True)
    trace.wanted(Cause(CONTEXT, time.time()))
    trace.look({"phase": phase})
    assert trace_of(work(trace, buffer)) != TRACE_ID
