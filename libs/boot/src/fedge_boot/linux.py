"""Mounts and namespaces (mount(2), unshare(2)): the standard library has no calls for them."""

import ctypes
import os
from typing import Final

BIND: Final = 4096
RECURSIVE: Final = 16384
PRIVATE: Final = 1 << 18
NOSUID: Final = 2
NODEV: Final = 4
_NEW_MOUNTS: Final = 0x00020000


def mount(source: str, target: str, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount.

    Raises:
        OSError: it cannot be.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        flags,
        options.encode() or None,
    )
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def leave_mounts() -> None:
    """Give this process a view of the mounts of its own.

    Raises:
        OSError: it may not have one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
