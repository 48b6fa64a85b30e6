"""Parts of volumes, mounted so that no link leads out of the volume.

https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath

Whoever writes to a volume may put links into it, also between our look and the runtime's mount. So
each step down is taken without following links, and what was reached is mounted at a place that
the pod cannot write to: that place is what the runtime is given.
"""

import os
import stat
from pathlib import Path

from fedge_edged.errors import ConfigError
from fedge_edged.tmpfs import bind, unmount

FOLDER = "sub-paths"
"""Below the pod's volumes in memory: where the parts are mounted."""


def sub_path(volume: Path, part: str, *, at: Path | None = None) -> Path:
    """Return what a container is to mount of a volume; a part that is missing becomes a folder.

    Args:
        volume: the whole.
        part: relative path in it.
        at: where to mount the part; None if nobody but the node writes to the volume.

    Raises:
        ConfigError: the part leaves the volume, or cannot be reached.
    """
    if Path(part).is_absolute() or ".." in Path(part).parts:
        raise ConfigError(f'subPath "{part}" leaves the volume')
    try:
        # a link that stays inside is fine, as those of config maps do
        found, top = (volume / part).resolve(), volume.resolve()
        if not found.is_relative_to(top):
            raise ConfigError(f'subPath "{part}" leaves the volume')
        descriptor = _reach(top, found.relative_to(top))
        try:
            if at is None:
                return found
            _place(descriptor, at)
        finally:
            os.close(descriptor)
    except (OSError, RuntimeError) as exc:  # links in a circle are a RuntimeError
        raise ConfigError(f'subPath "{part}" cannot be mounted: {exc}') from exc
    return at


def _reach(top: Path, part: Path) -> int:
    """Open what lies at ``part``, making folders of what is not there; follow no link."""
    here = os.open(top, os.O_PATH | os.O_DIRECTORY)
    for name in part.parts:
        try:
            below = _step(here, name)
        finally:
            os.close(here)
        here = below
    return here


def _step(folder: int, name: str) -> int:
    try:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        os.mkdir(name, 0o750, dir_fd=folder)
        found = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        os.fchmod(found, stat.S_IMODE(os.fstat(folder).st_mode))
    if stat.S_ISLNK(os.fstat(found).st_mode):
        os.close(found)
        raise ConfigError(f'"{name}" has become a link that may leave the volume')
    return found


def _place(descriptor: int, at: Path) -> None:
    """Mount an open file or folder, in place of what an earlier container had there."""
    unmount(at)
    if at.is_dir():
        at.rmdir()
    at.unlink(missing_ok=True)
    at.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        at.mkdir()
    else:
        at.touch()
    bind(Path(f"/proc/self/fd/{descriptor}"), at)
