"""Which traces are recorded: decided once, where a trace begins."""

import random
import time


class HeadSampler:
    """Takes a share of all traces, and of those no more than so many a second.

    A burst of up to ``burst_seconds`` times as many is taken whole, so that the first of many
    changes made together are seen from end to end.
    """

    def __init__(self, *, ratio: float, per_second: float, burst_seconds: float = 20.0) -> None:
        """Take the bounds.

        Args:
            ratio: share of the traces, from 0 to 1.
            per_second: how many begin in a second, at most; 0: as many as there are.
            burst_seconds: for how long none need have begun for the largest burst.
        """
        self._ratio = ratio
        self._per_second = per_second
        self._most = max(1.0, per_second * burst_seconds)
        self._left = self._most
        self._at = time.monotonic()

    def takes(self) -> bool:
        """Whether the trace that begins now is recorded."""
        if self._ratio < 1 and random.random() >= self._ratio:  # noqa: S311 - chooses, hides nothing
            return False
        if not self._per_second:
            return self._ratio > 0
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
