"""The image of another processor, run on this one by qemu's user mode emulation.

The kernel is told of qemu in a user namespace of the test's own (Linux 6.7 and later), where root
folder, processes and network are its own too: nothing of the machine is changed, and all is gone
with the first process. qemu is Debian stable's, unpacked beside the image's packages and not
installed.
https://docs.kernel.org/admin-guide/binfmt-misc.html
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images import debian
from images.cached import CACHE
from images.edge import EDGE

VOLUME: Final = "/var/lib/fedge"
_SHARES: Final = ("user", "mount", "pid", "net", "ipc", "uts")
_MAGIC: Final = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK: Final = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
"""64 bits, little-endian, a program or a library, for AArch64."""
# P: a program finds the name that it was called by, which busybox needs; F: qemu is opened here,
# where the image's root is not entered yet
_ENTER: Final = r"""
set -eu
root=$1 qemu=$2 volume=$3; shift 3
mount -t tmpfs none /mnt
mkdir /mnt/formats
mount -t binfmt_misc none /mnt/formats
printf %s ":fedge:M::$MAGIC:$MASK:$qemu:PF" >/mnt/formats/register
mount --rbind "$root" "$root"
mount -t proc none "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/run"
mount -t tmpfs none "$root/tmp"
mount -t tmpfs none "$root$VOLUME"
mount --make-shared "$root$VOLUME"
[ -z "$volume" ] || cp -R "$volume/." "$root$VOLUME"
ip link set lo up
unset MAGIC MASK VOLUME
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    text: str
    """All it wrote."""


class UnavailableError(Exception):
    """This machine cannot emulate; it says why."""


def qemu() -> Path:
    """Return the emulator, unpacked once.

    Raises:
        BuildError: apt could not fetch it.
    """
    folder = CACHE / "qemu"
    program = folder / "usr/bin/qemu-aarch64"
    if not program.exists():
        [package] = (
            each
            for each in debian.fetch(
                ("qemu-user",), architecture=debian.machine(), folder=CACHE / "debian"
            )
            if each.name == "qemu-user"
        )
        debian.unpack(package, folder, is_kept=lambda path: path == "usr/bin/qemu-aarch64")
    return program


def check() -> None:
    """See whether the kernel lets a user namespace have an emulator of its own.

    Raises:
        UnavailableError: it does not.
    """
    command = ["mount", "-t", "binfmt_misc", "none", "/mnt"]
    done = _run([*_unshared(), *command])
    if done.code:
        raise UnavailableError(
            "no emulator can be named to the kernel in a user namespace; that needs root, Linux"
            f" 6.7 and its module binfmt_misc (`modprobe binfmt_misc`): {done.text.strip()}"
        )


class Emulated:
    """The files of the image, and the emulator for them."""

    def __init__(self, root: Path, emulator: Path) -> None:
        """Take note.

        Args:
            root: the image's files, unpacked.
            emulator: of its processor.
        """
        self._root = root
        self._emulator = emulator

    def run(self, *command: str, seconds: float = 120) -> Ended:
        """Run a command in a container of its own."""
        return _run(self._within(command, None), seconds=seconds, environment=self._environment())

    @contextmanager
    def running(self, volume: Path, log: Path) -> Iterator[int]:
        """Run what the image is made to run; yield the process that `inside` takes.

        Args:
            volume: what the volume is filled with.
            log: where all that is written goes.
        """
        with (
            log.open("wb") as out,
            subprocess.Popen(
                self._within(EDGE.config["Entrypoint"], volume),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                yield process.pid
            finally:
                # which ends the first process of the container, and so all of them
                os.kill(process.pid, signal.SIGKILL)

    def inside(self, pid: int, *command: str, seconds: float = 60) -> Ended:
        """Run a command in the container of `running`."""
        return _run(
            [
                "nsenter", f"--target={_first(pid)}", *(f"--{each}" for each in _SHARES),
                "chroot", str(self._root), *command,
            ],
            seconds=seconds,
            environment=self._environment(),
        )  # fmt: skip

    def end(self, pid: int) -> None:
        """Ask the container of `running` to end, as an engine does."""
        os.kill(int(_first(pid)), signal.SIGTERM)

    def _within(self, command: Sequence[str], volume: Path | None) -> list[str]:
        enter = ["sh", "-c", _ENTER, "sh", str(self._root), str(self._emulator)]
        return [*_unshared(), *enter, str(volume or ""), *command]

    def _environment(self) -> dict[str, str]:
        own = dict(each.split("=", 1) for each in EDGE.config["Env"])
        return {**own, "MAGIC": _MAGIC, "MASK": _MASK, "VOLUME": VOLUME}


def _first(pid: int) -> str:
    """Return the first process of a container, as this machine numbers it."""
    [first] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return first


def _unshared() -> list[str]:
    return [
        "unshare", *(f"--{each}" for each in _SHARES), "--map-root-user", "--fork", "--kill-child",
    ]  # fmt: skip


def _run(
    command: Sequence[str], *, seconds: float = 30, environment: Mapping[str, str] | None = None
) -> Ended:
    done = subprocess.run(
        command,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    return Ended(done.returncode, done.stdout)
