"""What the host must give: a volume that both see at one path, the runtime's socket, free ports.

edged makes folders and mounts for its pods, and containerd, which lives on the host, mounts them
into containers by the paths that edged says. So the volume must lie at the same path in the
container and on the host, and a mount made here must appear there (shared propagation,
https://docs.kernel.org/filesystems/sharedsubtree.html).
"""

import ctypes
import errno
import os
import socket
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedge_boot.errors import NOT_NOW, BootError

PORT_SECONDS: Final = 10.0
"""For so long a port is waited for that an edge may have which is just ending."""
_MS_NOSUID, _MS_NODEV = 2, 4
_ASK_AGAIN_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of ``/proc/self/mountinfo`` (proc_pid_mountinfo(5))."""

    point: str
    root: str
    """Which folder of its file system is mounted."""
    kind: str
    optional: tuple[str, ...]
    """``shared:N``, ``master:N``."""

    @property
    def tells_host(self) -> bool:
        """Whether what is mounted below it appears on the host."""
        names = {each.partition(":")[0] for each in self.optional}
        return "shared" in names and "master" not in names


def mounts(text: str | None = None) -> list[Mount]:
    """Return what is mounted, in the order of mounting."""
    if text is None:
        text = Path("/proc/self/mountinfo").read_text()
    found = []
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        _, _, _, root, point, _, *optional = head.split(" ")
        found.append(
            Mount(
                point=point.encode().decode("unicode_escape"),
                root=root.encode().decode("unicode_escape"),
                kind=tail.partition(" ")[0],
                optional=tuple(optional),
            )
        )
    return found


def check_volume(data: Path, there: Iterable[Mount]) -> None:
    """See that the volume is one, that it is writable, and where the host has it.

    Raises:
        BootError: it is not; with what to do.
    """
    remedy = f"start the container with --volume {data}:{data}:rshared"
    mount = next((each for each in reversed(list(there)) if each.point == str(data)), None)
    if mount is None:
        raise BootError(
            f"no volume is mounted at {data}: all that this edge knows would be lost; {remedy}"
        )
    name = mount.root.rpartition("/")[2]
    if name and name != data.name:
        raise BootError(
            f"the volume at {data} is the folder {mount.root} of the host, and containerd would "
            f"not find pods' files at the same path: {remedy}"
        )
    if not mount.tells_host:
        raise BootError(
            f"the volume at {data} is not shared, so containerd would not see what is mounted for "
            f"pods: {remedy}"
        )
    probe = data / f".probe-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as exc:
        if exc.errno != errno.ENOSPC:  # a full disk is a state to work in
            raise BootError(
                f"the volume at {data} cannot be written to ({exc.strerror}): mount it read-write, "
                "from a file system that is sound"
            ) from exc


def keep_in_memory(folder: Path, there: Iterable[Mount]) -> None:
    """See that a folder is in memory, there and on the host: pods' Secrets are not to reach flash.

    What an earlier container mounted there is still there, with the files of running pods.

    Raises:
        BootError: it cannot be; with what to do.
    """
    if any(each.point == str(folder) and each.kind == "tmpfs" for each in there):
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    flags, options = _MS_NOSUID | _MS_NODEV, b"mode=0700"
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise BootError(
            f"a file system in memory cannot be mounted at {folder} ({reason}): start the "
            "container with --cap-add SYS_ADMIN --security-opt apparmor=unconfined, or --privileged"
        )


def check_socket(path: Path) -> str:
    """See whether the runtime's socket is there; it may still come.

    Returns:
        What is to be said about it; empty if it is there.

    Raises:
        BootError: something else is there.
    """
    remedy = f"start the container with --volume {path.parent}:{path.parent}"
    try:
        status = path.stat()
    except FileNotFoundError:
        return (
            f"there is no socket {path} yet, and no pod starts before: see that containerd runs, "
            f"and {remedy}"
        )
    except OSError as exc:
        raise BootError(f"the runtime's socket {path} cannot be reached ({exc.strerror})") from exc
    if not stat.S_ISSOCK(status.st_mode):
        raise BootError(f"{path} is not a socket: is it containerd's? {remedy}")
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError as exc:
            return (
                f"nobody answers at {path} ({exc.strerror}), and no pod starts before: see that "
                "containerd runs"
            )
    return ""


def check_ports(
    ports: Iterable[tuple[str, int, str]], *, patience_seconds: float = PORT_SECONDS
) -> None:
    """See that ports are free.

    Args:
        ports: address, number, and the variable that names another.
        patience_seconds: for so long one that is taken is waited for.

    Raises:
        BootError: one is taken.
    """
    end = time.monotonic() + patience_seconds
    for address, port, variable in ports:
        while (reason := _taken(address, port)) is not None:
            if time.monotonic() >= end:
                raise BootError(
                    f"port {port} of {address} cannot be had ({reason}): stop what has it "
                    f"(`ss -ltnp` shows it), or choose another with {variable}",
                    code=NOT_NOW,
                )
            time.sleep(_ASK_AGAIN_SECONDS)


def _taken(address: str, port: int) -> str | None:
    with socket.socket(socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as exc:
            return exc.strerror or str(exc)
    return None
