"""Bringing two changes of one object together.

Objects are compared field by field, lists as a whole: what the elements of a list are to each other
differs from kind to kind. Null is as absent, as in JSON merge patches (RFC 7396).
"""

from dataclasses import dataclass
from typing import Any, Final

from fedge_objects._change import JsonObject

_ABSENT: Final[Any] = None
_BOOKKEEPING: Final = ("resourceVersion", "managedFields", "generation", "selfLink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """A field that both sides changed, each to another value.

    Attributes:
        path: the field: ``data.mode``.
        ours: our value; None: we removed it.
        theirs: the other side's; None: they removed it.
    """

    path: str
    ours: Any
    theirs: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What two changes lead to.

    Attributes:
        value: the object with both; where they contradict each other, with the preferred side's.
        contradictions: where they do.
    """

    value: JsonObject
    contradictions: tuple[Contradiction, ...] = ()


def merge_changes(
    base: JsonObject, ours: JsonObject, theirs: JsonObject, *, prefer_ours: bool = False
) -> Merged:
    """Merge what became of ``base`` on two sides.

    Args:
        base: what both began with.
        ours: what one made of it.
        theirs: what the other made of it.
        prefer_ours: whose value holds where both changed a field differently.
    """
    found: list[Contradiction] = []
    value = _merge(base, ours, theirs, "", found, prefer_ours=prefer_ours)
    return Merged(value=value or {}, contradictions=tuple(found))


def change_between(old: JsonObject, new: JsonObject) -> JsonObject:
    """Return the JSON merge patch that leads from ``old`` to ``new``."""
    patch: JsonObject = {}
    for name in {**old, **new}:
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            patch[name] = change_between(before, after)
        else:
            patch[name] = after
    return patch


def without_bookkeeping(obj: JsonObject) -> JsonObject:
    """Return an object without what the API counts in it by itself, and without status."""
    metadata = {k: v for k, v in (obj.get("metadata") or {}).items() if k not in _BOOKKEEPING}
    return {**{k: v for k, v in obj.items() if k != "status"}, "metadata": metadata}


def _merge(
    base: Any, ours: Any, theirs: Any, path: str, found: list[Contradiction], *, prefer_ours: bool
) -> Any:
    if theirs in (ours, base):
        return ours
    if ours == base:
        return theirs
    if isinstance(ours, dict) and isinstance(theirs, dict):
        before = base if isinstance(base, dict) else {}
        merged: JsonObject = {}
        for name in {**theirs, **ours}:
            value = _merge(
                before.get(name, _ABSENT),
                ours.get(name, _ABSENT),
                theirs.get(name, _ABSENT),
                f"{path}.{name}" if path else name,
                found,
                prefer_ours=prefer_ours,
            )
            if value is not _ABSENT:
                merged[name] = value
        return merged
    found.append(Contradiction(path=path, ours=ours, theirs=theirs))
    return ours if prefer_ours else theirs
