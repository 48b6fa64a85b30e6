"""Durations as people write them: ``90``, ``30s``, ``5m``, ``1h30m``, some also ``300ms``."""

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


def parse_fine_seconds(text: str) -> float:
    """Return a duration's seconds, of which there may be thousandths: ``300ms``, ``2s``, ``2``.

    Raises:
        UsageError: it is none, or nothing.
    """
    thousandths = text.removesuffix("ms")
    if thousandths != text and thousandths.isdecimal() and int(thousandths) > 0:
        return int(thousandths) / 1000
    try:
        return float(parse_seconds(text))
    except UsageError as exc:
        raise UsageError(f"{text!r} is no duration: write 300ms, 2s or 1m") from exc


def parse_step(text: str) -> int:
    """Return the seconds of a step ahead, or back: ``1h``, ``+30s``, ``-1h``.

    Raises:
        UsageError: it is none.
    """
    sign = -1 if text.startswith("-") else 1
    try:
        return sign * parse_seconds(text.removeprefix("-" if sign < 0 else "+"))
    except UsageError as exc:
        raise UsageError(f"{text!r} is no step of a clock: write 1h, 30s or -1h") from exc
