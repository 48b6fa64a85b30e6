"""What edged says, until the broker has it.

Statuses: the newest per object waits, whatever happened in between. Events: all wait, up to a
bound; repeats are counted up in one event, as Kubernetes does. Statuses go first: a pod that starts
or ends is told at once, and the events of many pods wait until all of those are told.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from fedge_edged.importance import is_static
from fedge_edged.pods import Pod
from fedge_edged.ports import Clock
from fedge_edged.timestamps import from_seconds
from fedge_edged.tokens import Wish
from fedge_fabric import Address, Envelope, MessageClass, UnavailableError, kinds
from fedge_fabric import topology as t
from fedge_fabric.effects import Effects
from fedge_fabric.protocol import PROTOCOL
from fedge_fabric.streams import Numbering
from fedge_objects import JsonObject, NodeName, ObjectKey, Version
from fedge_service import backoff
from fedge_tracing import Cause, traceparent

if TYPE_CHECKING:
    from fedge_fabric.fabric import Fabric

log = structlog.stdlib.get_logger("fedge.edged")

TOKEN_SECONDS = 30.0
"""A question for a token that does not arrive by then was asked again."""
QUIET_SECONDS = 1.0
"""How long no status was told when events go."""
MOST_EVENT_SECONDS = 5.0
"""How long events wait at most."""
ANSWER_SECONDS = 5.0
"""How long the cloud has to answer a sign of life."""
_ON_ITS_WAY = frozenset({None, "ContainerCreating", "PodInitializing"})
MAX_EVENTS = 1000
MAX_REPEATED = 4096


class Reporting:
    """``Reporter`` over the edge's broker, and the node's own status."""

    def __init__(self, *, node: NodeName, incarnation: int, clock: Clock) -> None:
        self._node = node
        self._source = f"/node/{node}/edged"
        self._incarnation = incarnation
        self._sequence = 0
        self._clock = clock
        self._statuses: OrderedDict[ObjectKey, tuple[JsonObject, Cause]] = OrderedDict()
        self._events: OrderedDict[str, JsonObject] = OrderedDict()
        self._repeated: OrderedDict[str, JsonObject] = OrderedDict()
        self._effects = Effects(node, "edged")
        self._numbering = Numbering("edged")
        self._has_statuses = asyncio.Event()
        self._has_events = asyncio.Event()
        self._asked = "", asyncio.Event()
        self._told_at = 0.0
        self.events_dropped = 0

    def pod_status(self, pod: Pod, status: JsonObject, *, finished: bool) -> None:
        """See ``fedge_edged.ports.Reporter``; of pods from files the API has none to tell of."""
        if is_static(pod):
            return
        self._put(pod.key, {"uid": pod.metadata.uid, "status": status, "finished": finished})

    def pod_effect(self, pod: Pod, status: JsonObject) -> None:
        """See ``fedge_edged.ports.Reporter``."""
        if pod.version is None:
            return
        reason = failure(status)
        if reason:
            self._effects.failed(pod.key, pod.version, reason)
        elif status["phase"] != "Pending":
            self._effects.applied(pod.key, pod.version)

    def applied(self, key: ObjectKey, version: Version) -> None:
        """See ``fedge_edged.ports.Reporter``."""
        self._effects.applied(key, version)

    def failed(self, key: ObjectKey, version: Version, reason: str) -> None:
        """See ``fedge_edged.ports.Reporter``."""
        self._effects.failed(key, version, reason)

    def tell_effects_again(self) -> None:
        """Have everything told again that is known of objects' effects."""
        self._effects.tell_again()

    def node_status(self, status: JsonObject, labels: Mapping[str, str]) -> None:
        """Report the node's own status."""
        key = ObjectKey("nodes", "", self._node)
        self._put(key, {"uid": "", "status": status, "labels": dict(labels), "finished": False})

    def task_status(self, key: ObjectKey, uid: str, status: JsonObject) -> None:
        """See ``fedge_edged.node_tasks.running.TaskReporter``."""
        self._put(key, {"uid": uid, "status": status, "finished": False})

    def event(self, pod: Pod, kind: str, reason: str, message: str, *, field: str = "") -> None:
        """See ``fedge_edged.ports.Reporter``."""
        meta = pod.metadata
        said = f"{meta.uid} {kind} {reason} {field} {message}"
        slot = hashlib.sha256(said.encode()).hexdigest()[:16]
        now = from_seconds(self._clock.now())
        repeated = self._repeated.get(slot)
        if repeated is not None:
            event = {
                **repeated,
                "count": repeated["count"] + 1,
                "lastTimestamp": now,
            }
        else:
            event = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{meta.name}.{slot}", "namespace": meta.namespace},
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "namespace": meta.namespace,
                    "name": meta.name,
                    "uid": meta.uid,
                    **({"fieldPath": field} if field else {}),
                },
                "type": kind,
                "reason": reason,
                "message": message,
                "source": {"component": "edged", "host": self._node},
                "reportingComponent": "edged",
                "reportingInstance": self._node,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
        self._repeated[slot] = event
        self._repeated.move_to_end(slot)
        while len(self._repeated) > MAX_REPEATED:
            self._repeated.popitem(last=False)
        self._events[slot] = event
        while len(self._events) > MAX_EVENTS:
            self._events.popitem(last=False)
            self.events_dropped += 1
        self._has_events.set()

    async def run(self, fabric: "Fabric") -> None:
        """Publish what waits until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_statuses(fabric), name="tell statuses")
            tasks.create_task(self._tell_events(fabric), name="tell events")
            tasks.create_task(self._effects.run(fabric), name="tell effects")

    async def _tell_statuses(self, fabric: "Fabric") -> None:
        while True:
            await self._has_statuses.wait()
            self._has_statuses.clear()
            while self._statuses:
                statuses, self._statuses = self._statuses, OrderedDict()
                async with asyncio.TaskGroup() as tasks:
                    for key, (data, cause) in statuses.items():
                        tasks.create_task(self._publish_status(fabric, key, data, cause))

    async def _tell_events(self, fabric: "Fabric") -> None:
        now = asyncio.get_running_loop().time
        while True:
            await self._has_events.wait()
            self._has_events.clear()
            deadline = now() + MOST_EVENT_SECONDS
            wait = QUIET_SECONDS
            while wait > 0:
                await asyncio.sleep(wait)
                wait = min(self._told_at + QUIET_SECONDS, deadline) - now()
            events, self._events = self._events, OrderedDict()
            async with asyncio.TaskGroup() as tasks:
                for event in events.values():
                    tasks.create_task(self._publish_event(fabric, event))

    async def alive(self, fabric: "Fabric", interval_seconds: float) -> None:
        """Say every so often that the node is alive, until cancelled."""
        while True:
            try:
                said = await self._sign_of_life(fabric, interval_seconds, {})
                await self._say_alive(fabric, said, interval_seconds)
            except UnavailableError as exc:
                log.info("heartbeat_missed", reason=str(exc))
            await asyncio.sleep(interval_seconds)

    async def is_answered(self, fabric: "Fabric", interval_seconds: float) -> bool:
        """Whether the cloud answers a sign of life within a few seconds: both ways work."""
        answered = asyncio.Event()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                said = await self._sign_of_life(fabric, interval_seconds, {"answer": True})
                self._asked = said.id, answered
                await self._say_alive(fabric, said, interval_seconds)
                await answered.wait()
        except (TimeoutError, UnavailableError):
            return False
        return True

    def heard(self, heartbeat_id: str) -> None:
        """Take that the cloud has answered a sign of life; one of before is nobody's now."""
        asked, answered = self._asked
        if heartbeat_id == asked:
            answered.set()

    async def _sign_of_life(
        self, fabric: "Fabric", interval_seconds: float, more: Mapping[str, bool]
    ) -> Envelope:
        return Envelope(
            type=kinds.NODE_ALIVE,
            source=self._source,
            data={
                "interval_seconds": interval_seconds,
                "protocol": PROTOCOL,
                "backlog": await self._backlog(fabric),
                **more,
            },
        )

    async def _say_alive(self, fabric: "Fabric", said: Envelope, interval_seconds: float) -> None:
        """Send a sign of life.

        One that cannot leave at once is worth nothing, so it expires, and is not written to the
        broker's disk.
        """
        await fabric.publish(
            said,
            exchange=t.UP,
            routing_key=str(Address(self._node, MessageClass.STATE, ("alive",))),
            persistent=False,
            expires_after=timedelta(seconds=interval_seconds),
        )

    async def _backlog(self, fabric: "Fabric") -> dict[str, int]:
        """Return how many messages wait to go up, by class."""
        depths = await fabric.depths(map(t.up_queue, MessageClass))
        return {
            str(each): depths[t.up_queue(each)].messages
            for each in MessageClass
            if t.up_queue(each) in depths
        }

    def asking_for_tokens(self, fabric: "Fabric") -> Callable[[Wish], Awaitable[None]]:
        """Return what asks the cloud for a token; a question that cannot leave is asked again."""

        async def ask(wish: Wish) -> None:
            key = ObjectKey("pods", wish.namespace, wish.pod)
            address = Address(self._node, MessageClass.EVENT, ("tokens", wish.namespace, wish.pod))
            try:
                await fabric.publish(
                    Envelope(
                        type=kinds.TOKEN_ASKED,
                        source=self._source,
                        subject=str(key),
                        data={
                            "uid": wish.uid,
                            "service_account": wish.service_account,
                            "audience": wish.audience,
                            "seconds": wish.seconds,
                        },
                    ),
                    exchange=t.UP,
                    routing_key=str(address),
                    expires_after=timedelta(seconds=TOKEN_SECONDS),
                )
            except UnavailableError as exc:
                log.info("token_not_asked", pod=str(key), reason=str(exc))

        return ask

    def _put(self, key: ObjectKey, data: JsonObject) -> None:
        self._sequence += 1
        data["observed"] = [self._incarnation, self._sequence]
        context = traceparent()
        _, waiting = self._statuses.get(key, (data, Cause()))
        # what is only told again takes the place of what was to be told, and its trace
        cause = Cause(context, time.time()) if context else waiting
        self._statuses[key] = data, cause
        self._told_at = asyncio.get_running_loop().time()
        self._has_statuses.set()

    async def _publish_status(
        self, fabric: "Fabric", key: ObjectKey, data: JsonObject, cause: Cause
    ) -> None:
        async for _ in backoff(first_seconds=0.2, most_seconds=5):
            if key in self._statuses:
                return  # something newer waits
            try:
                await fabric.publish(
                    Envelope(
                        type=kinds.STATUS_REPORTED,
                        source=self._source,
                        subject=str(key),
                        data=data,
                        traceparent=cause.traceparent,
                        since=cause.since,
                    ),
                    exchange=t.UP,
                    routing_key=str(Address.of_object(self._node, key)),
                )
            except UnavailableError as exc:
                log.info("status_waits", object=str(key), reason=str(exc))
            else:
                return

    async def _publish_event(self, fabric: "Fabric", event: JsonObject) -> None:
        involved = event["involvedObject"]
        key = ObjectKey("pods", involved["namespace"], involved["name"])
        address = Address(self._node, MessageClass.EVENT, ("events", key.namespace, key.name))
        envelope = self._numbering.number(
            Envelope(type=kinds.EVENT_RECORDED, source=self._source, subject=str(key), data=event)
        )
        async for _ in backoff(first_seconds=0.2, most_seconds=5):
            try:
                await fabric.publish(envelope, exchange=t.UP, routing_key=str(address))
            except UnavailableError as exc:
                log.info("event_waits", object=str(key), reason=str(exc))
            else:
                return


def failure(status: JsonObject) -> str:
    """Return why a pod is not as it should be, as its status says; empty if nothing says so."""
    if status.get("phase") == "Failed" and status.get("reason"):
        return _reason(status)
    for each in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = (each.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") not in _ON_ITS_WAY:
            return f"{each['name']}: {_reason(waiting)}"
    return ""


def _reason(said: JsonObject) -> str:
    return ": ".join(str(said[name]) for name in ("reason", "message") if said.get(name))
