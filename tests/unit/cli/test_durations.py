import pytest

from fedge_cli.durations import parse_seconds
from fedge_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("2d", 172800)]
)
def test_duration_is_read(text: str, seconds: int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "5x", "m", "1.5h", "5m3", "0s"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no duration"):
        parse_seconds(text)
