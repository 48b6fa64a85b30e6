"""Control groups of the containers of edges on this machine, in version 1 and 2.

A container's processes die with the edge; its empty groups stay in the machine's hierarchy, in
version 1 one per controller. They are all under the edge's own parent, so they are known by it.
"""

import errno
import os
from pathlib import Path

from fedge_local.errors import MissingError

ROOT = Path("/sys/fs/cgroup")
_VERSION_2_MARK = "cgroup.controllers"
_NEEDED = ("cpu", "cpuset", "io", "memory", "pids")
_LEAF = "fedge-init"


def hand_down_controllers(root: Path = ROOT) -> None:
    """Make sure that containers may be limited, in version 2.

    A group that is not the machine's own root can either hold processes or hand its controllers
    down (https://docs.kernel.org/admin-guide/cgroup-v2.html, "No Internal Process Constraint").
    Inside a container the visible root is such a group and holds all processes: they are moved to a
    group below it, as every runtime inside a container does.

    Raises:
        MissingError: the controllers cannot be handed down.
    """
    if not (root / _VERSION_2_MARK).exists():
        return
    there = (root / _VERSION_2_MARK).read_text().split()
    control = root / "cgroup.subtree_control"
    missing = [
        each for each in _NEEDED if each in there and each not in control.read_text().split()
    ]
    if not missing:
        return
    wanted = " ".join(f"+{each}" for each in missing)
    try:
        try:
            control.write_text(wanted)
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise
            _empty(root)
            control.write_text(wanted)
    except OSError as exc:
        raise MissingError(
            f"the control group {root} cannot hand down {', '.join(missing)} ({exc.strerror}):"
            " containers cannot be limited here; run on the machine itself or in a container"
            " started with --privileged --cgroupns=private"
        ) from exc


def remove_leftovers(parent: str) -> None:
    """Remove the empty groups under ``parent`` (``/fedge/...``) in every hierarchy, and itself.

    Those above it go too if they held nothing else. Groups that still hold processes stay.
    """
    for hierarchy in _hierarchies():
        top = hierarchy / parent.strip("/")
        folders = [Path(each) for each, _, _ in os.walk(top, topdown=False)]
        above = [each for each in top.parents if each.is_relative_to(hierarchy)]
        for folder in [*folders, *above[:-1]]:
            _remove(folder)


def _hierarchies() -> list[Path]:
    if (ROOT / _VERSION_2_MARK).exists():
        return [ROOT]
    return [each for each in ROOT.iterdir() if each.is_dir() and not each.is_symlink()]


def _empty(root: Path) -> None:
    """Move every process of ``root`` itself to a group below it."""
    leaf = root / _LEAF
    leaf.mkdir(exist_ok=True)
    for pid in (root / "cgroup.procs").read_text().split():
        try:
            (leaf / "cgroup.procs").write_text(pid)
        except OSError as exc:
            # it ended meanwhile, or it is the kernel's own and counts for nothing
            if exc.errno not in (errno.ESRCH, errno.EINVAL):
                raise


def _remove(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as exc:
        if exc.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise  # anything but a group that is in use
