"""Versions of an edge side by side in its volume: installed, tried out, kept or taken back.

The container that an edge runs in belongs to whoever started it, and cannot be swapped from inside.
So another version is a root folder in the volume, a slot, into which the container's first process
changes at its start. What this package keeps on disk is read by older versions too: it is only
added to.
"""

from fedge_slots._archives import ArchiveError, Described, describe, own_architecture, unpack
from fedge_slots._slots import (
    MOST_STARTS,
    Installed,
    Outcome,
    Part,
    SlotError,
    Slots,
    State,
    Trial,
    Was,
    broker_of,
)

__all__ = [
    "MOST_STARTS",
    "ArchiveError",
    "Described",
    "Installed",
    "Outcome",
    "Part",
    "SlotError",
    "Slots",
    "State",
    "Trial",
    "Was",
    "broker_of",
    "describe",
    "own_architecture",
    "unpack",
]
