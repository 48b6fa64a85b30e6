"""Messages between fedge services: addresses, envelopes, topology, publishing, acknowledging."""

from fedge_fabric.addresses import Address, MessageClass, decode_word, encode_word
from fedge_fabric.envelope import Envelope, change_of, envelope_of
from fedge_fabric.errors import (
    FabricError,
    InvalidError,
    MalformedError,
    UnavailableError,
    UnroutableError,
)

__all__ = [
    "Address",
    "Envelope",
    "FabricError",
    "InvalidError",
    "MalformedError",
    "MessageClass",
    "UnavailableError",
    "UnroutableError",
    "change_of",
    "decode_word",
    "encode_word",
    "envelope_of",
]
