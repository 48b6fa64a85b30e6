"""The edge's store: every object the node was given, and the messages that follow from them.

One SQLite file. Meta alone writes it (``ObjectStore``); edged and twin read it when they start
(``ObjectReader``), so that a gateway has its pods back before any broker answers. Beside it lies a
small one of edged's: which requests it has begun (``BegunRequests``).
"""

from fedge_store._begun import BegunRequests
from fedge_store._damage import Damage, is_damage, set_aside, set_aside_if_damaged
from fedge_store._reader import ObjectReader
from fedge_store._schema import StoreError, fits, major_of
from fedge_store._writer import ObjectStore, Outgoing, OutgoingRow, WaitingWrite

__all__ = [
    "BegunRequests",
    "Damage",
    "ObjectReader",
    "ObjectStore",
    "Outgoing",
    "OutgoingRow",
    "StoreError",
    "WaitingWrite",
    "fits",
    "is_damage",
    "major_of",
    "set_aside",
    "set_aside_if_damaged",
]
