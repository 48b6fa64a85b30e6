"""Events counted where they are made, so that whoever takes them knows what is missing.

Whoever makes events numbers them from 0 in a stream of his own: one per process, so that no counter
has to be kept. A link that breaks repeats what it was not sure of; a queue that overflows drops its
oldest. The numbers tell both, in memory that does not grow with the count.
"""

import re
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Self

from fedge_fabric.envelope import Envelope

MAX_HOLES = 64
"""How many runs of missing numbers are remembered; what the oldest lacks is given up as lost."""
MAX_JUMP = 10**9
"""No stream lacks more numbers in a row: a process that makes a thousand events a second, every day
and night, needs eleven days for them."""
_MILLISECONDS = 1000
_STREAM = re.compile(r".*-(\d{1,15})-[^-]*", re.ASCII | re.DOTALL)
"""Service, time, something random."""


class Numbering:
    """Numbers the events of one process."""

    def __init__(self, service: str) -> None:
        """Begin a stream.

        Its name holds when it began, in milliseconds since the epoch by this machine's clock.
        """
        began = round(time.time() * _MILLISECONDS)
        self.stream = f"{service}-{began}-{uuid.uuid4().hex[:8]}"
        self.next = 0

    def number(self, envelope: Envelope) -> Envelope:
        """Return the event with its number; one that is never published counts as lost."""
        number, self.next = self.next, self.next + 1
        return replace(envelope, stream=self.stream, sequence=number)


def began_at(stream: str) -> float | None:
    """Return when a stream began by its maker's clock, in seconds since the epoch."""
    match = _STREAM.fullmatch(stream)
    return int(match[1]) / _MILLISECONDS if match else None


@dataclass(slots=True)
class Ledger:
    """What came of one stream.

    Attributes:
        next: every number below it came or is missing.
        holes: runs of missing numbers, ``[first, one past the last]``, ascending.
        lost: missing numbers that are not remembered one by one any more. All are below ``floor``.
        floor: below it a number that came cannot be told from one that is lost.
        received: how many came for the first time.
        repeated: how many came again.
    """

    next: int = 0
    holes: list[list[int]] = field(default_factory=list)
    lost: int = 0
    floor: int = 0
    received: int = 0
    repeated: int = 0

    @property
    def missing(self) -> int:
        """How many did not come, though later ones did."""
        return self.lost + sum(end - first for first, end in self.holes)

    def has(self, number: int) -> bool:
        """Whether this number came; one that may be lost counts as not, for it must not be."""
        if self.lost and number < self.floor:
            return False
        return number < self.next and not any(first <= number < end for first, end in self.holes)

    def is_beyond(self, number: int) -> bool:
        """Whether a number comes so long after the others that it cannot be believed."""
        return number - self.next > MAX_JUMP

    def add(self, number: int) -> bool:
        """Take note that a number came; return whether for the first time."""
        if number >= self.next:
            if number > self.next:
                self.holes.append([self.next, number])
                self._give_up_oldest()
            self.next = number + 1
        elif not self._fill(number):
            self.repeated += 1
            return False
        self.received += 1
        return True

    def _fill(self, number: int) -> bool:
        if self.lost and number < self.floor:
            self.lost -= 1
            return True
        for index, (first, end) in enumerate(self.holes):
            if first <= number < end:
                self.holes[index : index + 1] = [
                    hole for hole in ([first, number], [number + 1, end]) if hole[0] < hole[1]
                ]
                self._give_up_oldest()
                return True
        return False

    def _give_up_oldest(self) -> None:
        while len(self.holes) > MAX_HOLES:
            first, end = self.holes.pop(0)
            self.lost += end - first
            self.floor = end

    def as_text(self) -> str:
        """Return it as text."""
        holes = ",".join(f"{first}-{end}" for first, end in self.holes)
        return f"{self.next} {self.lost} {self.floor} {self.received} {self.repeated} {holes}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``as_text`` wrote.

        Raises:
            ValueError: it is something else.
        """
        numbers, _, holes = text.rpartition(" ")
        next_, lost, floor, received, repeated = map(int, numbers.split())
        return cls(
            next=next_,
            lost=lost,
            floor=floor,
            received=received,
            repeated=repeated,
            holes=[[int(n) for n in hole.split("-")] for hole in holes.split(",") if hole],
        )


class Inbox:
    """Which events a consumer has taken, of the streams that it heard of late.

    In memory: whoever must know across a restart keeps the ledgers with the effects.
    """

    def __init__(self, *, max_streams: int = 4096) -> None:
        self._ledgers: dict[str, Ledger] = {}
        self._max_streams = max_streams

    def has(self, envelope: Envelope) -> bool:
        """Whether an event was taken before; one without a number is always new."""
        if envelope.sequence is None:
            return False
        ledger = self._ledgers.get(envelope.stream)
        return ledger is not None and ledger.has(envelope.sequence)

    def add(self, envelope: Envelope) -> bool:
        """Take note of an event; return whether it is new."""
        if envelope.sequence is None:
            return True
        ledger = self._ledgers.get(envelope.stream)
        if ledger is None:
            # what came before this process listened is not missing
            ledger = self._ledgers[envelope.stream] = Ledger(next=envelope.sequence)
            if len(self._ledgers) > self._max_streams:
                del self._ledgers[next(iter(self._ledgers))]
        return ledger.add(envelope.sequence)
