"""Protobuf bodies of typed clients."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from fedge_apiserver.protobuf import UnknownTypeError, _numbers, decode_protobuf
from fedge_apiserver.schema import fields_of, type_table


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def enveloped(api_version: bytes, kind: bytes, message: bytes) -> bytes:
    names = field(1, api_version) + field(2, kind)
    return b"k8s\0" + field(1, names) + field(2, message)


def test_config_map_is_decoded() -> None:
    meta = field(1, b"a") + field(11, field(1, b"tier") + field(2, b"front")) + field(8, b"")
    message = field(1, meta) + field(2, field(1, b"k") + field(2, b"v")) + bytes([4 << 3, 1])
    assert decode_protobuf(enveloped(b"v1", b"ConfigMap", message), "ConfigMap") == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a", "labels": {"tier": "front"}},
        "data": {"k": "v"},
        "immutable": True,
    }


def test_secret_values_become_base64() -> None:
    message = field(2, field(1, b"k") + field(2, b"\xff\x00"))
    value = decode_protobuf(enveloped(b"v1", b"Secret", message), "Secret")
    assert value["data"] == {"k": "/wA="}


def test_kind_that_is_not_read_so_is_told() -> None:
    with pytest.raises(UnknownTypeError):
        decode_protobuf(enveloped(b"v1", b"X", b""), "CustomResourceDefinition")
    with pytest.raises(UnknownTypeError):
        decode_protobuf(enveloped(b"v1", b"ConfigMap", field(15, b"x")), "ConfigMap")


@pytest.mark.parametrize("body", [b"", b"{}", b"k8s\0\x0a\x7f", b"k8s\0\x12\x02\x0a", b"k8s\0\x0b"])
def test_broken_message_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"EOF|prefix|wireType"):
        decode_protobuf(body, "ConfigMap")


@pytest.mark.parametrize("type_name", ["CronJob", "Deployment", "Pod", "Secret", "ClusterRole"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_message_is_read_or_refused(type_name: str, data: DataObject) -> None:
    """Fields of the right numbers, with anything in them."""
    message = data.draw(messages(type_name, 0))
    cut = data.draw(st.integers(min_value=0, max_value=len(message)))
    flip = data.draw(st.integers(min_value=0, max_value=255))
    for body in (message, message[:cut], message[:cut] + bytes([flip]) + message[cut + 1 :]):
        try:
            value = decode_protobuf(enveloped_long(body), type_name)
        except (ValueError, OverflowError):
            continue
        json.dumps(value)


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def long_field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def enveloped_long(message: bytes) -> bytes:
    return b"k8s\0" + long_field(1, b"") + long_field(2, message)


@st.composite
def messages(draw: Any, type_name: str, depth: int) -> bytes:
    fields = _numbers()[type_name]
    codes = fields_of(type_name) if type_name in type_table() else {}
    found = b""
    for number in draw(st.lists(st.sampled_from(sorted(fields)), max_size=6)):
        name = fields[number]
        inner = name[1:] if name.startswith("*") else codes.get(name, "").lstrip("[{#")
        if inner in _numbers() and depth < 6 and draw(st.integers(0, 9)):
            found += long_field(number, draw(messages(inner, depth + 1)))
        elif draw(st.booleans()):
            found += varint(number << 3) + varint(draw(st.integers(0, 2**64 - 1)))
        else:
            found += long_field(number, draw(st.binary(max_size=12)))
    return found
