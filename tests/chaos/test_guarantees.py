"""Each guarantee against each fault, on a whole system under load.

Every kind of fault is made once, in an order and for times that a seed gives; ``make chaos`` does
so for longer, two at a time too. ``docs/guarantees.md`` names these tests.
"""

import asyncio
import os

import pytest

from tests.chaos.checker import Promise
from tests.chaos.everything import FAULTS, Chaos, is_good, running

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

SEED = int(os.environ.get("FEDGE_CHAOS_SEED", "4"))
PACE = 0.4
each_fault = pytest.mark.parametrize("fault", FAULTS)


@pytest.fixture(scope="module")
def chaos() -> Chaos:
    """A system after all faults."""

    async def break_everything() -> Chaos:
        async with running(SEED, pace=PACE) as chaos:
            await chaos.run_each()
        return chaos

    return asyncio.run(break_everything())


def broken(chaos: Chaos, fault: str, promise: Promise) -> list[str]:
    """Return how a fault broke a promise."""
    [outcome] = [each for each in chaos.result.outcomes if each.names == (fault,)]
    return [f"seed {SEED}: {text}" for text in outcome.broken.get(promise, ())]


@each_fault
def test_what_the_cloud_wants_is_what_the_node_has(chaos: Chaos, fault: str) -> None:
    assert broken(chaos, fault, Promise.OBJECTS) == []


@each_fault
def test_what_the_node_reports_is_what_the_cloud_knows(chaos: Chaos, fault: str) -> None:
    assert broken(chaos, fault, Promise.REPORTS) == []


@each_fault
def test_accepted_events_have_their_effect_once_and_in_order(chaos: Chaos, fault: str) -> None:
    assert broken(chaos, fault, Promise.EVENTS) == []


@each_fault
def test_no_container_restarts_or_runs_twice(chaos: Chaos, fault: str) -> None:
    assert broken(chaos, fault, Promise.PODS) == []


def test_faults_were_made_under_load(chaos: Chaos) -> None:
    assert set(chaos.result.kinds) == set(FAULTS)
    assert chaos.writer.count > len(FAULTS)
    numbers = chaos.arrivals.numbers()
    assert numbers
    assert all(len(each) > len(FAULTS) for each in numbers.values())


def test_every_kind_of_bad_result_is_noticed() -> None:
    good: dict[str, float | int | str] = {
        "diverged": 0,
        "events_lost": 0,
        "events_twice": 0,
        "events_disordered": 0,
        "pods_restarted": 0,
        "pods_doubled": 0,
    }
    assert is_good({**good, "slowest_convergence_s": 9.0})
    for name in good:
        assert not is_good({**good, name: 1})
