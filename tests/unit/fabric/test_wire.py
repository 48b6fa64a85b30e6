"""Properties that other programs write: read whatever they are, and written as far as that goes."""

import struct
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aio_pika.abc import AbstractIncomingMessage
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode, encode, frame
from pamqp.header import ContentHeader

from fedge_fabric import wire
from fedge_fabric.fabric import Fabric

HEADERS, TIMESTAMP, TYPE = 1 << 13, 1 << 6, 1 << 5

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.binary(max_size=8).map(bytearray)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(min_value=datetime(1970, 1, 2)).map(lambda each: each.replace(tzinfo=UTC)),  # noqa: DTZ001 - hypothesis wants it so
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
)


def header_frame(flags: int, properties: bytes) -> bytes:
    content = struct.pack(">HHQH", 60, 0, 0, flags) + properties
    return struct.pack(">BHI", 2, 1, len(content)) + content + b"\xce"


def read(flags: int, properties: bytes) -> Any:
    _, _, found = frame.unmarshal(header_frame(flags, properties))
    assert isinstance(found, ContentHeader)
    return found.properties


def table(fields: bytes) -> bytes:
    return struct.pack(">I", len(fields)) + fields


def nested(depth: int) -> bytes:
    fields = b""
    for _ in range(depth):
        fields = b"\x01aF" + table(fields)
    return fields


texts = st.dictionaries(st.text(max_size=40), st.text(max_size=80), max_size=8)


@given(texts, st.binary(max_size=4))
def test_tables_of_texts_are_read_and_written_as_by_the_library(
    fields: dict[str, Any], after: bytes
) -> None:
    packed = wire._packed(fields)
    assert sorted(decode.field_table(packed)[1].items()) == sorted(fields.items())
    assert wire._table(packed + after) == decode.field_table(packed + after)
    assert wire._packed(dict(sorted(fields.items()))) == encode.field_table(fields)


@given(st.dictionaries(st.text(max_size=8), values, max_size=4))
def test_other_tables_are_written_as_by_the_library_or_refused(fields: dict[str, Any]) -> None:
    try:
        expected = encode.field_table(fields)
    except (TypeError, ValueError, OverflowError, struct.error, RecursionError) as exc:
        with pytest.raises(type(exc)):
            wire._packed(fields)
    else:
        read = decode.field_table(wire._packed(fields))[1]
        assert repr(sorted(read.items())) == repr(sorted(decode.field_table(expected)[1].items()))


@given(texts, st.data())
def test_damaged_tables_of_texts_are_read_as_by_the_library(
    fields: dict[str, str], data: st.DataObject
) -> None:
    packed = bytearray(wire._packed(fields))
    where = data.draw(st.integers(0, len(packed) - 1))
    packed[where] = data.draw(st.integers(0, 255))
    damaged = bytes(packed[: data.draw(st.integers(4, len(packed)))])
    plain = wire._plain_table(damaged)
    if plain is not None:
        assert plain == decode.field_table(damaged)


@pytest.mark.parametrize("name", ["n" * 129, "é" * 65])
def test_names_that_are_too_long_are_cut_as_by_the_library(name: str) -> None:
    assert wire._packed({name: "text"}) == encode.field_table({name: "text"})


def raw_of(headers: dict[str, Any], exchange: str = "fedge.up") -> AbstractIncomingMessage:
    raw = SimpleNamespace(
        headers=headers,
        exchange=exchange,
        routing_key="node.edge-1.state.x",
        body=b"",
        content_type="x" * 300,
        content_encoding=None,
        message_id="\U0001f4a5" * 100,
        timestamp=datetime.max.replace(tzinfo=UTC),
        type=None,
        app_id=None,
    )
    return cast("AbstractIncomingMessage", raw)


def test_fabric_has_the_library_read_anything() -> None:
    assert Fabric.__module__ == "fedge_fabric.fabric"
    assert decode.METHODS["table"] is wire._table


def test_short_text_that_is_no_utf_8_is_read_in_its_length() -> None:
    assert read(TYPE, b"\x04a\xff\xfeb").message_type == "a??b"


@pytest.mark.parametrize("moment", [2**64 - 1, 2**63, 10**15, 253402300800000])
def test_time_beyond_all_calendars_is_read(moment: int) -> None:
    assert read(TIMESTAMP, struct.pack(">Q", moment)).timestamp.year > 9000


@pytest.mark.parametrize(
    "fields",
    [nested(5000), b"\x01a?", b"\x01\xffI\0\0\0\1", b"\x01aT" + b"\xff" * 8, b"\x09a"],
    ids=["deep", "unknown type", "name is no UTF-8", "time", "cut"],
)
def test_table_that_cannot_be_read_hides_nothing_that_follows(fields: bytes) -> None:
    found = read(HEADERS | TYPE, table(fields) + b"\x01t")
    assert found.message_type == "t"
    assert isinstance(found.headers, dict)


@given(st.dictionaries(st.text(max_size=20), values, max_size=5))
def test_copy_of_a_message_can_be_written_whatever_its_headers_are(headers: dict[str, Any]) -> None:
    copy = wire.copy_of(raw_of(headers), {"fedge-reason": "why"})
    assert copy.properties.marshal()
    assert copy.headers["fedge-reason"] == "why"


def test_copy_keeps_what_can_be_written() -> None:
    headers = {"a": "b", "n": 1, "t": {"x": [1, None, True]}, "d": Decimal("1.50")}
    assert wire.copy_of(raw_of(headers), {}).headers == {**headers, "d": "1.50"}


def test_copy_goes_nowhere_else() -> None:
    raw = raw_of({"CC": ["hub.wanted"], "BCC": ["hub.wanted"], "a": 1})
    assert wire.copy_of(raw, {}).headers == {"a": 1}


def test_notes_about_earlier_attempts_are_believed_of_the_waiting_room_only() -> None:
    headers: dict[str, Any] = {wire.ORIGINAL_KEY: "node.other.state.x", wire.ATTEMPT: 7}
    forged, ours = raw_of(headers), raw_of(headers, "")
    assert wire.original_key(forged) == "node.edge-1.state.x"
    assert wire.attempts(forged) == 0
    assert wire.original_key(ours) == "node.other.state.x"
    assert wire.attempts(ours) == 7
    assert wire.original_key(raw_of({wire.ORIGINAL_KEY: 7}, "")) == "node.edge-1.state.x"
