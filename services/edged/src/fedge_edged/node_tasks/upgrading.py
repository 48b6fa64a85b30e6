"""Bringing this edge to another version, and back by itself.

The new version is put beside the one that runs, and tried out: the container's first process ends
broker and services and begins those of the new version. Pods are containers of the host's runtime
and run on. The new version keeps itself once all that worked before works again; if it does not in
time, the first process takes it back. See docs/decisions on versions in slots.
"""

import asyncio
from typing import Final

import structlog

from fedge_edged.node_tasks.checks import Checks
from fedge_edged.node_tasks.diary import Diary
from fedge_edged.node_tasks.health import Health
from fedge_edged.node_tasks.image import OwnImage
from fedge_edged.node_tasks.installing import InstallError, Installing
from fedge_operations import Action, Task, Upgrade
from fedge_slots import Installed, SlotError, Slots

log = structlog.stdlib.get_logger("fedge.edged")

LOOK_SECONDS: Final = 1.0
LEAST_SECONDS: Final = 30.0
"""So long a new version has at least, whatever is left of the task's time."""
STEADY_LOOKS: Final = 3
"""So often in a row all has to work."""


class Upgrading:
    """Upgrades this edge."""

    def __init__(
        self,
        *,
        slots: Slots,
        own: OwnImage | None,
        installing: Installing,
        checks: Checks,
        health: Health,
    ) -> None:
        """Take the parts; ``own`` is None where this edge does not run from the image."""
        self._slots = slots
        self._own = own
        self._installing = installing
        self._checks = checks
        self._health = health
        self._confirmed: dict[str, asyncio.Event] = {}
        self._decided = asyncio.Event()

    @property
    def own(self) -> OwnImage | None:
        """The image that this edge runs from."""
        return self._own

    @property
    def slots(self) -> Slots:
        """The versions of this edge."""
        return self._slots

    @property
    def installing(self) -> Installing:
        """What puts a version into a slot."""
        return self._installing

    def saw(self, task: Task) -> None:
        """Take that somebody may have agreed to an upgrade."""
        if isinstance(task.work, Upgrade) and task.work.confirmed:
            self._agreed(task.uid).set()

    async def keep_what_works(self) -> None:
        """Keep the version that runs, if it is being tried out and all works again."""
        state = self._slots.state()
        own = self._own
        if own is None or state.trial is None or state.trial.slot != own.slot:
            self._decided.set()
            return
        reason, looks = "", 0
        while looks < STEADY_LOOKS:
            missing = await self._health.missing(state.trial.was)
            looks = 0 if missing else looks + 1
            if missing != reason:
                reason = missing
                log.info("version_tried", version=own.version, missing=missing)
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.to_thread(self._slots.keep)
        log.info("version_kept", version=own.version)
        self._decided.set()
        if state.trial.broker_kept:
            # devices were kept out while the other broker's data might have been needed again
            await own.end()

    async def do(self, task: Task, upgrade: Upgrade, diary: Diary) -> None:
        """Upgrade, or go on where a version before this one was."""
        own = self._own
        if own is None:
            reason = "this edge does not run from the image: upgrade it in the way it was installed"
            diary.step(Action.CHECK, reason, ok=False)
            diary.end(reason)
            return
        if diary.has(Action.BACK_UP):
            await self._after(own, task, upgrade, diary)
            return
        if not diary.has(Action.CHECK):
            short = await self._checks.look(task.check_items)
            diary.step(Action.CHECK, "; ".join(short), ok=not short)
            if short:
                diary.end(f"not begun: {'; '.join(short)}")
                return
        if upgrade.require_confirmation and not diary.has(Action.WAITING_CONFIRMATION):
            await self._wait(task, upgrade, diary)
        await self._begin(own, task, upgrade, diary)

    async def _wait(self, task: Task, upgrade: Upgrade, diary: Diary) -> None:
        agreed = self._agreed(task.uid)
        if not upgrade.confirmed and not agreed.is_set():
            diary.wait(
                Action.WAITING_CONFIRMATION,
                f"waits for somebody to agree: fedge node upgrade {task.node} --confirm",
            )
            await agreed.wait()
            diary.restart_time()  # of the node's time none ran meanwhile
        diary.step(Action.WAITING_CONFIRMATION)

    async def _begin(self, own: OwnImage, task: Task, upgrade: Upgrade, diary: Diary) -> None:
        try:
            async with asyncio.timeout(diary.left_of(task.timeout_seconds)):
                installed = await self._installing.image(upgrade, task.uid)
        except InstallError as exc:
            self._failed(diary, str(exc))
            return
        except TimeoutError:
            self._failed(diary, f"the image was not here within {task.timeout_seconds} s")
            return
        if installed.name == own.slot:
            diary.versions(current=own.version, historic=own.version)
            diary.step(Action.UPGRADE, "this version runs already")
            diary.end()
            return
        diary.versions(current=own.version, historic=own.version)
        diary.keep_note("before", own.version)
        # first that, so that whoever goes on after a kill looks for what became of it
        if not diary.has(Action.BACK_UP):
            diary.step(Action.BACK_UP)
        await self._try_out(installed, task, diary)

    async def try_out(self, installed: Installed, *, id: str, seconds: float) -> None:  # noqa: A002
        """Have a version that is installed run, if it proves itself.

        Args:
            installed: the version.
            id: who asks for it.
            seconds: how long it has.

        Raises:
            SlotError: it cannot be tried out now.
        """
        if self._own is None:
            raise SlotError("this edge does not run from the image")
        was = await self._health.now()
        await asyncio.to_thread(
            self._slots.try_out,
            installed.name,
            id=id,
            seconds=seconds,
            base=self._own.base,
            was=was,
        )
        log.info("version_switched", before=self._own.version, version=installed.version)
        await self._own.end()

    async def _try_out(self, installed: Installed, task: Task, diary: Diary) -> None:
        try:
            seconds = max(LEAST_SECONDS, diary.left_of(task.timeout_seconds))
            await self.try_out(installed, id=task.uid, seconds=seconds)
        except SlotError as exc:
            self._failed(diary, str(exc), action=Action.UPGRADE)

    async def _after(self, own: OwnImage, task: Task, upgrade: Upgrade, diary: Diary) -> None:
        state = self._slots.state()
        if state.trial is not None and state.trial.id == task.uid:
            if state.trial.slot != own.slot:
                await own.end()  # it was to be switched when this process was killed
                return
            await self._decided.wait()
            state = self._slots.state()
        outcome = state.outcome
        if outcome is None or outcome.id != task.uid:
            # it was to be tried out and was not: the disk lost it, or another took its place
            await self._begin(own, task, upgrade, diary)
            return
        before = diary.note("before")
        diary.versions(current=own.version, historic=before)
        if outcome.reason:
            diary.step(Action.UPGRADE, outcome.reason, ok=False)
            diary.step(Action.ROLL_BACK)
            diary.end(f"{own.version} runs again: {outcome.reason}")
        else:
            diary.step(Action.UPGRADE)
            diary.end()

    def _failed(self, diary: Diary, reason: str, *, action: Action = Action.BACK_UP) -> None:
        diary.step(action, reason, ok=False)
        diary.end(reason)

    def _agreed(self, uid: str) -> asyncio.Event:
        return self._confirmed.setdefault(uid, asyncio.Event())
