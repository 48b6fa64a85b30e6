"""What the node mounts for pods: file systems in memory, and parts of volumes.

https://kubernetes.io/docs/concepts/storage/volumes/#emptydir
"""

import ctypes
import os
from pathlib import Path

from fedge_edged.errors import MountError

_MS_NOSUID, _MS_NODEV = 2, 4
_MS_BIND = 4096
_MNT_DETACH = 2


def mount_tmpfs(path: Path, *, size_bytes: int | None, mode: int, group: int | None) -> None:
    """Mount one at ``path``, if none is there; without a size, the kernel's default holds.

    Raises:
        MountError: the kernel refuses.
    """
    path.mkdir(parents=True, exist_ok=True)
    if path.is_mount():
        return
    options = [f"mode={mode:o}"]
    if size_bytes is not None:
        options.append(f"size={size_bytes}")
    if group is not None:
        options.append(f"gid={group}")
    flags = _MS_NOSUID | _MS_NODEV
    target, named = os.fsencode(path), ",".join(options).encode()
    if _libc().mount(b"tmpfs", target, b"tmpfs", flags, named) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise MountError(f"mounting tmpfs at {path} failed: {reason}")


def bind(source: Path, target: Path) -> None:
    """Show a file or folder at another place too.

    Raises:
        OSError: the kernel refuses.
    """
    if _libc().mount(os.fsencode(source), os.fsencode(target), None, _MS_BIND, None) != 0:
        raise _error(target)


def unmount(path: Path) -> None:
    """Unmount whatever is mounted at a path itself.

    Raises:
        OSError: it stays mounted.
    """
    found = str(path.resolve())
    for mounted in _mounted():
        if mounted == found:
            _unmount(mounted)


def unmount_below(*folders: Path) -> None:
    """Unmount whatever is mounted in folders, so that removing them reaches nothing else.

    Raises:
        OSError: something stays mounted.
    """
    prefixes = tuple(f"{folder.resolve()}/" for folder in folders)
    for path in reversed(_mounted()):
        if path.startswith(prefixes):
            _unmount(path)


def _unmount(path: str) -> None:
    if _libc().umount2(os.fsencode(path), _MNT_DETACH) != 0:
        raise _error(Path(path))


def _error(path: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(path))


def _mounted() -> list[str]:
    """Return where something is mounted, in the order of mounting."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split(" ")[4].encode().decode("unicode_escape") for line in lines]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
