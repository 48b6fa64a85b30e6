"""What a version does before it runs: copies its files into a volume, and looks at itself."""

import os
import shutil
from pathlib import Path
from typing import Final

from fedge_boot.programs import SERVICES

_OF_THE_HOST: Final = frozenset({"/etc/resolv.conf", "/etc/hosts", "/etc/hostname"})
"""Files that the runtime mounts into a container; in a slot they are empty until then."""
NEEDED: Final = ("sh", "python3", "erl", "s6-svscan", "s6-supervise", "s6-svc", "s6-svscanctl")


def copy(target: Path, *, root: Path = Path("/")) -> None:
    """Copy this container's own files, and nothing that is mounted into it.

    Args:
        target: an empty folder.
        root: of the container.

    Raises:
        OSError: a file cannot be read or written.
    """
    device = root.stat().st_dev
    for folder, names, files in os.walk(root):
        source = Path(folder)
        there = target / source.relative_to(root)
        kept = []
        for name in names:
            path = source / name
            if path.is_symlink():
                files.append(name)
                continue
            (there / name).mkdir(exist_ok=True)
            _same(path, there / name)
            if path.stat().st_dev == device and path != target:
                kept.append(name)
        names[:] = kept
        for name in files:
            _copy_file(source / name, there / name)


def check() -> str:
    """Return why this version could not start here; nothing if it could."""
    from fedge_service import load_plugins  # noqa: PLC0415 - only here is all of it wanted

    missing = [each for each in NEEDED if shutil.which(each) is None]
    if missing:
        return f"{', '.join(missing)} are not in the image"
    # whatever a service needs is imported
    load_plugins(SERVICES)
    return ""


def _copy_file(path: Path, there: Path) -> None:
    if path.is_symlink():
        there.symlink_to(path.readlink())
        return
    if not path.is_file():
        return  # a device, a socket: the container's
    if str(path) in _OF_THE_HOST:
        there.touch()
        return
    shutil.copyfile(path, there)
    _same(path, there)


def _same(path: Path, there: Path) -> None:
    status = path.stat()
    os.chown(there, status.st_uid, status.st_gid)
    there.chmod(status.st_mode & 0o7777)
