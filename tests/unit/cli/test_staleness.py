from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fedge_cli.staleness import age, staleness

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def node(ready: str) -> dict[str, Any]:
    return {"status": {"conditions": [{"type": "Ready", "status": ready}]}}


def lease(seconds_ago: float, *, lasts: int = 40) -> dict[str, Any]:
    renewed = (NOW - timedelta(seconds=seconds_ago)).isoformat().replace("+00:00", "Z")
    return {"spec": {"renewTime": renewed, "leaseDurationSeconds": lasts}}


@pytest.mark.parametrize(
    ("ready", "heard", "expected"),
    [
        ("True", lease(5), None),
        ("True", lease(41), 41),  # before anybody has marked the node
        ("True", lease(12, lasts=8), 12),
        ("Unknown", lease(9), 9),
        ("Unknown", None, 0),
        ("False", lease(5), None),  # it is heard, and says so itself
        ("False", lease(7200), 7200),
        ("True", None, None),
        ("True", lease(-30), None),  # a clock ahead
    ],
)
def test_node_is_stale_when_it_is_not_heard(
    ready: str, heard: dict[str, Any] | None, expected: float | None
) -> None:
    assert staleness(node(ready), heard, NOW) == expected


def test_node_that_is_gone_makes_nothing_stale() -> None:
    assert staleness(None, lease(100), NOW) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (12.7, "12s"), (119, "119s"), (120, "2m"), (3600, "1h"), (86400 * 9, "9d")],
)
def test_age_is_short(seconds: float, text: str) -> None:
    assert age(seconds) == text
