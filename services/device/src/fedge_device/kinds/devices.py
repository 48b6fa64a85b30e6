"""Devices: down to the node that they name; what their node reports becomes a DeviceStatus.

The status of a device is an object of its own, of the device's name and owned by it, so that what
comes from the field and what people wish never conflict in one object.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable

import structlog

from fedge_device.kinds.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES
from fedge_device.known import REPORTED_BY, Known, KnownDevice, KnownStatus
from fedge_device.wishes import Wishes
from fedge_devices import (
    GROUP,
    STAMPS_ANNOTATION,
    VERSION,
    HybridClock,
    Stamp,
    read_declared,
    write_stamps,
)
from fedge_dispatch import Report, given_to_nodes
from fedge_kube import ConflictError, KubeClient, NotFoundError
from fedge_objects import JsonObject, NodeName, ObjectKey

log = structlog.stdlib.get_logger("fedge.device")


class Devices:
    """The device, which leads its model to its node.

    Attributes:
        known: devices as the API has them, for all that would else have to ask it.
        wishes: since when manifests wish what they wish.
        owns: whether what is a node's, or a device's that names none, is this replica's own.
    """

    resource = DEVICES
    leads = True
    optional = False

    def __init__(self, clock: HybridClock | None = None) -> None:
        self.known = Known()
        self.wishes = Wishes(clock)
        self.owns: Callable[[str], bool] = lambda _: True
        self._locks: defaultdict[ObjectKey, asyncio.Lock] = defaultdict(asyncio.Lock)

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
        """Return the object without bookkeeping, and with the stamps of what it wishes.

        The same manifest always gives the same: a status of the cloud's does not travel.
        """
        given = given_to_nodes(obj)
        metadata = given["metadata"]
        key = ObjectKey(DEVICES.name, metadata.get("namespace", ""), metadata["name"])
        uid = str(metadata.get("uid") or key)
        stamps: dict[str, Stamp] = {}
        if self.is_own(key, self.node_of(obj)):
            stamps = self._stamped(key, uid, obj)
        else:
            self.wishes.forget(uid)
        annotations = dict(metadata.get("annotations") or {})
        annotations.pop(STAMPS_ANNOTATION, None)  # nobody else's word counts
        if stamps:
            annotations[STAMPS_ANNOTATION] = write_stamps(stamps)
        if annotations or "annotations" in metadata:
            metadata["annotations"] = annotations
        return given

    def _stamped(self, key: ObjectKey, uid: str, obj: JsonObject) -> dict[str, Stamp]:
        words = self.known.words_of(key)
        return self.wishes.stamped(
            uid,
            read_declared(obj),
            (obj.get("status") or {}).get("desiredStamps"),
            {name: word.stamp for name, word in words.properties.items()} if words else {},
        )

    def is_own(self, key: ObjectKey, node: str | None) -> bool:
        """Whether a device of a node, or of none, is this replica's own."""
        return self.owns(node or str(key))

    def reshared(self) -> None:
        """Take that nodes changed hands.

        Stamps of what is not this replica's own are forgotten: should it become so again, those
        count that its owner has kept by then.
        """
        for key, device in self.known.devices.items():
            if not self.is_own(key, device.node):
                self.wishes.forget(device.uid)
            self.known.mark(key)

    def forget(self, key: ObjectKey) -> None:
        """Drop a device that is gone."""
        device = self.known.devices.pop(key, None)
        self._locks.pop(key, None)
        if device is not None:
            self.wishes.forget(device.uid)

    def took(self, key: ObjectKey, obj: JsonObject) -> KnownStatus:
        """Take a DeviceStatus as the API has it; return the newest that is known."""
        status = self.known.put_status(key, obj)
        for word in status.words.properties.values():
            self.wishes.saw(word.stamp)
        return status

    async def report(self, kube: KubeClient, report: Report) -> None:
        """Write the DeviceStatus, making it where there is none, unless it says the same already.

        Repeating it is harmless, from whatever step it was left at.
        """
        key = report.key
        async with self._locks[key]:
            device = self.known.devices.get(key)
            if device is None or _why_not(device, report):
                device = await self._looked_up(kube, report)
            if device is not None:
                await self._write(kube, key, device.uid, report.node, report.status)

    async def restore(self, kube: KubeClient, key: ObjectKey, gone: KnownStatus) -> None:
        """Make a DeviceStatus again that was deleted though its device is there."""
        async with self._locks[key]:
            device = KnownDevice.of(await kube.get(DEVICES, key.namespace, key.name))
            is_its = device.uid in gone.owners and gone.node in {"", device.node}
            if is_its and not device.is_going and key not in self.known.statuses:
                log.info("device_status_made_again", device=str(key))
                await self._write(kube, key, device.uid, device.node, gone.status)

    async def _looked_up(self, kube: KubeClient, report: Report) -> KnownDevice | None:
        """Return the device by the API's word, for ours may be old; None: the report is not its."""
        key = report.key
        try:
            device = KnownDevice.of(await kube.get(DEVICES, key.namespace, key.name))
        except NotFoundError:
            reason: str | None = "the device is gone"
        else:
            reason = _why_not(device, report)
            if reason is None:
                return device
        log.info("report_outdated", device=str(key), node=report.node, reason=reason)
        return None

    async def _write(
        self, kube: KubeClient, key: ObjectKey, uid: str, node: str, status: JsonObject
    ) -> None:
        known = self.known.statuses.get(key)
        if known is None:
            known = await self._made(kube, key, uid, node)
        if known.status != status:
            try:
                stored = await kube.replace_status(DEVICE_STATUSES, key.namespace, key.name, status)
            except NotFoundError:
                self.known.statuses.pop(key, None)
                await self._made(kube, key, uid, node)
                stored = await kube.replace_status(DEVICE_STATUSES, key.namespace, key.name, status)
            known = self.took(key, stored)
        if uid not in known.owners or known.node != node:
            # a namesake left it behind, or the device was moved. Last, so that nobody takes the
            # old words for those of this device and node.
            metadata = {"ownerReferences": _owners(key, uid), "annotations": {REPORTED_BY: node}}
            changed = await kube.patch(
                DEVICE_STATUSES, key.namespace, key.name, {"metadata": metadata}
            )
            self.took(key, changed)

    async def _made(self, kube: KubeClient, key: ObjectKey, uid: str, node: str) -> KnownStatus:
        """Return the DeviceStatus, which is not known, made if it is not there."""
        metadata: JsonObject = {
            "name": key.name,
            "namespace": key.namespace,
            "ownerReferences": _owners(key, uid),
            "annotations": {REPORTED_BY: node},
        }
        obj = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "DeviceStatus", "metadata": metadata}
        try:
            return self.took(key, await kube.create(DEVICE_STATUSES, obj))
        except ConflictError as exc:
            log.info("device_status_there_already", device=str(key), reason=str(exc))
            return self.took(key, await kube.get(DEVICE_STATUSES, key.namespace, key.name))


def _why_not(device: KnownDevice, report: Report) -> str | None:
    """Return why a report is not about a device; None if it is."""
    if report.uid != device.uid:
        return "it is about another device of that name"
    if report.node != device.node:
        return f"the device is attached to {device.node or 'no node'}"
    return None


def _owners(key: ObjectKey, uid: str) -> list[JsonObject]:
    return [
        {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "Device",
            "name": key.name,
            "uid": uid,
            "controller": True,
        }
    ]
