"""What a Device's manifest wishes, and since when.

The manifest says what, not when. The cloud's device service notes, per property, a stamp of its
hybrid logical clock when it sees the value change, and the newest stamp of the edge's own wish that
it knew then. Both travel to the node in an annotation of the object.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fedge_devices._models import MergeRule, read_rule
from fedge_objects import JsonObject

STAMPS_ANNOTATION: Final = "devices.fedge.io/desired-stamps"
"""JSON: ``{property: [stamp, seen]}``."""
MAX_PROPERTIES: Final = 1024


@dataclass(frozen=True, slots=True)
class Stamp:
    """When the manifest came to wish a value.

    Attributes:
        at: the cloud's stamp; 0: not known, earlier than everything.
        seen: stamp of the newest wish of the edge that the cloud knew then; 0: of none.
    """

    at: int = 0
    seen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A property as the manifest declares it.

    Attributes:
        name: of the property.
        wish: ``desired``: ``{"value": any JSON, "metadata": {...}}``; None if there is none.
        stamp: when the manifest came to say so.
        rule: ``mergeRule``, if the manifest says one.
        is_told: ``reportToCloud``, true where the manifest does not say.
        report_cycle_ms: ``reportCycle``: least time between two reports to the cloud; 0: none.
    """

    name: str
    wish: JsonObject | None = None
    stamp: Stamp = Stamp()
    rule: MergeRule | None = None
    is_told: bool = True
    report_cycle_ms: int = 0


def read_declared(obj: JsonObject) -> dict[str, Declared]:
    """Return the properties that a Device object declares, by name.

    An empty string is no wish: KubeEdge's tools write one where there is none.
    """
    spec = obj.get("spec")
    properties = spec.get("properties") if isinstance(spec, dict) else None
    stamps = read_stamps(_dict(_dict(obj.get("metadata")).get("annotations")))
    declared: dict[str, Declared] = {}
    for each in properties if isinstance(properties, list) else ():
        if not isinstance(each, dict) or not each.get("name"):
            continue
        name = str(each["name"])
        desired = each.get("desired")
        has_value = isinstance(desired, dict) and desired.get("value") not in (None, "")
        cycle = each.get("reportCycle")
        declared[name] = Declared(
            name=name,
            wish=desired if has_value else None,
            stamp=stamps.get(name, Stamp()),
            rule=read_rule(each),
            is_told=each.get("reportToCloud") is not False,
            report_cycle_ms=cycle if isinstance(cycle, int) and cycle > 0 else 0,
        )
    return declared


def read_stamps(annotations: Mapping[str, Any]) -> dict[str, Stamp]:
    """Return the stamps of an object's annotations; none if they are not as we write them."""
    try:
        found = json.loads(str(annotations.get(STAMPS_ANNOTATION) or "{}"))
        return {str(name): Stamp(int(at), int(seen)) for name, (at, seen) in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def write_stamps(stamps: Mapping[str, Stamp]) -> str:
    """Return the annotation's text."""
    return json.dumps(
        {name: [each.at, each.seen] for name, each in sorted(stamps.items())},
        separators=(",", ":"),
    )


def _dict(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}
