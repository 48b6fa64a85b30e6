"""Devices: down to the node that they name; what their node reports becomes a DeviceStatus.

The status of a device is an object of its own, of the device's name and owned by it, so that what
comes from the field and what people wish never conflict in one object.
"""

import structlog

from fedge_device.kinds.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, GROUP, VERSION
from fedge_dispatch import Report, given_to_nodes
from fedge_kube import ConflictError, KubeClient, NotFoundError
from fedge_objects import JsonObject, NodeName, ObjectKey

log = structlog.stdlib.get_logger("fedge.device")

_OWNED = ("twins", "state", "lastOnlineTime")
"""Status fields that the node alone sets: one that it leaves out is no longer so."""


class Devices:
    """The device, which leads its model to its node."""

    resource = DEVICES
    leads = True

    def __init__(self) -> None:
        self._owners: dict[ObjectKey, str] = {}

    def node_of(self, obj: JsonObject) -> NodeName | None:
        """Return the node that the device is attached to."""
        node = (obj.get("spec") or {}).get("nodeName")
        return NodeName(node) if node else None

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:
        """Return the model that the device names."""
        model = ((obj.get("spec") or {}).get("deviceModelRef") or {}).get("name")
        if not model:
            return frozenset()
        namespace = obj["metadata"].get("namespace", "default")
        return frozenset({ObjectKey(DEVICE_MODELS.name, namespace, model)})

    def for_node(self, obj: JsonObject) -> JsonObject:
        """Return the object without bookkeeping."""
        return given_to_nodes(obj)

    async def report(self, kube: KubeClient, report: Report) -> None:
        """Patch the DeviceStatus, making it where there is none.

        Repeating it is harmless, from whatever step it was left at.
        """
        key = report.key
        if self._owners.get(key) != report.uid and not await self._own(kube, report):
            return
        try:
            await self._patch(kube, report)
        except NotFoundError:
            self._owners.pop(key, None)
            if await self._own(kube, report):
                await self._patch(kube, report)

    async def _patch(self, kube: KubeClient, report: Report) -> None:
        await kube.patch(
            DEVICE_STATUSES,
            report.key.namespace,
            report.key.name,
            {"status": {**dict.fromkeys(_OWNED), **report.status}},
            subresource="status",
        )

    async def _own(self, kube: KubeClient, report: Report) -> bool:
        """See that the device has a DeviceStatus; False if it is another device by now, or gone."""
        key = report.key
        try:
            device = await kube.get(DEVICES, key.namespace, key.name)
        except NotFoundError:
            log.info("report_outdated", device=str(key), node=report.node, reason="device is gone")
            return False
        uid: str = device["metadata"]["uid"]
        if report.uid != uid:
            log.info("report_outdated", device=str(key), node=report.node, reason="a new device")
            return False
        owners = [
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "Device",
                "name": key.name,
                "uid": uid,
                "controller": True,
            }
        ]
        try:
            status = await kube.get(DEVICE_STATUSES, key.namespace, key.name)
        except NotFoundError:
            await self._create(kube, key, owners)
        else:
            found = status["metadata"].get("ownerReferences") or ()
            if all(owner.get("uid") != uid for owner in found):
                # left behind by a device of the same name
                await kube.patch(
                    DEVICE_STATUSES,
                    key.namespace,
                    key.name,
                    {"metadata": {"ownerReferences": owners}},
                )
        self._owners[key] = uid
        return True

    async def _create(self, kube: KubeClient, key: ObjectKey, owners: list[JsonObject]) -> None:
        try:
            await kube.create(
                DEVICE_STATUSES,
                {
                    "apiVersion": f"{GROUP}/{VERSION}",
                    "kind": "DeviceStatus",
                    "metadata": {
                        "name": key.name,
                        "namespace": key.namespace,
                        "ownerReferences": owners,
                    },
                },
            )
        except ConflictError as exc:
            log.info("device_status_there_already", device=str(key), reason=str(exc))
