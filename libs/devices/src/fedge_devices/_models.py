"""What a DeviceModel says about the properties of such devices."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from fedge_objects import JsonObject

_T = TypeVar("_T", bound=StrEnum)


class Access(StrEnum):
    """Whether a property can be set."""

    READ_WRITE = "ReadWrite"
    READ_ONLY = "ReadOnly"


class MergeRule(StrEnum):
    """Who wins when cloud and edge both wish a value of a property.

    The edge's wish holds until the manifest changes the value. Then:
    """

    CLOUD_WINS = "cloud-wins"
    """the manifest's value replaces it;"""
    EDGE_WINS = "edge-wins"
    """it stays until it is withdrawn at the edge;"""
    LAST_WRITE = "last-write"
    """whichever of the two was wished later, by hybrid logical clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProperty:
    """What a DeviceModel says about a property.

    Attributes:
        type: lower case: int, float, double, string, boolean, bytes, stream.
        access: whether it can be set.
        minimum: least number, if one is given.
        maximum: greatest number, if one is given.
        unit: of the value, e.g. ``C``; empty if none is given.
        rule: who wins; None if the model does not say.
    """

    type: str = "string"
    access: Access = Access.READ_WRITE
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    rule: MergeRule | None = None


Model = Mapping[str, ModelProperty]
"""A DeviceModel: its properties by name."""


def read_model(obj: JsonObject) -> Model:
    """Return what a DeviceModel object says; what the API would refuse is left out."""
    spec = obj.get("spec")
    properties = spec.get("properties") if isinstance(spec, dict) else None
    return {
        str(each["name"]): ModelProperty(
            type=str(each.get("type") or "string").lower(),
            access=_one_of(Access, each.get("accessMode")) or Access.READ_WRITE,
            minimum=_number(each.get("minimum")),
            maximum=_number(each.get("maximum")),
            unit=str(each.get("unit") or ""),
            rule=read_rule(each),
        )
        for each in (properties if isinstance(properties, list) else ())
        if isinstance(each, dict) and each.get("name")
    }


def read_rule(declared: JsonObject) -> MergeRule | None:
    """Return the ``mergeRule`` of a property of a Device or a DeviceModel, if it has one."""
    return _one_of(MergeRule, declared.get("mergeRule"))


def _one_of(kind: type[_T], value: object) -> _T | None:
    return kind(value) if isinstance(value, str) and value in set(kind) else None


def _number(value: object) -> float | None:
    """Return a bound; the kind has strings, some manifests numbers."""
    try:
        return None if value is None else float(str(value))
    except ValueError:
        return None
