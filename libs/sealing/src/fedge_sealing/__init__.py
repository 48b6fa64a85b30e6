"""Secrets that only their node can read: sealed in the cloud, unsealed where they are used."""

from fedge_sealing._keys import SealError, SealingKey, is_sealed, key_id, key_of, seal
from fedge_sealing._node import CONFIDENTIAL, NodeSeal, seal_change
from fedge_sealing._private import make_private, write_private

__all__ = [
    "CONFIDENTIAL",
    "NodeSeal",
    "SealError",
    "SealingKey",
    "is_sealed",
    "key_id",
    "key_of",
    "make_private",
    "seal",
    "seal_change",
    "write_private",
]
