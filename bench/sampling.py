"""What processes and folders take, looked at while something else is measured.

Memory is the proportional set size (PSS): pages that several processes share count in parts, so
that the sum over processes is what the machine has less.
https://docs.kernel.org/filesystems/proc.html (smaps_rollup)
"""

import asyncio
import os
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fedge_local.processes import tree

EVERY_SECONDS = 0.5
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_RSS = re.compile(r"^VmRSS:\s+(\d+) kB", re.MULTILINE)
_BLOCK = 512


def memory_mb(pid: int) -> float:
    """Return the memory of a process and of all that descend from it."""
    return sum(map(own_memory_mb, tree(pid)))


def own_memory_mb(pid: int) -> float:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:
        return 0.0  # it ended
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def rss_mb(pid: int) -> float:
    """Return the resident set size of a process: all its pages, shared or not."""
    found = _RSS.search(Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def disk_mb(folder: Path) -> float:
    """Return what a folder takes on disk."""
    blocks = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                blocks += os.lstat(os.path.join(root, name)).st_blocks  # noqa: PTH118 - often
            except FileNotFoundError:
                continue  # it was removed meanwhile
    return blocks * _BLOCK / 1e6


class Sampling:
    """Looks at processes and folders, and knows the highest of each phase."""

    def __init__(
        self, processes: Mapping[str, Callable[[], int | None]], folders: Mapping[str, Path]
    ) -> None:
        """Take note of what to look at.

        Args:
            processes: by name, a function that returns the pid of each, or None while it is away.
            folders: by name.
        """
        self._processes = dict(processes)
        self._folders = dict(folders)
        self._peaks: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.phase = "before"

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Look meanwhile."""
        task = asyncio.create_task(self._run(), name="sampling")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def peaks(self) -> dict[str, float]:
        """Return the highest of everything in each phase: ``<name>_<phase>_mb``."""
        return {
            f"{name}_{phase}_mb": round(peak, 1)
            for phase, peaks in self._peaks.items()
            for name, peak in peaks.items()
        }

    async def look(self) -> None:
        """Look once."""
        peaks = self._peaks[self.phase]
        found = await asyncio.to_thread(self._look)
        for name, value in found.items():
            peaks[name] = max(peaks[name], value)

    def _look(self) -> dict[str, float]:
        pids = {name: of() for name, of in self._processes.items()}
        return {
            **{name: memory_mb(pid) for name, pid in pids.items() if pid is not None},
            **{name: disk_mb(folder) for name, folder in self._folders.items()},
        }

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(EVERY_SECONDS)
