"""Messages as other programs may have written them: read whatever is in them, and pass them on.

Whatever a broker takes, a consumer gets. The AMQP library ends the connection over a property that
it cannot read (text that is not UTF-8, a time after the year 9999, tables in tables without end):
connected anew, it gets the same message first, for ever. And it cannot write all that it can read.
So it is taught here to read such properties in another way, and what is passed on is made of what
it can write.

AMQP 0-9-1: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf (4.2.5), and
https://www.rabbitmq.com/docs/amqp-0-9-1-errata for the types of fields.
"""

import codecs
import math
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from pamqp import decode, encode

_MAX_SHORT = 255
_MAX_NAME = 128
"""Bytes of a field's name."""
_TEXT = ord("S")
"""The type of a field that is a long string."""
_MAX_DEPTH = 16
_MAX_INTEGER = 2**63
_MAX_FLOAT = 3.4e38
_ROUTES = frozenset({"CC", "BCC"})
"""RabbitMQ delivers to these as well (https://www.rabbitmq.com/docs/sender-selected), without a
look at rights: a copy made by us would go where its sender must not send."""
_QUESTION_MARKS = "fedge_question_marks"
ORIGINAL_KEY = "fedge-key"
ATTEMPT = "fedge-attempt"


def read_anything() -> None:
    """Have the AMQP library read every property that a broker takes.

    And have it read and write tables of texts, as the headers of all our messages are, in a third
    of the time.
    """
    codecs.register_error(_QUESTION_MARKS, _question_marks)
    decode.METHODS["shortstr"] = _short_text
    for table in (decode.METHODS, decode.TABLE_MAPPING):
        for name, known in list(table.items()):
            if known is decode.timestamp:
                table[name] = _timestamp  # type: ignore[index]  # the key came from this table
    decode.METHODS["table"] = _table
    encode.METHODS["table"] = _packed


def original_key(raw: AbstractIncomingMessage) -> str:
    """Return the routing key under which the message first came, before it was tried again."""
    key = raw.headers.get(ORIGINAL_KEY) if _waited(raw) else None
    return key if isinstance(key, str) else raw.routing_key or ""


def attempts(raw: AbstractIncomingMessage) -> int:
    """Return how often the message was tried before."""
    count = raw.headers.get(ATTEMPT, 0) if _waited(raw) else 0
    return count if isinstance(count, int) else 0


def copy_of(raw: AbstractIncomingMessage, headers: Mapping[str, Any]) -> aio_pika.Message:
    """Return a message with the same content and ``headers`` beside its own.

    Headers that cannot be written are said in words; those that route are left out.
    """
    own = {
        name: _writable(value, _MAX_DEPTH)
        for name, value in raw.headers.items()
        if name not in _ROUTES
    }
    return aio_pika.Message(
        raw.body,
        headers={**own, **headers},
        content_type=_short(raw.content_type),
        content_encoding=_short(raw.content_encoding),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=_short(raw.message_id),
        timestamp=raw.timestamp,
        type=_short(raw.type),
        app_id=_short(raw.app_id),
    )


def _waited(raw: AbstractIncomingMessage) -> bool:
    """Whether the message comes from a waiting room, of which only we take notes in headers.

    Nodes have no right to publish to the broker's default exchange; whatever else they write into
    a header, it is not believed.
    """
    return not raw.exchange


def _short(text: str | None) -> str | None:
    if text is None:
        return None
    return text.encode()[:_MAX_SHORT].decode(errors="ignore")


def _writable(value: Any, depth: int) -> Any:
    """Return a field's value as the library can write it."""
    match value:
        case bytes():
            return bytearray(value)
        case dict() if depth:
            return {name: _writable(each, depth - 1) for name, each in value.items()}
        case list() if depth:
            return [_writable(each, depth - 1) for each in value]
        case dict() | list():
            return "..."
        case int():
            return value if -_MAX_INTEGER <= value < _MAX_INTEGER else str(value)
        case float():
            return value if math.isfinite(value) and abs(value) < _MAX_FLOAT else str(value)
        case None | str() | bytearray() | datetime():
            return value
        case _:
            return str(value)


def _question_marks(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    # as long as what it stands for: it has to fit where it came from
    return "?" * (error.end - error.start), error.end


def _short_text(value: bytes) -> tuple[int, str]:
    length = value[0]
    return length + 1, bytes(value[1 : length + 1]).decode(errors=_QUESTION_MARKS)


def _timestamp(value: bytes) -> tuple[int, datetime]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, datetime.max.replace(tzinfo=UTC, microsecond=0)


def _table(value: bytes) -> tuple[int, dict[str, Any]]:
    plain = _plain_table(value)
    if plain is not None:
        return plain
    try:
        return decode.field_table(value)
    except (ValueError, KeyError, IndexError, RecursionError, ArithmeticError, struct.error):
        # what follows is still read: a table says how long it is
        return int.from_bytes(value[:4], "big") + 4, {}


def _plain_table(value: bytes) -> tuple[int, dict[str, Any]] | None:
    """Read a table of texts; None if it is another one, or none at all."""
    end = 4 + int.from_bytes(value[:4], "big")
    if end > len(value):
        return None
    found = {}
    at = 4
    try:
        while at < end:
            kind = at + 1 + value[at]
            start = kind + 5
            if value[kind] != _TEXT:
                return None
            stop = start + int.from_bytes(value[kind + 1 : start], "big")
            if stop > end:
                return None
            found[value[at + 1 : kind].decode()] = value[start:stop].decode()
            at = stop
    except (IndexError, UnicodeDecodeError):
        return None
    return end, found


def _packed(table: Any) -> bytes:
    """Write a table."""
    try:
        parts = []
        for name, text in table.items():
            key, content = name.encode(), text.encode()
            if len(key) > _MAX_NAME:
                return encode.field_table(table)
            parts.append(b"%c%bS%b%b" % (len(key), key, len(content).to_bytes(4, "big"), content))
    except (AttributeError, TypeError):  # not only texts
        return encode.field_table(table)
    packed = b"".join(parts)
    return len(packed).to_bytes(4, "big") + packed
