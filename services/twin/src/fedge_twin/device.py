"""A device's twin: what each property should be and what the device says it is.

Values are any JSON. Each side of a property carries a pair of counters, as KubeEdge's clients know
them: how often the cloud and how often the edge has changed it
(https://kubeedge.io/docs/developer/mqtt_message).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from fedge_devices import DEVICE_MODELS, DEVICES, MergeRule, as_text
from fedge_objects import JsonObject, ObjectKey, Version

__all__ = ["DEVICES", "DEVICE_MODELS", "Conflict", "Device", "Property", "Side", "Wish"]

By = Literal["cloud", "edge", "device"]


class Side(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A property's value as it is wished, or as it was reported.

    Attributes:
        value: any JSON.
        by: who said so.
        metadata: what came with it, e.g. ``{"timestamp": ms}``.
        cloud: how often the cloud changed it.
        edge: how often the edge changed it.
        at: since when; a stamp of ``fedge_devices.HybridClock``.
    """

    value: Any
    by: By = "device"
    metadata: JsonObject = {}
    cloud: int = 0
    edge: int = 0
    at: int = 0

    @property
    def text(self) -> str:
        """The value as the one string that the classic interfaces know."""
        return as_text(self.value)


class Wish(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the manifest wishes, whatever it is at the edge by now.

    Attributes:
        value: any JSON.
        metadata: what goes with it.
        at: since when, by the cloud's stamp; 0: not known.
    """

    value: Any
    metadata: JsonObject = {}
    at: int = 0


class Conflict(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Two wishes of which one was lost, until the next is made.

    Attributes:
        kept: value of the one that holds.
        kept_by: who wished it: cloud or edge.
        lost: value of the other.
        lost_by: who wished that.
        rule: why.
        at: when that was decided, a stamp.
    """

    kept: Any
    kept_by: By
    lost: Any
    lost_by: By
    rule: MergeRule
    at: int


class Property(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One property of a device.

    Attributes:
        name: of the property.
        type: as the device declared it, in lower case; empty if it did not.
        optional: whether the device may delete it.
        in_manifest: whether the Device object names it.
        is_told: whether its reported value is told to the cloud.
        report_cycle_ms: least time between two times that it is; 0: what holds for all.
        rule: the manifest's merge rule, if it says one.
        wish: what the manifest wishes.
        problem: why that wish is not taken: reason and text; None if it is.
        desired: what it should be.
        reported: what the device says that it is.
        conflict: of the last two wishes, if one was lost.
        changes: counts what became of it, for its history.
    """

    name: str
    type: str = ""
    optional: bool = True
    in_manifest: bool = False
    is_told: bool = True
    report_cycle_ms: int = 0
    rule: MergeRule | None = None
    wish: Wish | None = None
    problem: tuple[str, str] | None = None
    desired: Side | None = None
    reported: Side | None = None
    conflict: Conflict | None = None
    changes: int = 0

    @property
    def differs(self) -> bool:
        """Whether the device does not yet say what it should."""
        if self.desired is None:
            return False
        return self.reported is None or self.reported.text != self.desired.text

    def is_kept_as(self, other: "Property") -> bool:
        """Whether the disk need not tell them apart.

        They differ in when the device last said the same at most, and a stamp of that.
        """
        if self == other:
            return True
        mine, its = self.reported, other.reported
        if mine is None or its is None or (mine.cloud, mine.edge) != (its.cloud, its.edge):
            return False
        return msgspec.structs.replace(self, reported=its) == other


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
        properties: by name.
    """

    key: ObjectKey
    uid: str
    version: Version
    description: str = ""
    model: ObjectKey | None = None
    state: str = ""
    last_online: str = ""
    properties: Mapping[str, Property] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """How MQTT clients name it: ``namespace/name``."""
        return f"{self.key.namespace}/{self.key.name}"

    @property
    def differs(self) -> bool:
        """Whether any property does not yet say what it should."""
        return any(each.differs for each in self.properties.values())
