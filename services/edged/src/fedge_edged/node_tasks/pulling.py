"""Fetching images ahead of the pods that will need them."""

import asyncio
from collections.abc import Callable
from typing import Final

from fedge_cri import Runtime, RuntimeFaultError
from fedge_edged.errors import ImageError
from fedge_edged.images import Images
from fedge_edged.node_tasks.checks import Checks
from fedge_edged.node_tasks.diary import Diary
from fedge_edged.ports import Objects
from fedge_objects import ObjectKey
from fedge_operations import Action, ImageResult, Outcome, Pull, Task
from fedge_service import backoff

SECRET_SECONDS: Final = 30.0
"""For so long the pull secret may come later than the task that names it."""


class Pulling:
    """Fetches what a task names."""

    def __init__(
        self, *, images: Images, runtime: Runtime, objects: Objects, checks: Checks
    ) -> None:
        self._images = images
        self._runtime = runtime
        self._objects = objects
        self._checks = checks
        self._changed = asyncio.Event()

    def saw(self, key: ObjectKey) -> None:
        """Take that an object came or changed."""
        if key.resource == "secrets":
            self._changed.set()

    async def do(self, task: Task, pull: Pull, diary: Diary) -> None:
        """Fetch all images; those that were fetched before a restart are not asked for again."""
        if not diary.has(Action.CHECK):
            short = await self._checks.look(task.check_items, disks=await self._image_disks())
            diary.step(Action.CHECK, "; ".join(short), ok=not short)
            if short:
                diary.end(f"not begun: {'; '.join(short)}")
                return
        secret = await self._secret(pull.secret)
        if pull.secret and secret is None:
            reason = (
                f"the pull secret {pull.secret!r} did not come to this node: is there a Secret of"
                " that namespace and name?"
            )
            diary.step(Action.PULL, reason, ok=False)
            diary.end(reason)
            return
        done = {
            each.image
            for each in (diary.progress.images if diary.progress else ())
            if each.status is Outcome.TRUE
        }
        wanted = [each for each in pull.images if each not in done]
        results = await asyncio.gather(
            *(self._pull(each, pull.retry_times, secret, diary.image) for each in wanted)
        )
        failed = [reason for reason in results if reason]
        reason = f"{len(failed)} of {len(pull.images)} images are not here" if failed else ""
        diary.step(Action.PULL, reason, ok=not failed)
        diary.end(f"{reason}: {failed[0]}" if failed else "")

    async def _image_disks(self) -> list[str]:
        try:
            return [each.mountpoint for each in await self._runtime.image_filesystems()]
        except RuntimeFaultError:
            return []  # the pulls will say what is wrong with it

    async def _secret(self, name: str) -> ObjectKey | None:
        """Return the key of the pull secret once the node has it; None if it does not come."""
        if not name:
            return None
        key = ObjectKey("secrets", *name.split("/", 1))
        try:
            async with asyncio.timeout(SECRET_SECONDS):
                while self._objects.get(key) is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return None
        return key

    async def _pull(
        self,
        image: str,
        retries: int,
        secret: ObjectKey | None,
        tell: Callable[[ImageResult], None],
    ) -> str:
        """Fetch an image; return why it could not be had, or nothing."""
        reason = ""
        async for _ in backoff(first_seconds=1.0, most_seconds=30.0):
            try:
                await self._images.fetch(image, [secret] if secret else [])
            except ImageError as exc:
                reason = str(exc)
                retries -= 1
                if retries >= 0 and exc.reason != "InvalidImageName":
                    continue
                tell(ImageResult(image=image, status=Outcome.FALSE, reason=reason[:512]))
            else:
                tell(ImageResult(image=image, status=Outcome.TRUE))
                reason = ""
            break
        return reason
