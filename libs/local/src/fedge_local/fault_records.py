"""What is remembered about faults that are made on purpose: one small file for each that lasts.

A fault is written down before it is made and struck off when it is healed. So every command knows
what is wrong with which node, and what a command that was killed has left behind can be healed.
The files are apart from the stack's state, so that commands that make faults side by side do not
write over each other.
"""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Self

from fedge_local.errors import FaultError
from fedge_local.processes import Process

ALL = "all"


class FaultKind(StrEnum):
    """What can be made to fail."""

    CUT = "cut"
    HALFOPEN = "halfopen"
    LOSSY = "lossy"
    SLOW = "slow"
    KILL = "kill"
    PAUSE = "pause"
    FILL_DISK = "fill-disk"
    CLOCK = "clock"


_OF_PROCESSES = (FaultKind.KILL, FaultKind.PAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """A fault that is there, or was when its owner was killed."""

    where: str
    """Name of the edge, or ``cloud``."""
    kind: FaultKind
    owner: Process
    """Who made it and will heal it."""
    what: str = ""
    """Which processes, if it is about processes."""
    drops_up: bool = False
    drops_down: bool = False
    loss_percent: float = 0.0
    detour_port: int = 0
    """Where the edge's connections to the cloud's broker are led to; 0: nowhere else."""

    def __str__(self) -> str:
        """Return what it is, as the command line names it."""
        return f"{self.kind} {self.what}".rstrip()

    @property
    def is_left_behind(self) -> bool:
        """Whether nobody is there any more who would heal it."""
        return not self.owner.is_alive

    def excludes(self, other: "FaultRecord") -> bool:
        """Whether both cannot be at once: they would heal each other, or not be what they say."""
        if self.where != other.where:
            return False
        if self.kind in _OF_PROCESSES and other.kind in _OF_PROCESSES:
            return self.what == other.what or ALL in (self.what, other.what)
        return self.kind == other.kind

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what was written.

        Raises:
            ValueError, TypeError, KeyError: it is none.
        """
        saved = json.loads(text)
        saved["owner"] = Process(**saved["owner"])
        saved["kind"] = FaultKind(saved["kind"])
        return cls(**saved)


class FaultBook:
    """All faults of a stack."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> list[FaultRecord]:
        """Return the faults that are remembered, in the order of nodes.

        Raises:
            FaultError: a file is not one of ours.
        """
        return [
            found
            for path in sorted(self._folder.glob("*/*.json"))
            if (found := _read(path)) is not None
        ]

    def add(self, record: FaultRecord) -> None:
        """Write a fault down.

        Raises:
            FaultError: it cannot be beside one that is there.
        """
        path = self._path(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        with (self._folder / "book.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held for no longer than it takes to write a file
            for other in self.all():
                if record.excludes(other):
                    owner = "" if other.is_left_behind else f" by process {other.owner.pid}"
                    raise FaultError(
                        f"{record} cannot be made at {record.where}: there is {other} already, "
                        f"made{owner}; wait for its end, or run `fedge chaos heal {record.where}`"
                    )
            new = path.with_suffix(".new")
            new.write_text(json.dumps(asdict(record)))
            new.replace(path)

    def forget(self, record: FaultRecord) -> None:
        """Strike a fault off; nothing if it is not there."""
        self._path(record).unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def healing(self, record: FaultRecord) -> AsyncIterator[bool]:
        """Hold the right to heal a fault; False: somebody else has healed it."""
        try:
            file = self._path(record).open("rb")
        except FileNotFoundError:
            yield False
            return
        async with _locked(file):
            yield os.fstat(file.fileno()).st_nlink > 0

    @contextlib.asynccontextmanager
    async def shaping_lines(self) -> AsyncIterator[None]:
        """Hold the right to change the packet filter to what is remembered."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = (self._folder / "lines.lock").open("wb")
        async with _locked(file):
            yield

    def _path(self, record: FaultRecord) -> Path:
        name = f"{record.kind}-{record.what}" if record.what else str(record.kind)
        return self._folder / record.where / f"{name}.json"


def _read(path: Path) -> FaultRecord | None:
    try:
        return FaultRecord.parse(path.read_text())
    except FileNotFoundError:
        return None  # healed while we looked
    except (ValueError, TypeError, KeyError) as exc:
        raise FaultError(f"{path} cannot be read ({exc!r}): remove it") from exc


@contextlib.asynccontextmanager
async def _locked(file: BinaryIO) -> AsyncIterator[None]:
    """Hold the lock of a file while it lasts, then close it; wait for it without blocking."""
    waiting = asyncio.get_running_loop().run_in_executor(None, fcntl.flock, file, fcntl.LOCK_EX)
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        waiting.add_done_callback(lambda _: file.close())  # the thread has it until then
        raise
    with file:
        yield
