"""Ages as kubectl users know them."""

from datetime import datetime
from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365 * _DAY


def human_age(since: str | None, now: datetime) -> str:
    """Return how long ago a timestamp was: ``5s``, ``3m20s``, ``2d4h``."""
    if not since:
        return "<unknown>"
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        return "<invalid>"
    return human_duration(int((now - moment).total_seconds()))


def human_duration(seconds: int) -> str:  # noqa: PLR0911 - one per step
    """Return a duration in at most two units, the second one only where it says something."""
    if seconds < -1:
        return "<invalid>"
    seconds = max(seconds, 0)
    if seconds < 2 * _MINUTE:
        return f"{seconds}s"
    if seconds < 10 * _MINUTE:
        return _two(seconds, _MINUTE, "m", 1, "s")
    if seconds < 3 * _HOUR:
        return f"{seconds // _MINUTE}m"
    if seconds < 8 * _HOUR:
        return _two(seconds, _HOUR, "h", _MINUTE, "m")
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}h"
    if seconds < 8 * _DAY:
        return _two(seconds, _DAY, "d", _HOUR, "h")
    if seconds < 2 * _YEAR:
        return f"{seconds // _DAY}d"
    if seconds < 8 * _YEAR:
        return _two(seconds, _YEAR, "y", _DAY, "d")
    return f"{seconds // _YEAR}y"


def _two(seconds: int, big: int, big_name: str, small: int, small_name: str) -> str:
    rest = seconds % big // small
    return (
        f"{seconds // big}{big_name}{rest}{small_name}" if rest else f"{seconds // big}{big_name}"
    )
