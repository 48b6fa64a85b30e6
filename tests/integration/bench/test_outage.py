"""Events that are made while the line is cut: a short run of ``make bench-outage``."""

import pytest

from bench.outage import is_good, measure

EVENTS = 5000

pytestmark = [pytest.mark.broker, pytest.mark.redis]


@pytest.mark.timeout(300)
async def test_events_of_an_outage_all_arrive_once_and_in_order() -> None:
    result = await measure(EVENTS)
    assert result["events"] == EVENTS
    assert is_good(result), result


@pytest.mark.parametrize("bad", ["lost", "twice", "disordered", "hub_missing"])
def test_every_kind_of_bad_result_is_noticed(bad: str) -> None:
    good = {"lost": 0, "twice": 0, "disordered": 0, "hub_missing": 0}
    assert is_good(good)
    assert not is_good({**good, bad: 1})
