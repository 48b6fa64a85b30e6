"""Messages in: devices, models and credentials that meta has stored, and hub's questions."""

import msgspec

from fedge_devices import DEVICE_CREDENTIALS
from fedge_fabric import (
    Address,
    Envelope,
    InvalidError,
    MessageClass,
    UnavailableError,
    change_of,
    fields,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.effects import Effects
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import JsonObject, NodeName, ObjectKey
from fedge_twin.accounts import Accounts
from fedge_twin.device import DEVICE_MODELS, DEVICES
from fedge_twin.store import HISTORY
from fedge_twin.twins import Twins

MAX_NAME = 253
MAX_ENTRIES = 1000
"""Of a history in one answer: it is one message."""
_REQUESTS = ("statuses", "history")
_OBJECTS = (DEVICES, DEVICE_MODELS, DEVICE_CREDENTIALS)


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(
        self,
        twins: Twins,
        effects: Effects,
        *,
        accounts: Accounts,
        fabric: Fabric,
        node: NodeName,
    ) -> None:
        self._twins = twins
        self._accounts = accounts
        self._effects = effects
        self._fabric = fabric
        self._node = node

    def subscribe(self) -> None:
        """Take part in all of twin's queues."""
        self._fabric.subscribe(t.local_objects("twin", _OBJECTS), self.on_object)
        self._fabric.subscribe(t.edge_request("twin", self._node, _REQUESTS), self.on_request)

    async def on_object(self, delivery: Delivery) -> None:
        """Take an object or its tombstone."""
        if delivery.envelope.type not in {kinds.OBJECT_PUT, kinds.OBJECT_GONE}:
            raise InvalidError(f"message type {delivery.envelope.type!r} is no object")
        change = change_of(delivery.envelope)
        if change.key.resource == DEVICE_CREDENTIALS:
            await self._accounts.take(change)
            return
        await self._twins.take(change)
        self._effects.applied(change.key, change.version)

    async def on_request(self, delivery: Delivery) -> None:
        """Tell the cloud of all devices again, or what became of one."""
        match delivery.envelope.type:
            case kinds.STATUSES_ASKED:
                self._twins.tell_all()
                self._effects.tell_again()
            case kinds.HISTORY_ASKED:
                await self._tell_history(delivery.envelope)
            case other:
                raise InvalidError(f"message type {other!r} is no request to twin")

    async def _tell_history(self, request: Envelope) -> None:
        data = request.data
        namespace = fields.text(data, "namespace", most=MAX_NAME)
        device = fields.text(data, "device", most=MAX_NAME)
        name = fields.text(data, "property", default="", most=MAX_NAME)
        limit = fields.whole(data, "limit", default=HISTORY, least=1, most=MAX_ENTRIES)
        try:
            found = await self._twins.history(ObjectKey(DEVICES, namespace, device), name, limit)
        except UnavailableError as exc:
            await self._answer(request, 503, f"{exc}\n")
            return
        if found is None:
            reason = f"device {namespace}/{device} is not on node {self._node!r}\n"
            await self._answer(request, 404, reason)
            return
        await self._answer(request, 200, msgspec.json.encode({"items": found}).decode())

    async def _answer(self, request: Envelope, status: int, body: str) -> None:
        answer: JsonObject = {"status": status, "body": body, "index": 0, "last": True}
        await self._fabric.publish(
            Envelope(
                type=kinds.ANSWERED,
                source=f"/node/{self._node}/twin",
                subject=request.id,
                data=answer,
            ),
            exchange=t.UP,
            routing_key=str(Address(self._node, MessageClass.REQUEST, ("answer",))),
        )
