"""What files take of a disk."""

import os
from dataclasses import dataclass
from pathlib import Path

_BLOCK_BYTES = 512
"""In which ``stat`` counts, whatever the file system."""


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Of a folder and all below it."""

    size_bytes: int = 0
    inodes: int = 0


def disk_usage(folder: Path) -> DiskUsage:
    """Return what lies below a folder; none if it is not there, links count as themselves."""
    size = inodes = 0
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            try:
                stat = (Path(parent) / name).lstat()
            except FileNotFoundError:
                continue  # whoever writes there goes on
            size += stat.st_blocks * _BLOCK_BYTES
            inodes += 1
    return DiskUsage(size, inodes)
