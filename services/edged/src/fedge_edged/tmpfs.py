"""File systems in memory, for ``emptyDir`` volumes of the medium ``Memory``.

https://kubernetes.io/docs/concepts/storage/volumes/#emptydir
"""

import ctypes
import os
from pathlib import Path

from fedge_edged.errors import MountError

_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_DETACH = 2


def mount_tmpfs(path: Path, *, size_bytes: int | None) -> None:
    """Mount one at ``path``, if none is there; without a size, the kernel's default holds.

    Raises:
        MountError: the kernel refuses.
    """
    path.mkdir(parents=True, exist_ok=True)
    if path.is_mount():
        return
    options = "mode=0777" if size_bytes is None else f"mode=0777,size={size_bytes}"
    libc = _libc()
    done = libc.mount(
        b"tmpfs", os.fsencode(path), b"tmpfs", _MS_NOSUID | _MS_NODEV, options.encode()
    )
    if done != 0:
        reason = os.strerror(ctypes.get_errno())
        raise MountError(f"mounting tmpfs at {path} failed: {reason}")


def unmount_below(folder: Path) -> None:
    """Unmount whatever is mounted in a folder, so that removing it reaches nothing else.

    Raises:
        OSError: something stays mounted.
    """
    prefix = f"{folder.resolve()}/"
    for path in reversed(_mounted()):
        if path.startswith(prefix) and _libc().umount2(os.fsencode(path), _MNT_DETACH) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)


def _mounted() -> list[str]:
    """Return where something is mounted, in the order of mounting."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split(" ")[4].encode().decode("unicode_escape") for line in lines]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
