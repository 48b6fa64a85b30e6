"""How much is asked of an API server."""

BURST_SECONDS = 1.0


class Budget:
    """So many writes a second, in the order in which they are asked for.

    What was not used is kept for a burst of one second's worth
    (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm).
    """

    def __init__(self, per_second: float) -> None:
        """Take how many."""
        self._between = 1 / per_second
        self._next = 0.0

    def reserve(self, now: float) -> float:
        """Return when one write may be made: now, or later. It must be made, or it is wasted."""
        at = max(self._next, now - BURST_SECONDS)
        self._next = at + self._between
        return max(at, now)
