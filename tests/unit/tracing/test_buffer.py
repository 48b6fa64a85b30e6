"""Spans that wait: bounded, in order, none counted twice."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan

from fedge_tracing import SpanBuffer
from fedge_tracing._buffer import AT_ONCE
from fedge_tracing._sampling import HeadSampler


def span(number: int) -> ReadableSpan:
    return ReadableSpan(str(number))


@given(most=st.integers(1, 50), steps=st.lists(st.sampled_from(["end", "take", "lose"])))
def test_every_span_is_taken_once_or_counted_as_dropped(most: int, steps: list[str]) -> None:
    buffer, made, dropped = SpanBuffer(most), 0, 0
    got: list[ReadableSpan] = []
    for step in steps:
        if step == "end":
            buffer.on_end(span(made))
            made += 1
            continue
        spans, lost = buffer.take_now()
        if step == "lose":  # it could not be sent
            buffer.give_back(spans, lost)
        else:
            got += spans
            dropped += lost
        assert len(buffer) <= most
    rest, lost = buffer.take_now()
    numbers = [int(each.name) for each in (*got, *rest)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + dropped + lost == made


async def test_take_waits_for_the_first_and_then_for_its_company() -> None:
    buffer = SpanBuffer(1000)
    taking = asyncio.create_task(buffer.take(within_seconds=0.05))
    await asyncio.sleep(0)
    assert not taking.done()
    buffer.on_end(span(0))
    buffer.on_end(span(1))
    spans, dropped = await taking
    assert [each.name for each in spans] == ["0", "1"]
    assert dropped == 0


async def test_take_does_not_wait_when_there_is_enough() -> None:
    buffer = SpanBuffer(10_000)
    for number in range(AT_ONCE + 1):
        buffer.on_end(span(number))
    async with asyncio.timeout(5):
        spans, _ = await buffer.take(within_seconds=3600)
    assert len(spans) == AT_ONCE
    assert len(buffer) == 1


async def test_spans_may_end_in_other_threads() -> None:
    buffer = SpanBuffer(1000)
    taking = asyncio.create_task(buffer.take(within_seconds=0.01))
    await asyncio.sleep(0)
    await asyncio.to_thread(buffer.on_end, span(7))
    async with asyncio.timeout(5):
        spans, _ = await taking
    assert [each.name for each in spans] == ["7"]


def test_sampler_takes_a_burst_and_then_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    sampler = HeadSampler(ratio=1.0, per_second=2.0)
    assert sum(sampler.takes() for _ in range(100)) == 40
    now += 3.0
    assert sum(sampler.takes() for _ in range(100)) == 6


def test_sampler_takes_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([0.1, 0.2, 0.3, 0.9, 0.0])
    monkeypatch.setattr("random.random", lambda: next(drawn))
    sampler = HeadSampler(ratio=0.25, per_second=0)
    assert [sampler.takes() for _ in range(4)] == [True, True, False, False]
    assert not HeadSampler(ratio=0, per_second=0).takes()
