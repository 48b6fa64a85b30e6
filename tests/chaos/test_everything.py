"""A short version of ``make chaos``: a few faults of all kinds, in quick succession."""

import os

import pytest

from tests.chaos.everything import is_good, run

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

FAULTS = int(os.environ.get("FEDGE_CHAOS_FAULTS", "20"))
SEED = int(os.environ.get("FEDGE_CHAOS_SEED", "4"))


async def test_nothing_diverges_is_lost_runs_twice_or_restarts_whatever_breaks() -> None:
    result = await run(FAULTS, SEED, pace=0.3)
    assert is_good(result), result
    assert int(result["faults"]) >= FAULTS
    assert int(result["events"]) > 0
    assert int(result["changes"]) > 0


def test_every_kind_of_bad_result_is_noticed() -> None:
    good = {
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
