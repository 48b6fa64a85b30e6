"""A disk of an edge's own: a file on the machine's disk, with a file system of a size that is told.

It can be filled without filling the machine's, and unlike memory it survives a power cut. It is
mounted inside the host only, by a loop device that goes with the host's mounts. What the edge's
services keep lies on one; its broker's messages lie on another, all of whose blocks are taken when
it is made, so that nobody else can leave the broker without room: RabbitMQ does not survive that.
Containers and their images lie on neither.
"""

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path

from fedge_local.commands import run
from fedge_local.errors import FaultError, LocalError, NotReadyError
from fedge_local.hosts import EdgeHost

SMALLEST_BYTES = 128 * 1024 * 1024
"""RabbitMQ takes no messages with less than 50 MB free."""
_FREE_SECONDS = 10.0
_ASK_AGAIN_SECONDS = 0.02
_FIRST_PIECE_BYTES = 64 * 1024 * 1024
_BLOCK_BYTES = 4096
_BALLAST = "ballast"
_BLOCK_DEVICES = Path("/sys/block")


class Disk:
    """A disk of one edge."""

    def __init__(
        self,
        *,
        host: EdgeHost,
        name: str,
        size_bytes: int,
        folders: Sequence[Path],
        is_reserved: bool = False,
    ) -> None:
        """Describe a disk.

        Args:
            host: whose it is.
            name: of its file and of its folder in the edge's.
            size_bytes: of the file system, when it is made; later ones are as they were made.
            folders: which folders of the edge lie on it.
            is_reserved: whether its blocks are taken from the machine's disk when it is made, and
                not when they are written.
        """
        self._host = host
        self._size_bytes = size_bytes
        self._folders = tuple(folders)
        self._is_reserved = is_reserved
        self._image = host.folder / f"{name}.img"
        self._mounted = host.folder / name

    async def attach(self) -> None:
        """Mount it in its host, which is on; make it first if it was never made.

        Raises:
            LocalError: the edge has data already, on the machine's disk.
            CommandFailedError: the machine has no loop devices.
        """
        if self._is_attached:
            return
        if not self._image.exists():
            await self._make()
        await self._until_let_go()
        for folder in (self._mounted, *self._folders):
            folder.mkdir(parents=True, exist_ok=True)
        await self._host.run("mount", "-o", "loop", str(self._image), str(self._mounted))
        for folder in self._folders:
            place = self._mounted / folder.name
            await self._host.run("mkdir", "-p", str(place))
            await self._host.run("mount", "--bind", str(place), str(folder))

    async def fill(self) -> None:
        """Fill it up to its last block.

        Raises:
            FaultError: it is not mounted.
        """
        if not self._is_attached:
            raise FaultError(
                f"the disk of {self._host.name} is not there: the edge is off, or has run since "
                "before it was given one; start it again with `fedge down` and `fedge demo`"
            )
        await asyncio.to_thread(_fill, self._ballast)

    def empty(self) -> None:
        """Take away what `fill` put there; while the edge is off there is nothing to reach."""
        if self._is_attached:
            self._ballast.unlink(missing_ok=True)

    @property
    def free_bytes(self) -> int:
        """How much can be written."""
        found = os.statvfs(self._seen)
        return found.f_bavail * found.f_frsize

    @property
    def _seen(self) -> Path:
        return self._host.seen_from_outside(self._mounted)

    @property
    def _ballast(self) -> Path:
        return self._seen / _BALLAST

    @property
    def _is_attached(self) -> bool:
        return self._host.is_on and self._seen.is_mount()

    async def _make(self) -> None:
        for folder in self._folders:
            if folder.exists() and any(folder.iterdir()):
                raise LocalError(
                    f"{self._host.name} has data in {folder} already, which a disk of its own "
                    "would hide: give disks to a new stack, in another folder"
                )
        new = self._image.with_suffix(".new")
        with new.open("wb") as file:
            file.truncate(self._size_bytes)
        # nothing kept back for root: who writes there is root
        await run(["mkfs.ext4", "-q", "-F", "-m", "0", str(new)])
        if self._is_reserved:
            with new.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, self._size_bytes)
        new.replace(self._image)

    async def _until_let_go(self) -> None:
        """Wait until no device holds it: the kernel unmounts some time after a power cut."""
        try:
            async with asyncio.timeout(_FREE_SECONDS):
                while _devices_of(self._image):  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(_ASK_AGAIN_SECONDS)
        except TimeoutError as exc:
            raise NotReadyError(
                f"the disk {self._image} is still held by "
                f"{', '.join(_devices_of(self._image))}: see `losetup`"
            ) from exc


def _devices_of(image: Path) -> list[str]:
    """Return the loop devices that hold a file."""
    found = []
    for file in _BLOCK_DEVICES.glob("loop*/loop/backing_file"):
        try:
            backing = file.read_text().rstrip("\n")
        except OSError:
            continue  # it was let go while we looked
        if backing == str(image):
            found.append(file.parts[-3])
    return found


def _fill(ballast: Path) -> None:
    """Make a file as large as there is room; blocks are given to it, and none is written."""
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        size, piece = os.fstat(descriptor).st_size, _FIRST_PIECE_BYTES
        while piece >= _BLOCK_BYTES:
            try:
                os.posix_fallocate(descriptor, size, piece)
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise
                piece //= 2
            else:
                size += piece
    finally:
        os.close(descriptor)
