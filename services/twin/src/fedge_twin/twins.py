"""Twins of one node's devices: the cloud's objects and the devices' words in, both told on.

What is taken is stored before anything is answered. A difference between desired and reported is
given to the device when it arises and again whenever the device shows itself, until there is none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from fedge_objects import Change, JsonObject, NodeName, ObjectKey, Version
from fedge_twin import payloads
from fedge_twin.declaring import declare, read_model
from fedge_twin.device import DEVICE_MODELS, DEVICES, Device, Model, as_text
from fedge_twin.payloads import BadPayloadError, Message
from fedge_twin.store import TwinStore
from fedge_twin.topics import FromDevice, MembershipAsked, What, read_topic
from fedge_twin.updating import RefusedError, set_state, types_of, update

log = structlog.stdlib.get_logger("fedge.twin")

Clock = Callable[[], datetime]
Given = Callable[[], Awaitable[Sequence[Change] | None]]
"""Reads all devices and models that the node was given; None if there is no telling yet."""

_NO_MODEL: Model = {}


class Outlets(Protocol):
    """Where twins are told on. Neither waits: what cannot be told now is asked for later."""

    def to_devices(self, messages: Iterable[Message]) -> None:
        """Publish to the devices."""
        ...

    def to_cloud(self, keys: Iterable[ObjectKey]) -> None:
        """Tell the cloud the status of these devices, as it is when it is told."""
        ...


@dataclass(frozen=True, slots=True)
class Word:
    """A message of a device."""

    topic: str
    payload: bytes


class Twins:
    """All twins of a node."""

    def __init__(
        self, *, node: NodeName, store: TwinStore, outlets: Outlets, given: Given, clock: Clock
    ) -> None:
        self._node = node
        self._store = store
        self._outlets = outlets
        self._given = given
        self._clock = clock
        self._models: dict[ObjectKey, tuple[Version, Model]] = {}
        self._gone: dict[ObjectKey, Version] = {}
        self.keys: set[ObjectKey] = set()
        """All devices of the node."""
        self.keys_changed = asyncio.Event()

    async def reconcile(self) -> None:
        """Make the twins those of the devices that the node was given."""
        messages: list[Message] = []
        async with self._store.changing():
            self._know(await self._store.keys())
            # read under the store's lock: whatever is told of by message was readable before
            given = await self._given()
            if given is not None:
                for change in sorted(given, key=lambda each: each.key.resource):
                    messages += await self._take(change)
                present = {change.key for change in given}
                for key in self.keys - present:
                    messages += await self._drop(key)
            self._know(await self._store.keys())
        self._outlets.to_devices(messages)
        self._outlets.to_cloud(self.keys)

    async def take(self, change: Change) -> None:
        """Take a device or a model that the node was given, or that is gone."""
        async with self._store.changing():
            messages = await self._take(change)
            present = await self._store.get(change.key) is not None
        if present != (change.key in self.keys):
            (self.keys.add if present else self.keys.discard)(change.key)
            self.keys_changed.set()
        self._outlets.to_devices(messages)
        if present:
            self._outlets.to_cloud([change.key])

    async def hear(self, words: Sequence[Word]) -> None:
        """Take messages of devices, in order, and answer them; all are stored on return.

        They share one write to the disk. If one breaks it, each is taken for itself.
        """
        try:
            await self._hear(words)
        except (ValueError, TypeError, KeyError, RecursionError):
            log.exception("words_not_taken", words=len(words))
            for word in words:
                await self._hear_alone(word)

    async def differences(self) -> None:
        """Give every device that is not as it should be its difference."""
        for key in sorted(self.keys):
            device = await self._store.read(key)
            if device is not None and device.differs:
                self._outlets.to_devices(self._delta(device))

    async def status(self, key: ObjectKey) -> JsonObject | None:
        """Return what the cloud is told of a device; None if it is gone.

        https://kubeedge.io/docs/developer/device_crd: DeviceStatus.
        """
        device = await self._store.read(key)
        if device is None:
            return None
        status: JsonObject = {"twins": _twins(device)}
        if device.state:
            status["state"] = device.state
        if device.last_online:
            status["lastOnlineTime"] = device.last_online
        return {
            "uid": device.uid,
            "status": status,
            "observed": [self._store.incarnation, device.sequence],
            "finished": False,
        }

    def _know(self, keys: Iterable[ObjectKey]) -> None:
        known = set(keys)
        if known != self.keys:
            self.keys = known
            self.keys_changed.set()

    async def _take(self, change: Change) -> list[Message]:
        if change.key.resource == DEVICE_MODELS:
            self._take_model(change)
            return []
        if change.key.resource != DEVICES:
            return []
        before = await self._store.get(change.key)
        known = before.version if before else self._gone.get(change.key)
        if known is not None and change.version <= known:
            return []
        if change.is_gone:
            self._gone[change.key] = change.version
            return await self._drop(change.key)
        self._gone.pop(change.key, None)
        after = declare(before, change)
        await self._store.put(after, before)
        messages = self._delta(after)
        if before is None:
            added = [(after, self._types(after))]
            messages.append(payloads.membership_updated(self._node, self._now_ms(), added=added))
            log.info("device_added", device=after.id)
        return messages

    def _take_model(self, change: Change) -> None:
        known = self._models.get(change.key)
        if known is None or change.version > known[0]:
            model = _NO_MODEL if change.object is None else read_model(change.object)
            self._models[change.key] = (change.version, model)

    async def _drop(self, key: ObjectKey) -> list[Message]:
        device = await self._store.get(key)
        if device is None:
            return []
        await self._store.remove(key)
        log.info("device_removed", device=device.id)
        return [payloads.membership_updated(self._node, self._now_ms(), removed=[device])]

    async def _hear_alone(self, word: Word) -> None:
        try:
            await self._hear([word])
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            log.exception("word_not_taken", topic=word.topic)
            topic = read_topic(word.topic)
            if isinstance(topic, FromDevice):
                event_id = payloads.event_id_of(word.payload)
                self._outlets.to_devices(
                    [payloads.refused(topic.result, event_id, self._now_ms(), 500, repr(exc))]
                )

    async def _hear(self, words: Sequence[Word]) -> None:
        messages: list[Message] = []
        changed: set[ObjectKey] = set()
        async with self._store.changing():
            for word in words:
                match read_topic(word.topic):
                    case FromDevice() as topic:
                        messages += await self._answer(topic, word.payload, changed)
                    case MembershipAsked():
                        messages += await self._list(word.payload)
                    case None:
                        log.warning("topic_unknown", topic=word.topic)
        self._outlets.to_devices(messages)
        self._outlets.to_cloud(changed)

    async def _answer(
        self, topic: FromDevice, payload: bytes, changed: set[ObjectKey]
    ) -> list[Message]:
        device = await self._store.get(topic.key)
        event_id = payloads.event_id_of(payload)
        if device is None:
            reason = f"device {topic.key.namespace}/{topic.key.name} is not on this node"
            return [payloads.refused(topic.result, event_id, self._now_ms(), 404, reason)]
        try:
            after, answers = self._do(device, topic.what, payload)
        except (BadPayloadError, RefusedError) as exc:
            return [payloads.refused(topic.result, event_id, self._now_ms(), 400, str(exc))]
        if after != device:
            await self._store.put(after, device)
            changed.add(device.key)
        return answers + self._delta(after)

    def _do(self, device: Device, what: What, payload: bytes) -> tuple[Device, list[Message]]:
        now = self._now_ms()
        types = self._types(device)
        match what:
            case What.GET:
                asked = payloads.read_asked(payload)
                return device, [payloads.got(device, asked.event_id, now, types)]
            case What.STATE:
                asked_state = payloads.read_state(payload)
                moment = self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                after = set_state(device, asked_state.state, moment)
                return after, [payloads.state_updated(after, asked_state.event_id, now)]
            case What.UPDATE:
                asked_update = payloads.read_update(payload)
                after = update(device, asked_update, self._model(device))
                types = self._types(after)
                names = asked_update.twin
                return after, [
                    payloads.updated(after, names, asked_update.event_id, now, types),
                    payloads.document(device, after, names, now, types),
                ]

    async def _list(self, payload: bytes) -> list[Message]:
        event_id = payloads.event_id_of(payload)
        devices = [await self._store.get(key) for key in sorted(self.keys)]
        present = [each for each in devices if each is not None]
        return [payloads.membership(self._node, present, event_id, self._now_ms())]

    def _delta(self, device: Device) -> list[Message]:
        message = payloads.delta(device, self._now_ms(), self._types(device))
        return [message] if message else []

    def _model(self, device: Device) -> Model:
        return self._models[device.model][1] if device.model in self._models else _NO_MODEL

    def _types(self, device: Device) -> dict[str, str]:
        return dict(types_of(device, self._model(device)))

    def _now_ms(self) -> int:
        return int(self._clock().timestamp() * 1000)


def _twins(device: Device) -> list[JsonObject]:
    twins: list[JsonObject] = []
    for name, each in sorted(device.properties.items()):
        twin: JsonObject = {"propertyName": name}
        if each.reported is not None:
            twin["reported"] = _shown(each.reported.text, each.reported.metadata)
        if each.desired is not None:
            twin["observedDesired"] = _shown(each.desired.text, each.desired.metadata)
        if len(twin) > 1:
            twins.append(twin)
    return twins


def _shown(value: str, metadata: JsonObject) -> JsonObject:
    """Return a value as DeviceStatus holds it: strings only."""
    shown: JsonObject = {"value": value}
    if metadata:
        shown["metadata"] = {name: as_text(each) for name, each in metadata.items()}
    return shown
