"""Numbers of events: what is missing and what came again is known, in bounded memory."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_fabric import Envelope, MalformedError
from fedge_fabric.streams import MAX_HOLES, Inbox, Ledger, Numbering, began_at

EVENT = Envelope(type="fedge.test", source="/node/a/test")


@given(st.lists(st.integers(0, 60), max_size=200))
def test_ledger_agrees_with_a_set(numbers: list[int]) -> None:
    ledger, seen = Ledger(), set[int]()
    for number in numbers:
        assert ledger.has(number) == (number in seen)
        assert ledger.add(number) == (number not in seen)
        seen.add(number)
        assert ledger.missing == max(seen) + 1 - len(seen)
        assert ledger.received == len(seen)
    assert ledger.repeated == len(numbers) - len(seen)
    assert Ledger.parse(ledger.as_text()) == ledger


def test_ledger_of_many_holes_forgets_which_and_keeps_how_many() -> None:
    ledger = Ledger()
    count = 10 * MAX_HOLES
    for number in range(1, 2 * count, 2):
        ledger.add(number)
    assert ledger.missing == count
    assert len(ledger.holes) <= MAX_HOLES
    assert len(ledger.as_text()) < 2000


def test_late_event_of_a_forgotten_hole_is_taken_rather_than_lost() -> None:
    ledger = Ledger()
    for number in range(1, 20 * MAX_HOLES, 2):
        ledger.add(number)
    missing = ledger.missing
    assert not ledger.has(0)
    assert ledger.add(0)
    assert ledger.missing == missing - 1


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 100)), max_size=40))
def test_link_that_replays_its_window_loses_nothing(runs: list[tuple[int, int]]) -> None:
    ledger, reached, sent = Ledger(), 0, 0
    for forward, back in runs:
        for number in range(reached, reached + forward):
            ledger.add(number)
            sent += 1
        reached = max(0, reached + forward - back)
    assert ledger.missing == 0
    assert ledger.received == ledger.next
    assert ledger.repeated == sent - ledger.next


@pytest.mark.parametrize("text", ["", "1 2", "1 2 3 4 5 6-", "x 0 0 0 0 "])
def test_ledger_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid literal|unpack"):
        Ledger.parse(text)


def test_numbering_counts_from_nought_and_tells_when_it_began() -> None:
    numbering = Numbering("edged")
    first, second = numbering.number(EVENT), numbering.number(EVENT)
    assert (first.sequence, second.sequence) == (0, 1)
    assert first.stream == second.stream != Numbering("edged").stream
    began = began_at(first.stream)
    assert began is not None
    assert abs(began - EVENT.time.timestamp()) < 3600


@pytest.mark.parametrize("stream", ["", "a", "a-b-c", "edged--x"])
def test_stream_of_another_kind_has_no_beginning(stream: str) -> None:
    assert began_at(stream) is None


def test_inbox_knows_repeats_per_stream() -> None:
    inbox, one, other = Inbox(), Numbering("a"), Numbering("b")
    events = [one.number(EVENT), other.number(EVENT), one.number(EVENT)]
    assert [inbox.add(each) for each in [*events, *events]] == [True] * 3 + [False] * 3
    assert all(map(inbox.has, events))
    assert inbox.add(EVENT)
    assert not inbox.has(EVENT)
    assert not inbox.has(one.number(EVENT))


def test_inbox_forgets_the_oldest_streams() -> None:
    inbox = Inbox(max_streams=2)
    events = [Numbering(name).number(EVENT) for name in "abc"]
    for each in events:
        inbox.add(each)
    assert [inbox.has(each) for each in events] == [False, True, True]


def read(envelope: Envelope, **changed: str) -> Envelope:
    body, encoding = envelope.body()
    headers = {**envelope.headers(), **{f"cloudEvents_{k}": v for k, v in changed.items()}}
    return Envelope.read(headers=headers, body=body, content_encoding=encoding)


def test_number_travels_with_its_event() -> None:
    numbered = Numbering("edged").number(EVENT)
    assert read(numbered) == numbered
    assert read(EVENT) == replace(EVENT, stream="", sequence=None)


@pytest.mark.parametrize("number", ["-1", "x", "", "9" * 19, "1.0", "²"])
def test_number_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(MalformedError):
        read(EVENT, fedgestream="a-1-b", sequence=number)


def test_stream_without_a_number_is_refused() -> None:
    with pytest.raises(MalformedError, match="sequence"):
        read(EVENT, fedgestream="a-1-b")
