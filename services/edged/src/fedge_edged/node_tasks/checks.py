"""What is looked at before a task begins: whether the node can bear it."""

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fedge_operations import CheckItem

FREE_DISK_BYTES: Final = 512 * 1024 * 1024
FREE_MEMORY_BYTES: Final = 128 * 1024 * 1024
IDLE_SHARE: Final = 0.2
LOOK_SECONDS: Final = 1.0
_MIB: Final = 1024 * 1024


class Checks:
    """Looks at the node."""

    def __init__(self, disk: Path, *, proc: Path = Path("/proc")) -> None:
        """Take where to look.

        Args:
            disk: a folder of the disk that is to have room.
            proc: the kernel's own account.
        """
        self._disk = disk
        self._proc = proc

    async def look(self, items: Iterable[CheckItem], *, disks: Iterable[str] = ()) -> list[str]:
        """Return what the node is short of; nothing if it can bear the task.

        Args:
            items: what to look at.
            disks: more folders whose disks are to have room; one that is not seen from here is
                passed over.
        """
        found = []
        for item in items:
            match item:
                case CheckItem.CPU:
                    found += await self._cpu()
                case CheckItem.MEM:
                    found += self._memory()
                case CheckItem.DISK:
                    found += self._disks([str(self._disk), *disks])
        return found

    async def _cpu(self) -> list[str]:
        idle_before, all_before = self._ticks()
        await asyncio.sleep(LOOK_SECONDS)
        idle_after, all_after = self._ticks()
        share = (idle_after - idle_before) / max(1, all_after - all_before)
        if share >= IDLE_SHARE:
            return []
        return [f"cpu: {share:.0%} of it is idle, {IDLE_SHARE:.0%} are wanted"]

    def _ticks(self) -> tuple[int, int]:
        """Return idle and all ticks so far (proc_stat(5): user nice system idle iowait ...)."""
        fields = (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]
        ticks = [int(each) for each in fields]
        return ticks[3] + ticks[4], sum(ticks)

    def _memory(self) -> list[str]:
        lines = (self._proc / "meminfo").read_text().splitlines()
        kib = next(int(each.split()[1]) for each in lines if each.startswith("MemAvailable:"))
        return _short("mem", kib * 1024, FREE_MEMORY_BYTES, "")

    def _disks(self, folders: Iterable[str]) -> list[str]:
        found, seen = [], set()
        for folder in folders:
            try:
                device = Path(folder).stat().st_dev
                free = shutil.disk_usage(folder).free
            except OSError:
                continue
            if device not in seen:
                seen.add(device)
                found += _short("disk", free, FREE_DISK_BYTES, f" at {folder}")
        return found


def _short(item: str, free: int, wanted: int, where: str) -> list[str]:
    if free >= wanted:
        return []
    return [f"{item}: {free // _MIB} MiB are free{where}, {wanted // _MIB} MiB are wanted"]
