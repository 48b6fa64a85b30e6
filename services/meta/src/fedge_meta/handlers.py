"""Messages in: objects, and the question what the node has."""

from fedge_fabric import InvalidError, change_of, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_meta.inventory import Inventory
from fedge_meta.keeping import Keeping
from fedge_objects import NodeName


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(self, keeping: Keeping, inventory: Inventory) -> None:
        self._keeping = keeping
        self._inventory = inventory

    def subscribe(self, fabric: Fabric, node: NodeName) -> None:
        """Take part in all of meta's queues."""
        fabric.subscribe(t.meta_state(node), self.on_state)
        fabric.subscribe(t.edge_request("meta", node, ("inventory",)), self.on_request)

    async def on_state(self, delivery: Delivery) -> None:
        """Take an object or its tombstone."""
        if delivery.envelope.type not in {kinds.OBJECT_PUT, kinds.OBJECT_GONE}:
            raise InvalidError(f"message type {delivery.envelope.type!r} is no object")
        await self._keeping.keep(change_of(delivery.envelope))

    async def on_request(self, delivery: Delivery) -> None:
        """Answer what the node has."""
        if delivery.envelope.type != kinds.INVENTORY_ASKED:
            raise InvalidError(f"message type {delivery.envelope.type!r} is no request to meta")
        await self._inventory.tell()
