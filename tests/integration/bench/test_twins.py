"""Devices over the whole system, and many at one twin: a short run of ``make bench-twins``."""

import pytest

from bench.twins import SMALL, is_good, measure

pytestmark = pytest.mark.stack


@pytest.mark.timeout(300)
async def test_every_report_is_taken_and_each_device_ends_in_its_last_value() -> None:
    result = await measure(SMALL)
    assert result["reports_sent"] > SMALL.many
    assert is_good(result), result
    assert all(
        result[f"{way}_p50_ms"] > 0 for way in ("desired", "reported", "floor_api", "floor_mqtt")
    )


@pytest.mark.parametrize(("part", "value"), [("values_wrong", 1), ("reports_taken", 9)])
def test_a_loss_is_noticed(part: str, value: int) -> None:
    good = {"values_wrong": 0, "reports_taken": 10, "reports_refused": 0, "reports_sent": 10}
    assert is_good(good)
    assert not is_good({**good, part: value})
