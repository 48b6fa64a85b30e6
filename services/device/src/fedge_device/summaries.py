"""``Device.status`` kept up to date, beside the way of the reports.

What is said of a device follows from what is known: the manifest, the model, the DeviceStatus. So
it can be made anew at any time, and whatever a crash or an API that was away kept from being
written is written later. A change that matters is written within a second, others seldom.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from fedge_device.findings import Finding
from fedge_device.kinds.devices import Devices
from fedge_device.kinds.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES
from fedge_device.known import KnownStatus, device_key
from fedge_device.statuses import status_of, what_matters
from fedge_dispatch import Budget
from fedge_kube import (
    Changed,
    KubeClient,
    KubeError,
    Listed,
    NotServed,
    Removed,
    UnreachableError,
    observe,
)
from fedge_objects import JsonObject, ObjectKey

log = structlog.stdlib.get_logger("fedge.device")

SOON_SECONDS = 1.0
REFUSED_AGAIN_SECONDS = 60.0
TICK_SECONDS = 0.25
"""Writes that wait fall due together: an API server commits together what comes together."""
SLACK_SECONDS = 0.001
"""What is due so soon is due: a clock is not exact enough to wait for less."""
WRITERS = 16
"""So many writes may ask for their turn at once; a report's does not wait behind more of them."""


class Summaries:
    """Writes every device's status."""

    def __init__(
        self,
        devices: Devices,
        budget: Budget,
        *,
        every_seconds: float,
        account: Callable[[ObjectKey], Finding | None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.prepared = asyncio.Event()
        self._devices = devices
        self._known = devices.known
        self._budget = budget
        self._every_seconds = every_seconds
        self._account = account
        self._now = now
        self._due: dict[ObjectKey, float] = {}
        self._last: dict[ObjectKey, float] = {}
        self._not_before: dict[ObjectKey, float] = {}
        self._written: dict[ObjectKey, tuple[JsonObject, JsonObject]] = {}
        self._gone: dict[ObjectKey, KnownStatus] = {}
        self._writing: set[ObjectKey] = set()
        self._turns = asyncio.Semaphore(WRITERS)

    def saw(self, key: ObjectKey, obj: JsonObject | None) -> None:
        """Take a Device or a DeviceModel."""
        if key.resource == DEVICE_MODELS.name:
            self._known.put_model(key, obj)
        elif key.resource == DEVICES.name and obj is not None:
            known = self._known.devices.get(key)
            if known is not None and known.uid != obj["metadata"].get("uid"):
                self._forget(key)
            self._known.put_device(key, obj)
        elif key.resource == DEVICES.name:
            self._forget(key)

    async def run(self, kube: KubeClient, listed: asyncio.Event) -> None:
        """Follow DeviceStatuses and write summaries until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(kube), name="follow device statuses")
            await listed.wait()
            while True:
                self._known.news.clear()
                for key in self._take_changed():
                    self._plan(key)
                now = _monotonic()
                for key in [key for key, due in self._due.items() if due <= now + SLACK_SECONDS]:
                    del self._due[key]
                    self._writing.add(key)
                    tasks.create_task(self._write(kube, key), name=f"summary of {key}")
                await self._until_next()

    async def _until_next(self) -> None:
        """Wait for news, or for the next write to fall due."""
        first = min(self._due.values(), default=None)
        try:
            async with asyncio.timeout_at(first):
                await self._known.news.wait()
        except TimeoutError:
            return

    async def _follow(self, kube: KubeClient) -> None:
        async for observation in observe(kube, DEVICE_STATUSES):
            match observation:
                case Listed(items, _):
                    listed = {device_key(obj) for obj in items}
                    for key in [key for key in self._known.statuses if key not in listed]:
                        self._lost(key)
                    for obj in items:
                        self._devices.took(device_key(obj), obj)
                    self.prepared.set()
                case Changed(obj):
                    self._devices.took(device_key(obj), obj)
                case NotServed():
                    self.prepared.set()
                case Removed(obj):
                    known = self._known.statuses.get(device_key(obj))
                    # not if we have made another meanwhile
                    if known and known.revision <= int(obj["metadata"]["resourceVersion"]):
                        self._lost(device_key(obj))

    def _lost(self, key: ObjectKey) -> None:
        """Take that a DeviceStatus is gone; if its device is not, it is made again."""
        status, device = self._known.statuses.pop(key), self._known.devices.get(key)
        if device is not None and status.status:
            self._gone[key] = status
        self._known.mark(key)

    def _forget(self, key: ObjectKey) -> None:
        self._devices.forget(key)
        for held in (self._due, self._last, self._not_before, self._written, self._gone):
            held.pop(key, None)

    def _take_changed(self) -> list[ObjectKey]:
        """Take the devices that something changed of, but for those that are being written."""
        taken = [key for key in self._known.changed if key not in self._writing]
        self._known.changed.difference_update(taken)
        return taken

    def _plan(self, key: ObjectKey) -> None:
        """Decide when a device's status is to be written, if it is."""
        now = _monotonic()
        if not self._is_own(key):
            self._gone.pop(key, None)
        wanted = self._wanted(key)
        if wanted is None and key not in self._gone:
            self._due.pop(key, None)
            return
        matters = key in self._gone or (
            wanted is not None and what_matters(wanted) != what_matters(self._shown(key))
        )
        wait = min(SOON_SECONDS, self._every_seconds) if matters else self._every_seconds
        last = self._last.get(key)
        due = now if last is None else last + wait
        if due > now:
            due = max(now, due - due % TICK_SECONDS)
        self._due[key] = max(due, self._not_before.get(key, 0.0))

    def _is_own(self, key: ObjectKey) -> bool:
        device = self._known.devices.get(key)
        return device is None or self._devices.is_own(key, device.node)

    def _shown(self, key: ObjectKey) -> JsonObject:
        device = self._known.devices.get(key)
        return device.status if device else {}

    def _wanted(self, key: ObjectKey) -> JsonObject | None:
        """Return the status that a device should have; None if it has it, or is gone.

        None too if another replica sees to it.
        """
        device = self._known.devices.get(key)
        if device is None or device.is_going or not self._is_own(key):
            return None
        wanted = status_of(
            device,
            self._known.model_of(device),
            self._known.words_of(key),
            self._devices.wishes.kept(device.uid, device.status.get("desiredStamps")),
            self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            self._account(key),
        )
        # the API may keep a status in its own way: then what it made of the same is as good
        if wanted == device.status or (wanted, device.status) == self._written.get(key):
            return None
        return wanted

    async def _write(self, kube: KubeClient, key: ObjectKey) -> None:
        try:
            async with self._turns:
                await asyncio.sleep(max(0.0, self._budget.reserve(_monotonic()) - _monotonic()))
                self._last[key] = _monotonic()
                await self._bring_up_to_date(kube, key)
        except UnreachableError as exc:
            log.warning("device_summary_again", device=str(key), reason=str(exc))
            self._not_before[key] = _monotonic() + SOON_SECONDS
        except KubeError as exc:
            if key in self._known.devices:
                log.warning("device_summary_refused", device=str(key), reason=str(exc))
                self._not_before[key] = _monotonic() + REFUSED_AGAIN_SECONDS
        else:
            self._not_before.pop(key, None)
        finally:
            self._writing.discard(key)
            if key in self._known.devices:
                self._known.mark(key)
            else:
                self._last.pop(key, None)
                self._not_before.pop(key, None)

    async def _bring_up_to_date(self, kube: KubeClient, key: ObjectKey) -> None:
        if (gone := self._gone.get(key)) is not None:
            await self._devices.restore(kube, key, gone)
            self._gone.pop(key, None)
        device, wanted = self._known.devices.get(key), self._wanted(key)
        if device is None or wanted is None:
            return
        stored: dict[str, Any] = await kube.replace_status(
            DEVICES, key.namespace, key.name, wanted, uid=device.uid
        )
        if key in self._known.devices:
            self._written[key] = (wanted, stored.get("status") or {})
            self._known.put_device(key, stored)


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
