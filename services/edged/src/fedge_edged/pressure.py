"""Whether the node runs short of memory, disk or processes.

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fedge_objects import parse_quantity

DEFAULT_HARD = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
}
"""The kubelet's hard eviction thresholds."""


class Signal(StrEnum):
    """What is looked at."""

    MEMORY = "memory.available"
    NODEFS = "nodefs.available"
    NODEFS_INODES = "nodefs.inodesFree"
    IMAGEFS = "imagefs.available"
    IMAGEFS_INODES = "imagefs.inodesFree"
    PIDS = "pid.available"

    @property
    def condition(self) -> str:
        """The node's condition that the signal stands for."""
        match self:
            case Signal.MEMORY:
                return "MemoryPressure"
            case Signal.PIDS:
                return "PIDPressure"
            case _:
                return "DiskPressure"

    @property
    def resource(self) -> str:
        """What the node is short of, as the kubelet names it."""
        match self:
            case Signal.MEMORY:
                return "memory"
            case Signal.PIDS:
                return "pids"
            case Signal.NODEFS_INODES | Signal.IMAGEFS_INODES:
                return "inodes"
            case _:
                return "ephemeral-storage"


@dataclass(frozen=True, slots=True)
class Observation:
    """How much of something is left, of how much; in bytes or pieces."""

    available: int
    capacity: int


Observations = Mapping[Signal, Observation]


@dataclass(frozen=True, slots=True)
class Threshold:
    """How much has to be left: a share of the capacity, or an amount."""

    signal: Signal
    amount: int = 0
    share: float = 0.0

    def value(self, capacity: int) -> int:
        """Return the amount, given the capacity."""
        return int(capacity * self.share) if self.share else self.amount


@dataclass(frozen=True, slots=True)
class Shortage:
    """A threshold that is met."""

    signal: Signal
    threshold: int
    available: int


def parse_thresholds(hard: Mapping[str, str]) -> tuple[Threshold, ...]:
    """Return thresholds from settings such as ``{"memory.available": "100Mi"}``.

    ``0``, ``0%`` and ``100%`` set none, as for the kubelet.

    Raises:
        ValueError: a signal or a value is none; the text names it.
    """
    found = []
    for name, text in hard.items():
        try:
            signal = Signal(name)
        except ValueError as exc:
            known = ", ".join(Signal)
            raise ValueError(f"{name!r} is no eviction signal: use one of {known}") from exc
        if text.endswith("%"):
            share = float(parse_quantity(text[:-1])) / 100
            if not 0 <= share <= 1:
                raise ValueError(f"{name}<{text}: use a share from 0% to 100%")
            threshold = Threshold(signal, share=share if share < 1 else 0.0)
        else:
            threshold = Threshold(signal, amount=int(parse_quantity(text)))
        if threshold.share or threshold.amount:
            found.append(threshold)
    return tuple(found)


class Pressure:
    """What the node is short of, and for how long it still counts as such."""

    def __init__(self, thresholds: Iterable[Threshold], *, transition_seconds: float) -> None:
        """Take the thresholds; a condition stays for ``transition_seconds`` after it was seen."""
        self._thresholds = tuple(thresholds)
        self._transition_seconds = transition_seconds
        self._seen: dict[str, float] = {}
        self._conditions: tuple[str, ...] = ()
        self.shortages: tuple[Shortage, ...] = ()
        """As last seen: memory first, for its end cannot wait."""

    @property
    def conditions(self) -> Sequence[str]:
        """The node's conditions that hold, sorted."""
        return self._conditions

    def update(self, observations: Observations, now: float) -> bool:
        """Take what was seen; ``now`` in seconds of any steady clock.

        Returns:
            Whether the conditions have changed.
        """
        self.shortages = shortages(self._thresholds, observations)
        for each in self.shortages:
            self._seen[each.signal.condition] = now
        before = self._conditions
        self._conditions = tuple(
            sorted(
                kind
                for kind, seen in self._seen.items()
                if seen == now or now - seen < self._transition_seconds
            )
        )
        return before != self._conditions

    def is_short(self, signal: Signal, observations: Observations) -> bool:
        """Whether there is too little of something, by newer observations."""
        return any(each.signal is signal for each in shortages(self._thresholds, observations))


def shortages(thresholds: Iterable[Threshold], observations: Observations) -> tuple[Shortage, ...]:
    """Return the thresholds that are met, memory first."""
    found = []
    for each in thresholds:
        observed = observations.get(each.signal)
        if observed is None:
            continue
        least = each.value(observed.capacity)
        if observed.available < least:
            found.append(Shortage(each.signal, least, observed.available))
    return tuple(sorted(found, key=lambda each: each.signal is not Signal.MEMORY))


def observe(nodefs: Path, imagefs: Path | None) -> dict[Signal, Observation]:
    """Return how much is left of everything; what cannot be told is left out.

    Args:
        nodefs: on the file system of the pods' volumes and logs.
        imagefs: on the file system of the runtime's images, if it is known.
    """
    found = {Signal.MEMORY: memory(Path("/proc/meminfo").read_text())}
    pids = _pids(Path("/proc"))
    if pids is not None:
        found[Signal.PIDS] = pids
    for folder, space, inodes in (
        (nodefs, Signal.NODEFS, Signal.NODEFS_INODES),
        (imagefs, Signal.IMAGEFS, Signal.IMAGEFS_INODES),
    ):
        if folder is None or not folder.exists():
            continue
        stats = os.statvfs(folder)
        found[space] = Observation(stats.f_bavail * stats.f_frsize, stats.f_blocks * stats.f_frsize)
        if stats.f_files:  # btrfs and others have no such bound
            found[inodes] = Observation(stats.f_favail, stats.f_files)
    return found


def memory(meminfo: str) -> Observation:
    """Return how much memory is left, as the kubelet reckons it.

    Its working set is what processes hold and what files have in the cache, less the part of that
    which was not used lately. The kernel's own caches do not count.
    """
    values = {}
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        values[name] = int(value.split()[0]) * 1024
    files = values["Cached"] + values["Buffers"] + values.get("SwapCached", 0)
    working_set = values["AnonPages"] + files - values["Inactive(file)"]
    return Observation(values["MemTotal"] - max(0, working_set), values["MemTotal"])


def _pids(proc: Path) -> Observation | None:
    """Return how many more processes there may be; None if the kernel does not say."""
    try:
        limit = min(
            int((proc / "sys/kernel/pid_max").read_text()),
            int((proc / "sys/kernel/threads-max").read_text()),
        )
        running = int((proc / "loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return None
    return Observation(max(0, limit - running), limit)
