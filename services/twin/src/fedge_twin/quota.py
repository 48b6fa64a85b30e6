"""How much each device may say, so that one that runs wild does not keep the others waiting.

A token bucket per device. Of what is over the quota the newest word waits until it may be taken,
and replaces the one that waited before: what a device said last is never lost.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from fedge_objects import ObjectKey
from fedge_twin.topics import FromDevice, Word, read_topic

log = structlog.stdlib.get_logger("fedge.twin")

MAX_BUCKETS: Final = 20_000
LOG_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 1.0
"""Of the words that are dropped, one is answered so often."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The word may be taken."""


@dataclass(frozen=True, slots=True)
class Parked:
    """The word waits.

    Attributes:
        instead_of: another that is dropped for it.
        is_answered: whether its device is to be told of that; not of each one.
    """

    instead_of: Word | None
    is_answered: bool = False


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    parked: Word | None = None
    answered: float = float("-inf")


class Quota:
    """Tells words that may be taken from those that must wait."""

    def __init__(
        self, *, words_per_second: float, burst: float, clock: Callable[[], float]
    ) -> None:
        """Prepare.

        Args:
            words_per_second: of each device, in the long run; 0: no limit.
            burst: as many more at once, after silence.
            clock: seconds, monotonic.
        """
        self._rate = words_per_second
        self._burst = burst
        self._clock = clock
        self._buckets: dict[ObjectKey | None, _Bucket] = {}
        self._waiting: dict[ObjectKey | None, None] = {}
        self._parked = asyncio.Event()
        self._logged: dict[ObjectKey | None, float] = {}
        self._dropped: Counter[ObjectKey | None] = Counter()

    def admit(self, word: Word) -> Admitted | Parked:
        """Take a token for a word, or have it wait."""
        if self._rate <= 0:
            return Admitted()
        key = _key_of(word)
        bucket = self._filled(key)
        if bucket.parked is None and bucket.tokens >= 1:
            bucket.tokens -= 1
            return Admitted()
        instead_of, bucket.parked = bucket.parked, word
        self._waiting[key] = None
        self._parked.set()
        if instead_of is None:
            return Parked(None)
        self._count(key)
        is_answered = bucket.at - bucket.answered >= ANSWER_SECONDS
        if is_answered:
            bucket.answered = bucket.at
        return Parked(instead_of, is_answered)

    def dropped(self, key: ObjectKey | None) -> int:
        """Return how many words of a device were dropped; None: of no device that is known."""
        return self._dropped[key]

    async def due(self) -> list[Word]:
        """Return words that waited and may be taken now, once there are some."""
        while True:
            words = [word for key in list(self._waiting) if (word := self._released(key))]
            if words:
                return words
            self._parked.clear()
            if self._waiting:
                await asyncio.sleep(1 / self._rate)
            else:
                await self._parked.wait()

    def forget(self) -> None:
        """Forget what waits: the broker gives it again."""
        self._buckets.clear()
        self._waiting.clear()

    def _released(self, key: ObjectKey | None) -> Word | None:
        bucket = self._filled(key)
        if bucket.parked is None or bucket.tokens < 1:
            return None
        word, bucket.parked = bucket.parked, None
        bucket.tokens -= 1
        del self._waiting[key]
        return word

    def _filled(self, key: ObjectKey | None) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self._tidy(now)
            bucket = self._buckets[key] = _Bucket(self._burst, now)
            return bucket
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        return bucket

    def _tidy(self, now: float) -> None:
        """Drop the buckets that are full again."""
        self._buckets = {
            key: each
            for key, each in self._buckets.items()
            if each.parked is not None or each.tokens + (now - each.at) * self._rate < self._burst
        }

    def _count(self, key: ObjectKey | None) -> None:
        if key not in self._dropped and len(self._dropped) >= MAX_BUCKETS:
            key = None
        self._dropped[key] += 1
        now = self._clock()
        if now - self._logged.get(key, -LOG_SECONDS) >= LOG_SECONDS:
            self._logged[key] = now
            device = "others" if key is None else f"{key.namespace}/{key.name}"
            log.warning("device_over_quota", device=device, dropped=self._dropped[key])


def _key_of(word: Word) -> ObjectKey | None:
    topic = read_topic(word.topic)
    return topic.key if isinstance(topic, FromDevice) else None
