"""Durations as people write them: ``90``, ``30s``, ``5m``, ``1h30m``."""

import re

from fedge_cli.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PARTS = re.compile(r"(\d+)([smhd])")


def parse_seconds(text: str) -> int:
    """Return a duration's seconds; a number alone is seconds.

    Raises:
        UsageError: it is none, or nothing.
    """
    parts = _PARTS.findall(text)
    if text.isdecimal():
        seconds = int(text)
    elif parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(int(number) * _UNITS[unit] for number, unit in parts)
    else:
        seconds = 0
    if seconds <= 0:
        raise UsageError(f"{text!r} is no duration: write 90, 30s, 5m or 1h30m")
    return seconds
