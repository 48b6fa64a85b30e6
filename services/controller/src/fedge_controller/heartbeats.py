"""What nodes say beside statuses: that they are alive, and what happened on them."""

from datetime import UTC, datetime

from fedge_dispatch import answered
from fedge_fabric import Address, InvalidError, MessageClass, fields, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_kube import EVENTS, LEASES, ConflictError, KubeClient, NotFoundError
from fedge_objects import JsonObject, NodeName

LEASE_NAMESPACE = "kube-node-lease"
LEASE_HEARTBEATS = 4
"""A lease lasts this many heartbeats, as the kubelet's 40 s at one per 10 s."""


class Heartbeats:
    """The way of heartbeats and events into the API."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube

    def subscribe(self, fabric: Fabric) -> None:
        """Take part in the queues."""
        fabric.subscribe(t.reported("controller", MessageClass.EVENT, ("events",)), self.on_event)
        fabric.subscribe(t.heartbeats("controller"), self.on_alive)

    async def on_alive(self, delivery: Delivery) -> None:
        """Take a heartbeat."""
        node = Address.parse(delivery.routing_key).node
        if delivery.envelope.type != kinds.NODE_ALIVE:
            raise InvalidError(f"message type {delivery.envelope.type!r} is no heartbeat")
        await self.alive(node, fields.interval(delivery.envelope.data))

    async def on_event(self, delivery: Delivery) -> None:
        """Take a Kubernetes event."""
        if delivery.envelope.type != kinds.EVENT_RECORDED:
            raise InvalidError(f"message type {delivery.envelope.type!r} is no event")
        event, about = delivery.envelope.data, fields.key_in(delivery.envelope.subject)
        metadata, involved = fields.part(event, "metadata"), fields.part(event, "involvedObject")
        fields.key_in(
            f"events/{fields.text(metadata, 'namespace')}/{fields.text(metadata, 'name')}"
        )
        said = involved.get("namespace"), involved.get("name"), metadata["namespace"]
        if said != (about.namespace, about.name, about.namespace):
            raise InvalidError(f"an event about {about} that names another object or namespace")
        await self.event(event)

    async def alive(self, node: NodeName, interval_seconds: float) -> None:
        """Renew the node's lease; errors as in ``status``.

        https://kubernetes.io/docs/concepts/architecture/leases/#node-heart-beats
        """
        spec: JsonObject = {
            "holderIdentity": node,
            "leaseDurationSeconds": max(1, round(interval_seconds * LEASE_HEARTBEATS)),
            "renewTime": datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z",
        }
        async with answered():
            try:
                await self._kube.patch(LEASES, LEASE_NAMESPACE, node, {"spec": spec})
            except NotFoundError:
                await self._kube.create(
                    LEASES,
                    {
                        "apiVersion": "coordination.k8s.io/v1",
                        "kind": "Lease",
                        "metadata": {"name": node, "namespace": LEASE_NAMESPACE},
                        "spec": spec,
                    },
                )

    async def event(self, event: JsonObject) -> None:
        """Record an event, or its repetition; errors as in ``status``."""
        metadata = event["metadata"]
        async with answered():
            try:
                await self._kube.create(EVENTS, event)
            except ConflictError:
                repeated: JsonObject = {
                    name: event[name]
                    for name in ("count", "lastTimestamp", "message", "series")
                    if name in event
                }
                await self._kube.patch(EVENTS, metadata["namespace"], metadata["name"], repeated)
