"""Control groups that containers leave behind when the power is cut.

A container's processes die with the edge; its empty groups stay in the machine's hierarchy, in
version 1 one per controller. They are all under the edge's own parent, so they are known by it.
"""

import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_VERSION_2_MARK = "cgroup.controllers"


def remove_leftovers(parent: str) -> None:
    """Remove the empty groups under ``parent`` (``/fedge/...``) in every hierarchy, and itself.

    Groups that still hold processes stay, with all above them.
    """
    for hierarchy in _hierarchies():
        top = hierarchy / parent.strip("/")
        folders = [Path(each) for each, _, _ in os.walk(top, topdown=False)]
        for folder in folders:
            _remove(folder)


def _hierarchies() -> list[Path]:
    if (_ROOT / _VERSION_2_MARK).exists():
        return [_ROOT]
    return [each for each in _ROOT.iterdir() if each.is_dir() and not each.is_symlink()]


def _remove(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        if (folder / "cgroup.procs").read_text().strip():
            return  # in use
        raise
