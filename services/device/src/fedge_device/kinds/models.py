"""Device models: what the devices of one make have in common; they go where such a device is."""

from fedge_device.kinds.resources import DEVICE_MODELS
from fedge_dispatch import Report, given_to_nodes
from fedge_kube import KubeClient, RefusedError
from fedge_objects import JsonObject, NodeName, ObjectKey


class DeviceModels:
    """The model, which follows its devices."""

    resource = DEVICE_MODELS
    leads = False
    optional = False

    def node_of(self, obj: JsonObject) -> NodeName | None:  # noqa: ARG002 - the port's signature
        """Return None: it names no node."""
        return None

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:  # noqa: ARG002
        """Return nothing."""
        return frozenset()

    def for_node(self, obj: JsonObject) -> JsonObject:
        """Return the object without bookkeeping."""
        return given_to_nodes(obj)

    async def report(self, kube: KubeClient, report: Report) -> None:  # noqa: ARG002
        """Refuse: it has no status."""
        raise RefusedError(f"{report.key} has no status that a node could report")
