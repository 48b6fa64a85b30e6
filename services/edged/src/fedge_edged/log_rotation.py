"""Keeps the containers' logs from filling the disk.

https://kubernetes.io/docs/concepts/cluster-administration/logging/#log-rotation

A log that has grown too large is renamed, and the runtime is told to write a new one. What is older
than the newest rotated part is compressed; no more parts are kept than the settings say. Killed
between the two steps, the runtime goes on writing to the renamed file, and the next look tells it.
"""

import asyncio
import gzip
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from fedge_cri import NotFoundError, Runtime, RuntimeFaultError
from fedge_edged.logs import rotated_files
from fedge_edged.ports import Clock

log = structlog.stdlib.get_logger("fedge.edged")

LOOK_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningLog:
    """The log of a container that runs."""

    container_id: str
    path: Path


class LogRotation:
    """Rotates the logs of the containers that run."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        clock: Clock,
        running: Callable[[], Iterable[RunningLog]],
        max_bytes: int,
        max_files: int,
    ) -> None:
        """Prepare.

        Args:
            runtime: writes the logs.
            clock: gives the rotated parts their names.
            running: tells which logs are being written.
            max_bytes: above this a log is rotated.
            max_files: how many parts there are at most, the one that is written among them.
        """
        self._runtime = runtime
        self._clock = clock
        self._running = running
        self._max_bytes = max_bytes
        self._max_files = max_files

    async def run(self) -> None:
        """Look every ten seconds until cancelled."""
        while True:
            for each in list(self._running()):
                try:
                    await self.look_at(each)
                except (RuntimeFaultError, OSError) as exc:
                    log.warning("log_not_rotated", path=str(each.path), reason=str(exc))
            await asyncio.sleep(LOOK_SECONDS)

    async def look_at(self, running: RunningLog) -> None:
        """Rotate a log if it has grown too large.

        Raises:
            RuntimeFaultError: the runtime does not write a new one; the old name is given back.
            OSError: the disk fails.
        """
        path = running.path
        try:
            if path.stat().st_size <= self._max_bytes:
                return
        except FileNotFoundError:
            if rotated_files(path):
                await self._reopen(running)
            return
        part = path.with_name(f"{path.name}.{int(self._clock.now() * 1000):015}")
        await asyncio.to_thread(self._tidy, path)
        path.rename(part)
        try:
            await self._reopen(running)
        except RuntimeFaultError:
            part.rename(path)
            raise

    async def _reopen(self, running: RunningLog) -> None:
        try:
            await self._runtime.reopen_log(running.container_id)
        except NotFoundError:
            return  # it has ended: nobody writes to the log any more

    def _tidy(self, path: Path) -> None:
        """Remove the oldest parts to make room for one more, and compress the others."""
        parts = rotated_files(path)
        excess = max(0, len(parts) - max(0, self._max_files - 2))
        for old in parts[:excess]:
            old.unlink(missing_ok=True)
            old.with_name(f"{old.name}.gz").unlink(missing_ok=True)
        for part in parts[excess:]:
            if part.suffix != ".gz":
                _compress(part)


def _compress(part: Path) -> None:
    """Compress a part; a cut leaves the part as it was, or both, never neither."""
    compressed = part.with_name(f"{part.name}.gz")
    temporary = part.with_name(f"{part.name}.tmp")
    with part.open("rb") as source, gzip.open(temporary, "wb") as target:
        shutil.copyfileobj(source, target)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.rename(compressed)
    part.unlink()
