"""Messages in: devices and models that meta has stored, and hub's question."""

from fedge_fabric import InvalidError, change_of, kinds
from fedge_fabric import topology as t
from fedge_fabric.effects import Effects
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import NodeName
from fedge_twin.device import DEVICE_MODELS, DEVICES
from fedge_twin.twins import Twins


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(self, twins: Twins, effects: Effects) -> None:
        self._twins = twins
        self._effects = effects

    def subscribe(self, fabric: Fabric, node: NodeName) -> None:
        """Take part in all of twin's queues."""
        fabric.subscribe(t.local_objects("twin", (DEVICES, DEVICE_MODELS)), self.on_object)
        fabric.subscribe(t.edge_request("twin", node, ("statuses",)), self.on_request)

    async def on_object(self, delivery: Delivery) -> None:
        """Take an object or its tombstone."""
        if delivery.envelope.type not in {kinds.OBJECT_PUT, kinds.OBJECT_GONE}:
            raise InvalidError(f"message type {delivery.envelope.type!r} is no object")
        change = change_of(delivery.envelope)
        await self._twins.take(change)
        self._effects.applied(change.key, change.version)

    async def on_request(self, delivery: Delivery) -> None:
        """Tell the cloud of all devices again."""
        if delivery.envelope.type != kinds.STATUSES_ASKED:
            raise InvalidError(f"message type {delivery.envelope.type!r} is no request to twin")
        self._twins.tell_all()
        self._effects.tell_again()
