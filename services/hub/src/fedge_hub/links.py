"""Messages out: to the nodes, to the cloud's services."""

from typing_extensions import override

from fedge_fabric import (
    Address,
    Envelope,
    MessageClass,
    UnavailableError,
    UnroutableError,
    envelope_of,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_hub.ports import CloudLink, Downlink
from fedge_objects import Change, NodeName

SOURCE = "/cloud/hub"


class FabricDownlink(Downlink):
    """``Downlink`` over the exchange that the nodes' brokers federate with."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    @override
    async def send(self, node: NodeName, change: Change) -> None:
        await self._fabric.publish(
            envelope_of(change, source=SOURCE),
            exchange=t.DOWN,
            routing_key=str(Address.of_object(node, change.key)),
            mandatory=True,
        )

    @override
    async def ask_inventory(self, node: NodeName) -> None:
        await self._fabric.publish(
            Envelope(type=kinds.INVENTORY_ASKED, source=SOURCE),
            exchange=t.DOWN,
            routing_key=str(Address(node, MessageClass.REQUEST, ("inventory",))),
            mandatory=True,
        )


class FabricCloudLink(CloudLink):
    """``CloudLink`` over the cloud's broker."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    @override
    async def pass_on(self, routing_key: str, envelope: Envelope) -> None:
        try:
            await self._fabric.publish(
                envelope,
                exchange=t.REPORTED,
                routing_key=routing_key,
                # a heartbeat that nobody hears is worth nothing later
                mandatory=envelope.type != kinds.NODE_ALIVE,
            )
        except UnroutableError as exc:
            raise UnavailableError(
                f"no service takes reports at {routing_key!r} yet: is it running?"
            ) from exc

    @override
    async def ask_resync(self, node: NodeName) -> None:
        await self._fabric.publish(
            Envelope(type=kinds.RESYNC_ASKED, source=SOURCE, data={"node": node}),
            exchange=t.CONTROL,
            routing_key="resync",
        )
