"""Routing keys: ``node.<node>.<class>.<word>...``.

Words are joined by dots, and Kubernetes names may hold dots themselves, so each word is encoded:
``.`` becomes ``_`` (which no Kubernetes name has) and whatever else could mean something to AMQP's
or MQTT's patterns becomes ``%XX``. The encoding is one to one. AMQP's keys have at most 255 bytes,
and Kubernetes' names may be longer together: of a longer key the end is a hash, the same for the
same words, and whom it is about is said by the message's subject.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from urllib.parse import unquote

from fedge_fabric.errors import MalformedError
from fedge_objects import NodeName, ObjectKey

MAX_KEY_BYTES = 255
_PLAIN = re.compile(r"[A-Za-z0-9:-]")


class MessageClass(StrEnum):
    """What kind of care a message needs; each has queues of its own on both sides."""

    STATE = "state"
    """Objects and statuses: the newest version wins."""
    EVENT = "event"
    """All must arrive, in order per key."""
    REQUEST = "request"
    """Somebody waits for the answer, until a deadline."""
    SPANS = "spans"
    """Traces; may be dropped, counted."""


def encode_word(text: str) -> str:
    """Return ``text`` as one word of a routing key; empty becomes ``-``."""
    if not text:
        return "-"
    return "".join(
        char
        if _PLAIN.match(char)
        else "_"
        if char == "."
        else "".join(f"%{byte:02X}" for byte in char.encode())
        for char in text
    )


def decode_word(word: str) -> str:
    """Return what ``encode_word`` was given."""
    return "" if word == "-" else unquote(word.replace("_", "."))


def routing_key_of(words: Sequence[str], *, kept: int) -> str:
    """Return the routing key of encoded words; one that is too long ends in a hash.

    Args:
        words: encoded.
        kept: how many words are kept as they are, for bindings to match.
    """
    key = ".".join(words)
    if len(key) <= MAX_KEY_BYTES:
        return key
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return ".".join((*words[:kept], digest))


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message goes: to or from one node, in one class.

    Attributes:
        node: the node that the message is for (down) or speaks for (up).
        message_class: its class.
        words: what follows, not encoded: ``("pods", "default", "hello")``.
    """

    node: NodeName
    message_class: MessageClass
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the routing key."""
        words = ("node", encode_word(self.node), self.message_class, *map(encode_word, self.words))
        return routing_key_of(words, kept=4)

    @classmethod
    def parse(cls, routing_key: str) -> Self:
        """Read a routing key.

        Raises:
            MalformedError: it is not an address.
        """
        match routing_key.split("."):
            case ["node", node, message_class, *words] if decode_word(
                node
            ) and message_class in set(MessageClass):
                return cls(
                    NodeName(decode_word(node)),
                    MessageClass(message_class),
                    tuple(map(decode_word, words)),
                )
            case _:
                raise MalformedError(
                    f"routing key {routing_key!r} is no address: expected node.<node>.<class>..."
                )

    @classmethod
    def of_object(cls, node: NodeName, key: ObjectKey) -> Self:
        """Return the address of an object's state for or from ``node``."""
        return cls(node, MessageClass.STATE, (key.resource, key.namespace, key.name))
