"""What is known of devices: as the API has them, by watching and by writing."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from fedge_device.kinds.resources import DEVICE_MODELS, DEVICES
from fedge_device.words import Words, read_words
from fedge_devices import Declared, Model, read_declared, read_model
from fedge_objects import JsonObject, ObjectKey

REPORTED_BY: Final = "devices.fedge.io/reported-by"
"""Annotation of a DeviceStatus: the node whose words it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevice:
    """A Device.

    Attributes:
        uid, node, generation, revision: of the object.
        model: which model it names, if it names one.
        declared: its properties.
        status: as the API has it.
        is_going: whether it is being deleted.
    """

    uid: str
    node: str
    generation: int
    revision: int
    model: ObjectKey | None
    declared: Mapping[str, Declared]
    status: JsonObject
    is_going: bool

    @classmethod
    def of(cls, obj: JsonObject) -> Self:
        """Read an object."""
        metadata, spec = _dict(obj.get("metadata")), _dict(obj.get("spec"))
        model = str(_dict(spec.get("deviceModelRef")).get("name") or "")
        namespace = str(metadata.get("namespace") or "default")
        return cls(
            uid=str(metadata.get("uid") or ""),
            node=str(spec.get("nodeName") or ""),
            generation=int(metadata.get("generation") or 0),
            revision=int(metadata.get("resourceVersion") or 0),
            model=ObjectKey(DEVICE_MODELS.name, namespace, model) if model else None,
            declared=read_declared(obj),
            status=_dict(obj.get("status")),
            is_going=bool(metadata.get("deletionTimestamp")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStatus:
    """A DeviceStatus.

    Attributes:
        revision: of the object.
        owners: uids of its owners.
        node: whose words these are; empty if it is not known.
        status: as the API has it.
        words: what it says.
    """

    revision: int
    owners: frozenset[str]
    node: str
    status: JsonObject
    words: Words

    @classmethod
    def of(cls, obj: JsonObject) -> Self:
        """Read an object."""
        metadata, status = _dict(obj.get("metadata")), _dict(obj.get("status"))
        owners = metadata.get("ownerReferences")
        return cls(
            revision=int(metadata.get("resourceVersion") or 0),
            owners=frozenset(
                str(each.get("uid"))
                for each in (owners if isinstance(owners, list) else ())
                if isinstance(each, dict)
            ),
            node=str(_dict(metadata.get("annotations")).get(REPORTED_BY) or ""),
            status=status,
            words=read_words(status),
        )


@dataclass(slots=True)
class Known:
    """All of it, by the key of the Device.

    Attributes:
        devices: the Devices.
        models: the DeviceModels, by their own keys.
        statuses: the DeviceStatuses.
        changed: devices of which something changed, for whoever takes them from here.
        news: set when there are some.
    """

    devices: dict[ObjectKey, KnownDevice] = field(default_factory=dict)
    models: dict[ObjectKey, Model] = field(default_factory=dict)
    statuses: dict[ObjectKey, KnownStatus] = field(default_factory=dict)
    changed: set[ObjectKey] = field(default_factory=set)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def put_device(self, key: ObjectKey, obj: JsonObject) -> None:
        """Take a Device, unless a newer state is known."""
        known, read = self.devices.get(key), KnownDevice.of(obj)
        if known is None or known.revision <= read.revision:
            self.devices[key] = read
            self.mark(key)

    def put_model(self, key: ObjectKey, obj: JsonObject | None) -> None:
        """Take a DeviceModel, or that it is gone."""
        if obj is None:
            self.models.pop(key, None)
        else:
            self.models[key] = read_model(obj)
        for each, device in self.devices.items():
            if device.model == key:
                self.mark(each)

    def put_status(self, key: ObjectKey, obj: JsonObject) -> KnownStatus:
        """Take a DeviceStatus, unless a newer state is known; return what is known then."""
        known, read = self.statuses.get(key), KnownStatus.of(obj)
        if known is None or known.revision <= read.revision:
            self.statuses[key] = known = read
            self.mark(key)
        return known

    def words_of(self, key: ObjectKey) -> Words | None:
        """Return what the device's node says; None if it has said nothing of this device yet.

        The words of a node that had the device before, and of another device of that name, are not
        about this one.
        """
        device, status = self.devices.get(key), self.statuses.get(key)
        if device is None or status is None or not status.status or not device.node:
            return None
        if device.uid not in status.owners or status.node not in {"", device.node}:
            return None
        return status.words

    def model_of(self, device: KnownDevice) -> Model | None:
        """Return the model that a device names, if it is there."""
        return None if device.model is None else self.models.get(device.model)

    def mark(self, key: ObjectKey) -> None:
        """Say that something of a device changed."""
        self.changed.add(key)
        self.news.set()


def device_key(obj: JsonObject) -> ObjectKey:
    """Return the key of the Device that a Device, or a DeviceStatus, is about."""
    metadata = obj["metadata"]
    return ObjectKey(DEVICES.name, metadata.get("namespace", ""), metadata["name"])


def _dict(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}
