"""What a node says of a device, as its DeviceStatus has it.

It comes from the field, and people may edit it: nothing about its shape is taken for granted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fedge_devices import MAX_PROPERTIES, Problem, as_text
from fedge_objects import JsonObject

EXTENSION: Final = "devices.fedge.io"
"""Under this name ``status.extensions`` has what KubeEdge's kind has no field for."""
MAX_TEXT: Final = 256
MAX_STAMP: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two wishes of which one was lost without its maker's knowing."""

    kept: str
    kept_by: str
    lost: str
    lost_by: str
    rule: str
    time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the node says of a property.

    Attributes:
        reported: the value that the device has; None if it is not known.
        desired: the value that it should have as the node sees it.
        by_edge: whether somebody at the edge wished that.
        stamp: of the edge's wish; 0: there is none.
        conflict: if there is one.
        problem: why the node did not take the manifest's value.
    """

    reported: str | None = None
    desired: str | None = None
    by_edge: bool = False
    stamp: int = 0
    conflict: Conflict | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the node says of a device."""

    state: str = ""
    last_online: str = ""
    properties: Mapping[str, Word] = field(default_factory=dict)


def read_words(status: object) -> Words:
    """Return what the ``status`` of a DeviceStatus says; what makes no sense is left out."""
    said = _dict(status)
    extensions = _dict(_dict(_dict(said.get("extensions")).get(EXTENSION)).get("properties"))
    found = said.get("twins")
    twins = {
        str(each["propertyName"]): each
        for each in (found if isinstance(found, list) else ())
        if isinstance(each, dict) and each.get("propertyName")
    }
    names = [*twins, *(name for name in extensions if name not in twins)][:MAX_PROPERTIES]
    return Words(
        state=_text(said.get("state")),
        last_online=_text(said.get("lastOnlineTime")),
        properties={
            name: _word(twins.get(name, {}), _dict(extensions.get(name))) for name in names
        },
    )


def _word(twin: JsonObject, more: JsonObject) -> Word:
    conflict, problem = _dict(more.get("conflict")), _dict(more.get("problem"))
    return Word(
        reported=_value(twin.get("reported")),
        desired=_value(twin.get("observedDesired")),
        by_edge=more.get("desiredBy") == "edge",
        stamp=stamp_in(more.get("stamp")),
        conflict=_conflict(conflict) if conflict else None,
        problem=Problem(_text(problem.get("reason")), _text(problem.get("message")))
        if problem
        else None,
    )


def _conflict(said: JsonObject) -> Conflict:
    return Conflict(
        kept=_text(said.get("kept")),
        kept_by=_text(said.get("keptBy")),
        lost=_text(said.get("lost")),
        lost_by=_text(said.get("lostBy")),
        rule=_text(said.get("rule")),
        time=_text(said.get("time")),
    )


def stamp_in(value: object) -> int:
    """Return a stamp from outside; 0 if it is none."""
    is_stamp = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_STAMP
    return value if is_stamp and isinstance(value, int) else 0


def _value(side: object) -> str | None:
    value = _dict(side).get("value")
    return None if value is None else as_text(value)


def _text(value: object) -> str:
    return "" if value is None else as_text(value)[:MAX_TEXT]


def _dict(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}
