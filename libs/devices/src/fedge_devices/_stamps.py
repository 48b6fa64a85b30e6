"""Hybrid logical clocks: order of what cloud and edge wished, whatever their clocks say.

A stamp is one whole number: milliseconds since 1970 in the upper 48 bits, a count in the lower 16.
It is later than every stamp that its maker had seen before, and close to the wall clock otherwise
(Kulkarni and others, Logical Physical Clocks, 2014).
"""

import time
from collections.abc import Callable
from typing import Final

_COUNT_BITS: Final = 16
MAX_AHEAD_MS: Final = 10 * 366 * 24 * 3600 * 1000
"""A stamp further ahead than this comes from no clock; it must not run ours into the ground."""


class HybridClock:
    """Makes stamps."""

    def __init__(self, wall_ms: Callable[[], int] | None = None) -> None:
        self._wall_ms = wall_ms or _wall_ms
        self._last = 0

    def stamp(self) -> int:
        """Return a stamp later than all that were made or seen here."""
        self._last = max(self._wall_ms() << _COUNT_BITS, self._last + 1)
        return self._last

    def saw(self, stamp: int) -> None:
        """Take notice of another clock's stamp."""
        if stamp <= (self._wall_ms() + MAX_AHEAD_MS) << _COUNT_BITS:
            self._last = max(self._last, stamp)


def milliseconds(stamp: int) -> int:
    """Return when a stamp was made, in ms since 1970, by its maker's clock."""
    return stamp >> _COUNT_BITS


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
