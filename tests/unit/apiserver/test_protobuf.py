"""Protobuf bodies of typed clients."""

import pytest

from fedge_apiserver.protobuf import UnknownTypeError, decode_protobuf


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
