"""Addresses and envelopes: read as written, and anything else refused with a reason."""

import contextlib
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_fabric import (
    Address,
    Envelope,
    MalformedError,
    MessageClass,
    change_of,
    decode_word,
    encode_word,
    envelope_of,
    kinds,
)
from fedge_fabric.envelope import COMPRESS_ABOVE_BYTES, MAX_BODY_BYTES
from fedge_objects import Change, NodeName, ObjectKey, Version

REVISIONS = st.integers(0, 10**18 - 1)
VERSIONS = st.builds(Version, REVISIONS, REVISIONS)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text(min_size=1).filter(lambda text: text != "-"))
def test_word_is_decoded_as_it_was_encoded_and_holds_nothing_that_patterns_use(text: str) -> None:
    word = encode_word(text)
    assert decode_word(word) == text
    assert not set(word) & set(".*#/+ ")


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_texts_have_different_words(one: str, other: str) -> None:
    assert (encode_word(one) == encode_word(other)) == (one == other)


def test_node_with_dots_is_one_word_of_the_routing_key() -> None:
    key = ObjectKey("devices.devices.kubeedge.io", "plant", "a.b")
    address = Address.of_object(NodeName("gw-1.plant.example"), key)
    assert str(address) == "node.gw-1_plant_example.state.devices_devices_kubeedge_io.plant.a_b"
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("key", ["", "node", "node.a", "node.a.gossip.x", "nodes.a.state"])
def test_routing_key_that_is_no_address_is_refused(key: str) -> None:
    with pytest.raises(MalformedError, match="no address"):
        Address.parse(key)


@given(data=json_values, version=st.none() | VERSIONS)
def test_envelope_is_read_as_it_was_written(data: object, version: Version | None) -> None:
    envelope = Envelope(type="t", source="/node/a/b", subject="s", data=data, version=version)
    body, encoding = envelope.body()
    read = Envelope.read(headers=envelope.headers(), body=body, content_encoding=encoding)
    assert read == envelope


def test_large_body_is_compressed() -> None:
    envelope = Envelope(type="t", source="s", data="x" * (COMPRESS_ABOVE_BYTES + 1))
    body, encoding = envelope.body()
    assert encoding == "zstd"
    assert len(body) < COMPRESS_ABOVE_BYTES
    read = Envelope.read(headers=envelope.headers(), body=body, content_encoding=encoding)
    assert read.data == envelope.data


GOOD = Envelope(type="t", source="s", data=1, version=Version(1, 2)).headers()


@pytest.mark.parametrize(
    ("headers", "body", "encoding", "reason"),
    [
        ({}, b"1", None, "cloudEvents_id is missing"),
        ({**GOOD, "cloudEvents_id": 7}, b"1", None, "cloudEvents_id is missing"),
        ({**GOOD, "cloudEvents_specversion": "0.3"}, b"1", None, "is not 1.0"),
        ({**GOOD, "cloudEvents_time": "yesterday"}, b"1", None, "isoformat"),
        ({**GOOD, "cloudEvents_fedgeversion": "new"}, b"1", None, "no version"),
        (GOOD, b"{", None, "not JSON"),
        (GOOD, b"\xff", None, "not JSON"),
        (GOOD, b"[" * 100_000, None, "not JSON"),
        (GOOD, b"1", "gzip", "'gzip' is unknown"),
        (GOOD, b"1", "zstd", "not zstd"),
        (GOOD, b" " * (MAX_BODY_BYTES + 1), None, "over the limit"),
    ],
)
def test_damaged_message_is_refused_with_its_reason(
    headers: Mapping[str, object], body: bytes, encoding: str | None, reason: str
) -> None:
    with pytest.raises(MalformedError, match=reason):
        Envelope.read(headers=headers, body=body, content_encoding=encoding)


def test_body_that_would_fill_memory_when_decompressed_is_refused() -> None:
    bomb = Envelope(type="t", source="s", data="x" * (MAX_BODY_BYTES + 1))
    body, encoding = bomb.body()
    with pytest.raises(MalformedError, match="over the limit"):
        Envelope.read(headers=bomb.headers(), body=body, content_encoding=encoding)


@given(st.binary(max_size=200), st.sampled_from([None, "zstd"]))
def test_alien_body_is_read_or_refused_and_nothing_else(body: bytes, encoding: str | None) -> None:
    with contextlib.suppress(MalformedError):
        read = Envelope.read(headers=GOOD, body=body, content_encoding=encoding)
        assert read.type == "t"


@pytest.mark.parametrize("obj", [None, {"metadata": {"name": "a"}}])
def test_change_survives_its_message(obj: dict[str, object] | None) -> None:
    change = Change(key=ObjectKey("pods", "d", "a"), version=Version(3, 2), object=obj)
    assert change_of(envelope_of(change, source="s")) == change


def test_put_and_tombstone_of_one_version_have_different_ids() -> None:
    key, version = ObjectKey("pods", "d", "a"), Version(3, 2)
    put = envelope_of(Change(key=key, version=version, object={"metadata": {}}), source="s")
    gone = envelope_of(Change(key=key, version=version, object=None), source="s")
    assert put.id != gone.id
    assert str(MessageClass.STATE) == "state"


@pytest.mark.parametrize(
    ("kind", "subject", "version", "data", "reason"),
    [
        (kinds.OBJECT_GONE, "pods/d/a", None, None, "has no version"),
        (kinds.OBJECT_GONE, "pods", Version(1, 1), None, "no object key"),
        (kinds.OBJECT_GONE, "pods/d/../a", Version(1, 1), None, "no object key"),
        (kinds.OBJECT_GONE, "pods/d/a", Version(1, 1), {"metadata": {}}, "is no change"),
        (kinds.OBJECT_PUT, "pods/d/a", Version(1, 1), None, "has no object"),
        (kinds.OBJECT_PUT, "pods/d/a", Version(1, 1), [], "has no object"),
        (kinds.OBJECT_PUT, "pods/d/a", Version(1, 1), {"metadata": 1}, "has no object"),
        (kinds.OBJECT_PUT, "pods/d/a", Version(1, 1), {"metadata": {"name": "b"}}, "another"),
        (kinds.OBJECT_STORED, "pods/d/a", Version(1, 1), None, "is no change"),
    ],
)
def test_message_that_carries_no_change_is_refused(
    kind: str, subject: str, version: Version | None, data: object, reason: str
) -> None:
    envelope = Envelope(type=kind, source="s", subject=subject, version=version, data=data)
    with pytest.raises(MalformedError, match=reason):
        change_of(envelope)
