"""Since when manifests wish what they wish (see ``fedge_devices.Stamp``).

A value that is seen for the first time gets a stamp and keeps it. What is given is kept, with the
summary, in ``Device.status.desiredStamps``: after a restart the same value has the same stamp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from fedge_device.words import stamp_in
from fedge_devices import Declared, HybridClock, Stamp
from fedge_objects import JsonObject


@dataclass(frozen=True, slots=True)
class _Given:
    value: Any
    stamp: Stamp


class Wishes:
    """The stamps of all devices' wishes, by the devices' uids."""

    def __init__(self, clock: HybridClock | None = None) -> None:
        self._clock = clock or HybridClock()
        self._given: dict[str, dict[str, _Given]] = {}

    def saw(self, stamp: int) -> None:
        """Take notice of a stamp of the edge."""
        self._clock.saw(stamp)

    def stamped(
        self,
        uid: str,
        declared: Mapping[str, Declared],
        kept: object,
        at_edge: Mapping[str, int],
    ) -> dict[str, Stamp]:
        """Return the stamps of a manifest's wishes by property.

        Args:
            uid: of the device.
            declared: what its manifest says.
            kept: ``status.desiredStamps`` of the object; asked for a device not seen before.
            at_edge: stamps of the edge's own wishes, as far as they are known.
        """
        before = self._given.get(uid)
        if before is None:
            before = self._restored(kept)
        given = {
            name: self._stamp(said.wish["value"], before.get(name), at_edge.get(name, 0))
            for name, said in declared.items()
            if said.wish is not None
        }
        self._given[uid] = given
        return {name: each.stamp for name, each in given.items()}

    def kept(self, uid: str, before: object = None) -> JsonObject:
        """Return what is to be kept of a device: as ``before`` if it was not asked for yet."""
        given = self._given.get(uid)
        if given is None:
            given = self._restored(before)
        return {
            name: {"value": each.value, "at": each.stamp.at, "seen": each.stamp.seen}
            for name, each in sorted(given.items())
        }

    def forget(self, uid: str) -> None:
        """Drop a device that is gone."""
        self._given.pop(uid, None)

    def _stamp(self, value: Any, before: _Given | None, at_edge: int) -> _Given:
        if before is not None and _is_same(before.value, value):
            return before
        self._clock.saw(at_edge)
        return _Given(value, Stamp(self._clock.stamp(), at_edge))

    def _restored(self, kept: object) -> dict[str, _Given]:
        restored: dict[str, _Given] = {}
        for name, each in kept.items() if isinstance(kept, dict) else ():
            at = stamp_in(each.get("at")) if isinstance(each, dict) else 0
            if at:
                restored[name] = _Given(each.get("value"), Stamp(at, stamp_in(each.get("seen"))))
                self._clock.saw(at)
        return restored


def _is_same(one: Any, other: Any) -> bool:
    """Compare as JSON does: 1 is neither true nor "1"."""
    encode = msgspec.json.encode
    return encode(one, order="sorted") == encode(other, order="sorted")
