"""Devices over the whole system, and many at one twin: a short run of ``make bench-twins``."""

import pytest

from bench.twins import SMALL, is_good, measure

pytestmark = pytest.mark.stack

TOLD = (
    "desired_p50_ms", "desired_p99_ms", "reported_p50_ms", "reported_p99_ms", "floor_desired_ms",
    "floor_reported_ms", "reports_per_s", "twin_rss_mb", "twin_cpu_percent", "api_writes_per_s",
    "newest_age_ms_max", "few_api_writes_per_s", "few_newest_age_ms_max", "load_api_writes_per_s",
    "create_s", "known_at_edge_s", "alone_reports_per_s", "alone_twin_rss_mb",
    "alone_twin_cpu_percent",
)  # fmt: skip


@pytest.mark.timeout(300)
async def test_every_report_is_taken_and_each_device_ends_in_its_last_value() -> None:
    result = await measure(SMALL)
    assert is_good(result), result
    for where in ("", "alone_"):
        assert result[f"{where}devices"] == SMALL.load.devices
        assert result[f"{where}reports_sent"] == SMALL.load.per_second * SMALL.load.seconds
        assert result[f"{where}reports_refused"] == 0
    missing = [name for name in TOLD if not result[name] > 0]
    assert missing == []


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("values_wrong", 1),
        ("alone_values_wrong", 1),
        ("api_values_wrong", 1),
        ("reports_taken", 9),
        ("alone_reports_taken", 9),
    ],
)
def test_a_loss_is_noticed(part: str, value: int) -> None:
    each = {"values_wrong": 0, "reports_taken": 10, "reports_sent": 10}
    good = {**each, **{f"alone_{name}": value for name, value in each.items()}}
    good["api_values_wrong"] = 0
    assert is_good(good)
    assert not is_good({**good, part: value})
