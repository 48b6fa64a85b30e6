"""A device's twin: what each property should be and what the device says it is.

Values are any JSON. Each side of a property carries a pair of counters, as KubeEdge's clients know
them: how often the cloud and how often the edge has changed it
(https://kubeedge.io/docs/developer/mqtt_message).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fedge_objects import JsonObject, ObjectKey, Version

DEVICES = "devices.devices.kubeedge.io"
DEVICE_MODELS = "devicemodels.devices.kubeedge.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A property's value as it is wished, or as it was reported.

    Attributes:
        value: any JSON.
        metadata: what came with it, e.g. ``{"timestamp": ms}``.
        cloud: how often the cloud changed it.
        edge: how often the edge changed it.
    """

    value: Any
    metadata: JsonObject = field(default_factory=dict)
    cloud: int = 0
    edge: int = 0

    @property
    def text(self) -> str:
        """The value as the one string that the classic interfaces know."""
        return as_text(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property of a device.

    Attributes:
        name: of the property.
        type: as the device declared it, in lower case; empty if it did not.
        optional: whether the device may delete it.
        in_manifest: whether the Device object names it.
        wish: ``desired`` as the Device object last said it, whatever it is at the edge by now.
        desired: what it should be.
        reported: what the device says that it is.
    """

    name: str
    type: str = ""
    optional: bool = True
    in_manifest: bool = False
    wish: JsonObject | None = None
    desired: Side | None = None
    reported: Side | None = None

    @property
    def differs(self) -> bool:
        """Whether the device does not yet say what it should."""
        if self.desired is None:
            return False
        return self.reported is None or self.reported.text != self.desired.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device of this node.

    Attributes:
        key: of its Device object.
        uid: of its Device object.
        version: of its Device object, as this node should have it.
        description: what people wrote about it.
        model: its DeviceModel, if it names one.
        state: as it last said: online, offline, ok, unknown, unhealthy; empty before.
        last_online: when it last said online or ok, RFC 3339; empty before.
        sequence: counts what changed of all that the cloud is told.
        properties: by name.
    """

    key: ObjectKey
    uid: str
    version: Version
    description: str = ""
    model: ObjectKey | None = None
    state: str = ""
    last_online: str = ""
    sequence: int = 0
    properties: Mapping[str, Property] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """How MQTT clients name it: ``namespace/name``."""
        return f"{self.key.namespace}/{self.key.name}"

    @property
    def differs(self) -> bool:
        """Whether any property does not yet say what it should."""
        return any(each.differs for each in self.properties.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProperty:
    """What a DeviceModel says about a property.

    Attributes:
        type: lower case: int, float, double, string, boolean, bytes, stream.
        minimum: least number, if one is given.
        maximum: greatest number, if one is given.
    """

    type: str
    minimum: float | None = None
    maximum: float | None = None


Model = Mapping[str, ModelProperty]
"""A DeviceModel: its properties by name."""


def as_text(value: Any) -> str:
    """Return a JSON value as a string: a string as it is, anything else as its JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
