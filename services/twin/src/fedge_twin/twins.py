"""Twins of one node's devices: the cloud's objects and the devices' words in, both told on.

What is taken is stored before anything is answered. A difference between desired and reported is
given to the device when it arises and again whenever the device shows itself, until there is none.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog

import fedge_tracing as tracing
from fedge_devices import HybridClock, Model, read_model
from fedge_objects import Change, JsonObject, NodeName, ObjectKey, Version
from fedge_tracing import Cause, SpanKind, Tracer, names
from fedge_twin import payloads
from fedge_twin.declaring import declare, declare_again, model_of
from fedge_twin.device import DEVICE_MODELS, DEVICES, Device
from fedge_twin.listeners import shown_by
from fedge_twin.payloads import BadPayloadError, Message
from fedge_twin.statuses import status_of
from fedge_twin.store import HISTORY, Draft, TwinStore
from fedge_twin.topics import FromDevice, MembershipAsked, What, Word, read_topic
from fedge_twin.updating import RefusedError, set_state, types_of, update

log = structlog.stdlib.get_logger("fedge.twin")

_tracer = Tracer("twin")

Clock = Callable[[], datetime]
Given = Callable[[], Awaitable[Sequence[Change] | None]]
"""Reads all devices and models that the node was given; None if there is no telling yet."""

_BROKEN = (ValueError, TypeError, KeyError, RecursionError)


class Outlets(Protocol):
    """Where twins are told on. Neither waits: what cannot be told now is asked for later."""

    def to_devices(self, messages: Iterable[Message]) -> None:
        """Publish to the devices."""
        ...

    def to_cloud(self, news: Mapping[ObjectKey, float]) -> None:
        """Tell the cloud the status of these devices, as it is when it is told.

        Args:
            news: least seconds since the device was told of before; 0: what holds for all.
        """
        ...


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
        self._stamps = HybridClock(self._now_ms)
        for device in store.devices.values():
            for each in device.properties.values():
                for word in (each.desired, each.wish):
                    self._stamps.saw(word.at if word else 0)
        self._models: dict[ObjectKey, tuple[Version, Model | None]] = {}
        self._gone: dict[ObjectKey, Version] = {}
        self._wished: dict[ObjectKey, Cause] = {}
        """The trace of what was wished of each device last, until it says something."""
        self.dropped: Callable[[ObjectKey], int] = lambda _: 0
        """How many words of a device were dropped because they were too many."""
        self.keys_changed = asyncio.Event()

    @property
    def keys(self) -> Collection[ObjectKey]:
        """All devices of the node."""
        return self._store.devices.keys()

    async def reconcile(self) -> None:
        """Make the twins those of the devices that the node was given."""
        messages: list[Message] = []
        async with self._store.changing() as draft:
            # read under the store's lock: whatever is told of by message was readable before
            given = await self._given()
            if given is not None:
                for change in sorted(given, key=lambda each: each.key.resource):
                    messages += self._take(change, draft)
                present = {change.key for change in given}
                for key in self._store.devices.keys() - present:
                    messages += self._drop(key, draft)
        self.keys_changed.set()
        self._outlets.to_devices(messages)
        self.tell_all()

    async def take(self, change: Change) -> None:
        """Take a device or a model that the node was given, or that is gone."""
        with tracing.span(
            "put twins",
            kind=SpanKind.CLIENT,
            attributes={
                names.DB_SYSTEM_NAME: "sqlite",
                names.DB_OPERATION_NAME: "put",
                names.DB_COLLECTION_NAME: "twins",
                names.OBJECT: str(change.key),
            },
        ):
            async with self._store.changing() as draft:
                messages = self._take(change, draft)
        if change.traceparent:
            cause = Cause(change.traceparent, change.since)
            self._wished.update(dict.fromkeys(draft.changed, cause))
        self.keys_changed.set()
        self._outlets.to_devices(messages)
        self._outlets.to_cloud(dict.fromkeys(draft.changed, 0.0))

    async def hear(self, words: Sequence[Word]) -> None:
        """Take messages of devices, in order, and answer them; all are stored on return.

        They share one write to the disk. If one breaks it, each is taken for itself.
        """
        try:
            await self._hear(words)
        except _BROKEN:
            log.exception("words_not_taken", words=len(words))
            for word in words:
                await self._hear_alone(word)

    def over_quota(self, word: Word) -> list[Message]:
        """Return the answer to a word that is not taken because its device says too much."""
        topic = read_topic(word.topic)
        if not isinstance(topic, FromDevice):
            return []
        if topic.key in self.keys:
            self._outlets.to_cloud({topic.key: UNCHANGED_SECONDS})
        reason = "more words a second than a device may say: this one was dropped for a newer one"
        event_id = payloads.event_id_of(word.payload)
        return [payloads.refused(topic.result, event_id, self._now_ms(), 429, reason)]

    def differences(self) -> None:
        """Give every device that is not as it should be its difference."""
        for device in self._store.devices.values():
            if device.differs:
                self._outlets.to_devices(self._delta(device))

    def show(self, topic_filter: str) -> None:
        """Publish what is there as of now, for somebody who began to listen.

        Args:
            topic_filter: what they listen to, as AMQP has it.
        """
        shown = shown_by(topic_filter, self.keys)
        for key in shown.documents:
            device = self._store.devices[key]
            if device.properties:
                names, types = device.properties, self._types(device)
                document = payloads.document(device, device, names, self._now_ms(), types)
                self._outlets.to_devices([document])
        for key in shown.deltas:
            self._outlets.to_devices(self._delta(self._store.devices[key]))

    def tell_all(self) -> None:
        """Tell the cloud of all devices."""
        self._outlets.to_cloud(dict.fromkeys(self.keys, 0.0))

    def status(self, key: ObjectKey, sequence: int) -> JsonObject | None:
        """Return what the cloud is told of a device; None if it is gone.

        Args:
            key: of the device.
            sequence: of the tellings about it.
        """
        device = self._store.devices.get(key)
        if device is None:
            return None
        return {
            "uid": device.uid,
            "status": status_of(device, self.dropped(key)),
            "observed": [self._store.incarnation, sequence],
            "finished": False,
        }

    async def history(
        self, key: ObjectKey, name: str = "", limit: int = HISTORY
    ) -> list[JsonObject] | None:
        """Return what became of a device's properties, newest first; None if it is not here.

        Each has ``property``, ``side`` (desired or reported), ``by`` (device, edge or cloud),
        ``time`` (ms since 1970) and ``value``, or ``bytes`` of one that was too large to keep.
        """
        if key not in self._store.devices:
            return None
        return await self._store.history(key, name, limit)

    def _take(self, change: Change, draft: Draft) -> list[Message]:
        if change.key.resource == DEVICE_MODELS:
            return self._take_model(change, draft)
        if change.key.resource != DEVICES:
            return []
        before = draft.get(change.key)
        known = before.version if before else self._gone.get(change.key)
        if known is not None and change.version <= known:
            return []
        if change.is_gone:
            self._gone[change.key] = change.version
            return self._drop(change.key, draft)
        self._gone.pop(change.key, None)
        model = self._model(model_of(change))
        after = declare(before, change, model, self._stamps)
        draft.put(after)
        messages = self._delta(after)
        if before is None:
            added = [(after, self._types(after))]
            messages.append(payloads.membership_updated(self._node, self._now_ms(), added=added))
            log.info("device_added", device=after.id)
        return messages

    def _take_model(self, change: Change, draft: Draft) -> list[Message]:
        known = self._models.get(change.key)
        if known is not None and change.version <= known[0]:
            return []
        model = None if change.object is None else read_model(change.object)
        self._models[change.key] = (change.version, model)
        messages: list[Message] = []
        for before in list(self._store.devices.values()):
            if before.model != change.key:
                continue
            after = declare_again(draft.get(before.key) or before, model, self._stamps)
            if after != before:
                draft.put(after)
                messages += self._delta(after)
        return messages

    def _drop(self, key: ObjectKey, draft: Draft) -> list[Message]:
        device = draft.get(key)
        if device is None:
            return []
        draft.remove(key)
        self._wished.pop(key, None)
        log.info("device_removed", device=device.id)
        return [payloads.membership_updated(self._node, self._now_ms(), removed=[device])]

    async def _hear_alone(self, word: Word) -> None:
        try:
            await self._hear([word])
        except _BROKEN as exc:
            log.exception("word_not_taken", topic=word.topic)
            topic = read_topic(word.topic)
            if isinstance(topic, FromDevice):
                event_id = payloads.event_id_of(word.payload)
                self._outlets.to_devices(
                    [payloads.refused(topic.result, event_id, self._now_ms(), 500, repr(exc))]
                )

    async def _hear(self, words: Sequence[Word]) -> None:
        messages: list[Message] = []
        news: dict[ObjectKey, float] = {}
        contexts: dict[ObjectKey, str] = {}
        began = time.time()
        async with self._store.changing() as draft:
            for word in words:
                match read_topic(word.topic):
                    case FromDevice() as topic:
                        contexts[topic.key] = word.traceparent
                        messages += self._answer(topic, word.payload, draft, news)
                    case MembershipAsked():
                        messages += self._list(word.payload)
                    case None:
                        log.warning("topic_unknown", topic=word.topic)
        self._outlets.to_devices(messages)
        for key, seconds in news.items():
            with self._heard(key, began, contexts.get(key, "")):
                self._outlets.to_cloud({key: seconds})

    def _heard(self, key: ObjectKey, began: float, context: str) -> tracing.Spanning:
        """Return the span of what a device said, as far as the cloud is to be told of it.

        It belongs to the trace that the device named, or begins one; either way it is linked to the
        wish that the device may be answering.
        """
        wish = self._wished.pop(key, None)
        name, causes = "process device update", () if wish is None else (wish,)
        about = {
            names.MESSAGING_SYSTEM: "mqtt",
            names.MESSAGING_OPERATION_NAME: "process",
            names.MESSAGING_OPERATION_TYPE: "process",
            names.OBJECT: str(key),
        }
        if tracing.records(context):
            return _tracer.child(
                context,
                name,
                kind=SpanKind.CONSUMER,
                attributes=about,
                causes=causes,
                start=began,
            )
        return _tracer.root(
            name, kind=SpanKind.CONSUMER, attributes=about, causes=causes, start=began
        )

    def _answer(
        self, topic: FromDevice, payload: bytes, draft: Draft, news: dict[ObjectKey, float]
    ) -> list[Message]:
        device = draft.get(topic.key)
        if device is None:
            reason = f"device {topic.key.namespace}/{topic.key.name} is not on this node"
            event_id = payloads.event_id_of(payload)
            return [payloads.refused(topic.result, event_id, self._now_ms(), 404, reason)]
        try:
            after, answers = self._do(device, topic.what, payload)
        except (BadPayloadError, RefusedError) as exc:
            code = exc.code if isinstance(exc, RefusedError) else 400
            event_id = payloads.event_id_of(payload)
            return [payloads.refused(topic.result, event_id, self._now_ms(), code, str(exc))]
        if after is not device:
            draft.put(after)
            interval = _interval(device, after)
            if interval is not None:
                news[device.key] = min(interval, news.get(device.key, interval))
        return answers + self._delta(after)

    def _do(self, device: Device, what: What, payload: bytes) -> tuple[Device, list[Message]]:
        now = self._now_ms()
        match what:
            case What.GET:
                asked = payloads.read_asked(payload)
                return device, [payloads.got(device, asked.event_id, now, self._types(device))]
            case What.STATE:
                asked_state = payloads.read_state(payload)
                moment = self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                after = set_state(device, asked_state.state, moment)
                return after, [payloads.state_updated(after, asked_state.event_id, now)]
            case What.UPDATE:
                asked_update = payloads.read_update(payload)
                after = update(
                    device, asked_update, self._model(device.model), self._stamps.stamp()
                )
                types = self._types(after)
                names = asked_update.twin
                return after, [
                    payloads.updated(after, names, asked_update.event_id, now, types),
                    payloads.document(device, after, names, now, types),
                ]

    def _list(self, payload: bytes) -> list[Message]:
        event_id = payloads.event_id_of(payload)
        devices = [self._store.devices[key] for key in sorted(self.keys)]
        return [payloads.membership(self._node, devices, event_id, self._now_ms())]

    def _delta(self, device: Device) -> list[Message]:
        if not device.differs:
            return []
        message = payloads.delta(device, self._now_ms(), self._types(device))
        return [message] if message else []

    def _model(self, key: ObjectKey | None) -> Model | None:
        known = self._models.get(key) if key else None
        return known[1] if known else None

    def _types(self, device: Device) -> Mapping[str, str]:
        return types_of(device, self._model(device.model))

    def _now_ms(self) -> int:
        return int(self._clock().timestamp() * 1000)


UNCHANGED_SECONDS = 60.0
"""A device that says again what it said is told of so often, for its timestamps' sake."""


def _interval(before: Device, after: Device) -> float | None:
    """Return the least seconds between two times that such a change is told; None: never."""
    if before.state != after.state:
        return 0.0
    intervals = [UNCHANGED_SECONDS] if before.last_online != after.last_online else []
    for name in before.properties.keys() | after.properties.keys():
        old, new = before.properties.get(name), after.properties.get(name)
        if old is new:
            continue
        if old is None or new is None or old.desired != new.desired:
            return 0.0
        if not new.is_told:
            continue
        at_least = UNCHANGED_SECONDS if new.is_kept_as(old) else 0.0
        intervals.append(max(at_least, new.report_cycle_ms / 1000))
    return min(intervals, default=None)
