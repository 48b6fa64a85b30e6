"""Counting events: repeats are known, what is missing is shown, and counts outlive hub."""

import time
from dataclasses import replace

import pytest

from fedge_fabric import Envelope, UnavailableError
from fedge_fabric.streams import Ledger, Numbering
from fedge_hub.events import MAX_STREAMS, PAST, Events
from fedge_hub.ports import Sighting
from tests.contract.wanted_store import NODE, MemoryWantedStore

pytestmark = pytest.mark.looptime
EVENT = Envelope(type="fedge.test", source=f"/node/{NODE}/edged")


@pytest.fixture
def store() -> MemoryWantedStore:
    return MemoryWantedStore()


async def seen_at(store: MemoryWantedStore, at: float) -> None:
    await store.mark_seen(NODE, Sighting(at=at, interval_seconds=10))


async def counted(store: MemoryWantedStore) -> tuple[int, int, int]:
    ledgers = (await store.ledgers(NODE)).values()
    return (
        sum(each.received for each in ledgers),
        sum(each.repeated for each in ledgers),
        sum(each.missing for each in ledgers),
    )


async def test_repeat_is_known_also_by_the_next_hub(store: MemoryWantedStore) -> None:
    await seen_at(store, 0)
    events, event = Events(store), Numbering("edged").number(EVENT)
    assert not await events.is_repeat(NODE, event)
    await events.took(NODE, event)
    assert await events.is_repeat(NODE, event)
    await events.keep()
    assert await Events(store).is_repeat(NODE, event)
    assert await counted(store) == (1, 1, 0)


async def test_what_is_missing_from_the_first_number_on_is_counted(
    store: MemoryWantedStore,
) -> None:
    await seen_at(store, 0)
    events, numbering = Events(store), Numbering("edged")
    made = [numbering.number(EVENT) for _ in range(10)]
    for each in made[3:7] + made[8:]:
        await events.took(NODE, each)
    await events.keep()
    assert await counted(store) == (6, 0, 4)


async def test_stream_older_than_the_store_lacks_nothing(store: MemoryWantedStore) -> None:
    numbering = Numbering("edged")
    numbering.next = 500
    await seen_at(store, time.time() + 60)
    events = Events(store)
    await events.took(NODE, numbering.number(EVENT))
    await events.keep()
    assert await counted(store) == (1, 0, 0)


async def test_event_without_a_number_is_no_repeat(store: MemoryWantedStore) -> None:
    events = Events(store)
    await events.took(NODE, EVENT)
    assert not await events.is_repeat(NODE, EVENT)


async def test_streams_that_are_over_are_summed_up(store: MemoryWantedStore) -> None:
    await seen_at(store, 0)
    events = Events(store)
    for number in range(2 * MAX_STREAMS):
        stream = f"edged-{1_800_000_000_000 + number}-x"
        await events.took(NODE, replace(EVENT, stream=stream, sequence=1))
    await events.keep()
    ledgers = await store.ledgers(NODE)
    assert len(ledgers) == MAX_STREAMS + 1
    assert ledgers[PAST] == Ledger(received=MAX_STREAMS, lost=MAX_STREAMS)
    assert await counted(store) == (2 * MAX_STREAMS, 0, 2 * MAX_STREAMS)


async def test_counts_wait_while_the_store_is_away(
    store: MemoryWantedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seen_at(store, 0)
    events = Events(store)
    await events.took(NODE, Numbering("edged").number(EVENT))

    async def away(*_: object) -> None:
        raise UnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "keep_ledgers", away)
        await events.keep()
    assert await counted(store) == (0, 0, 0)
    await events.keep()
    assert await counted(store) == (1, 0, 0)
