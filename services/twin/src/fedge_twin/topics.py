"""MQTT topics of devices and nodes, and a broker's way with dots in them.

A topic is ``$hw/events/device/<namespace>/<name>/<what>``. RabbitMQ's plugin makes ``/`` to ``.``
on the way in and each ``.`` to ``/`` on the way out; a name with dots therefore arrives as several
levels, which one ``+`` does not match. A namespace has no dots and a name no slashes, so such a
topic can still be read. There is a subscription for each number of dots up to ``DOTS``, and for
each device with more of them one of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from fedge_objects import NodeName, ObjectKey
from fedge_twin.device import DEVICES

_DEVICE = "$hw/events/device"
_NODE = "$hw/events/node"
_MEMBERSHIP = "membership/get"
DOTS: Final = 5


class What(StrEnum):
    """What a device's message is."""

    GET = "twin/get"
    UPDATE = "twin/update"
    STATE = "state/update"


@dataclass(frozen=True, slots=True)
class FromDevice:
    """A topic by which a device speaks."""

    key: ObjectKey
    what: What

    @property
    def result(self) -> str:
        """The topic of the answer."""
        return device_topic(self.key, f"{self.what}/result")


@dataclass(frozen=True, slots=True)
class MembershipAsked:
    """The topic by which somebody asks what devices the node has."""


@dataclass(frozen=True, slots=True)
class Word:
    """A message of a device.

    Attributes:
        topic: that it came on.
        payload: as it came.
        receipt: by which the broker is told that it was taken: packet id and QoS.
        traceparent: the trace context that it came with; empty if none.
    """

    topic: str
    payload: bytes
    receipt: tuple[int, int] = (0, 0)
    traceparent: str = ""


def device_topic(key: ObjectKey, what: str) -> str:
    """Return a device's topic."""
    return f"{_DEVICE}/{key.namespace}/{key.name}/{what}"


def node_topic(node: NodeName, what: str) -> str:
    """Return the node's topic."""
    return f"{_NODE}/{node}/{what}"


def filters(node: NodeName) -> list[str]:
    """Return what twin always subscribes to."""
    names = ["/".join(["+"] * (dots + 1)) for dots in range(DOTS + 1)]
    devices = [f"{_DEVICE}/+/{name}/{what}" for name in names for what in What]
    return [*devices, node_topic(node, _MEMBERSHIP)]


def filters_of(keys: Iterable[ObjectKey]) -> set[str]:
    """Return what twin subscribes to beside, for those of ``keys`` with many dots in their name."""
    return {
        device_topic(key, what).replace(".", "/")
        for key in keys
        if key.name.count(".") > DOTS
        for what in What
    }


@lru_cache(maxsize=16384)
def read_topic(topic: str) -> FromDevice | MembershipAsked | None:
    """Return what a topic means; None if it is not for twin."""
    levels = topic.split("/")
    match levels:
        case ["$hw", "events", "device", namespace, *name, group, verb] if name:
            what = f"{group}/{verb}"
            if namespace and all(name) and what in set(What):
                return FromDevice(ObjectKey(DEVICES, namespace, ".".join(name)), What(what))
        case ["$hw", "events", "node", *name, "membership", "get"] if name:
            return MembershipAsked()
    return None
