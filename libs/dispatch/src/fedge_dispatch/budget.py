"""How much is asked of an API server."""

from collections.abc import Callable

BURST_SECONDS = 1.0


class Budget:
    """So many writes a second, in the order in which they are asked for.

    What was not used is kept for a burst of one second's worth
    (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm).
    """

    def __init__(self, per_second: float, shared_by: Callable[[], int] = lambda: 1) -> None:
        """Take how many, and how many replicas there are that ask for as many together."""
        self._per_second = per_second
        self._shared_by = shared_by
        self._next = 0.0

    def reserve(self, now: float) -> float:
        """Return when one write may be made: now, or later. It must be made, or it is wasted."""
        at = max(self._next, now - BURST_SECONDS)
        self._next = at + self._shared_by() / self._per_second
        return max(at, now)
