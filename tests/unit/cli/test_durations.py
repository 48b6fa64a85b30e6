import pytest

from fedge_cli.durations import parse_fine_seconds, parse_seconds, parse_step
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


@pytest.mark.parametrize(("text", "seconds"), [("300ms", 0.3), ("1ms", 0.001), ("2s", 2), ("2", 2)])
def test_fine_duration_is_read(text: str, seconds: float) -> None:
    assert parse_fine_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "ms", "0ms", "1.5ms", "-1ms", "0", "3x"])
def test_what_is_no_fine_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write 300ms"):
        parse_fine_seconds(text)


@pytest.mark.parametrize(("text", "seconds"), [("1h", 3600), ("+30s", 30), ("-1h", -3600)])
def test_step_of_a_clock_is_read(text: str, seconds: int) -> None:
    assert parse_step(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "--1h", "-", "1.5h"])
def test_what_is_no_step_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no step of a clock"):
        parse_step(text)
