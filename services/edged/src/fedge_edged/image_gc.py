"""Removes images that nobody uses when the disk fills up.

https://kubernetes.io/docs/concepts/architecture/garbage-collection/#container-image-garbage-collection

Above the high threshold, images are removed until the low one is reached: those first that were
not used for the longest time. One that a container is made of, that is younger than two minutes or
that the runtime needs itself is left alone. So is one that a pod of the node names, although it has
no container now: with the registry out of reach, it could not be had again.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import structlog

from fedge_cri import Image, RefusedError, Runtime, RuntimeFaultError
from fedge_edged.images import normal_reference
from fedge_edged.ports import Clock

log = structlog.stdlib.get_logger("fedge.edged")

LOOK_SECONDS = 300.0
LEAST_AGE_SECONDS = 120.0
_PERCENT = 100


class Usage(NamedTuple):
    """A file system: bytes in all and bytes in use."""

    total: int
    used: int


class ImageGC:
    """The images' end."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        clock: Clock,
        high_percent: int,
        low_percent: int,
        wanted: Callable[[], Iterable[str]],
        usage: Callable[[Path], Usage] | None = None,
    ) -> None:
        """Prepare.

        Args:
            runtime: has the images.
            clock: tells their age.
            high_percent: of the images' file system in use, above which images are removed.
            low_percent: down to which they are.
            wanted: tells the references that the node's pods name.
            usage: tells how full a file system is.
        """
        self._runtime = runtime
        self._clock = clock
        self._high = high_percent
        self._low = low_percent
        self._wanted = wanted
        self._usage = usage or _usage_of
        self._first_seen: dict[str, float] = {}
        self._last_used: dict[str, float] = {}
        self._in_use: set[str] = set()

    async def run(self) -> None:
        """Look every five minutes until cancelled."""
        while True:
            try:
                await self.look()
            except (RuntimeFaultError, OSError) as exc:
                log.warning("image_gc_failed", reason=str(exc))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Note which images are in use, and remove some if the disk is too full.

        Raises:
            RuntimeFaultError: the runtime does not answer.
        """
        await self._note()
        for filesystem in await self._runtime.image_filesystems():
            usage = await asyncio.to_thread(self._usage, Path(filesystem.mountpoint))
            if not usage.total or usage.used * _PERCENT < self._high * usage.total:
                continue
            wanted = usage.used - self._low * usage.total // _PERCENT
            log.info("images_too_large", mountpoint=filesystem.mountpoint, bytes_wanted=wanted)
            freed = await self.free(wanted)
            if freed < wanted:
                log.warning(
                    "images_not_enough",
                    mountpoint=filesystem.mountpoint,
                    bytes_wanted=wanted,
                    bytes_freed=freed,
                )

    async def free(self, bytes_wanted: int) -> int:
        """Remove images until so many bytes are free, or none is left to remove.

        Returns:
            How many bytes they took, by what the runtime says of each.

        Raises:
            RuntimeFaultError: the runtime does not answer.
        """
        images = await self._note()
        now = self._clock.now()
        old = [
            each
            for each in images
            if each.id not in self._in_use
            and not each.pinned
            and not _is_pause(each)
            and now - self._first_seen[each.id] >= LEAST_AGE_SECONDS
        ]
        freed = 0
        for image in sorted(old, key=lambda each: self._rank(each.id)):
            if freed >= bytes_wanted:
                break
            try:
                await self._runtime.remove_image(image.id)
            except RefusedError as exc:
                log.warning("image_stays", image=_name(image), reason=str(exc))
                continue
            log.info("image_removed", image=_name(image), bytes=image.size_bytes)
            freed += image.size_bytes
        return freed

    def _rank(self, image_id: str) -> tuple[float, float]:
        return self._last_used.get(image_id, 0.0), self._first_seen[image_id]

    async def _note(self) -> list[Image]:
        """Learn which images there are and which are in use now."""
        images = list(await self._runtime.list_images())
        containers = await self._runtime.list_containers()
        now = self._clock.now()
        ids = {each.id for each in images}
        names = {name: each.id for each in images for name in (*each.tags, *each.digests, each.id)}
        self._first_seen = {each: self._first_seen.get(each, now) for each in ids}
        self._last_used = {k: v for k, v in self._last_used.items() if k in ids}
        used = {name for each in containers for name in (each.image_ref, each.image)}
        used |= {normal_reference(each) for each in self._wanted()}
        self._in_use = {names[each] for each in used if each in names}
        self._last_used |= dict.fromkeys(self._in_use, now)
        return images


def _usage_of(path: Path) -> Usage:
    usage = shutil.disk_usage(path)
    return Usage(total=usage.total, used=usage.used)


def _is_pause(image: Image) -> bool:
    """Whether it is what sandboxes are made of; not every runtime says that it is pinned."""
    return any(tag.rsplit("/", 1)[-1].startswith("pause:") for tag in image.tags)


def _name(image: Image) -> str:
    return next(iter((*image.tags, *image.digests)), image.id)
