"""Sealing: only the right key opens it, only as what it was sealed as, and only unchanged."""

import asyncio
import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_objects import Change, JsonObject, ObjectKey, Version
from fedge_sealing import (
    NodeSeal,
    SealError,
    SealingKey,
    is_sealed,
    key_id,
    make_private,
    seal,
    seal_change,
)

KEY = SealingKey(bytes(range(32)))
OTHER = SealingKey(bytes(range(1, 33)))
SECRET = ObjectKey("secrets", "d", "login")


def change(obj: JsonObject | None, key: ObjectKey = SECRET) -> Change:
    return Change(key=key, version=Version(3, 2), object=obj, traceparent="00-trace")


@given(st.binary(max_size=2000), st.text(max_size=40))
def test_what_is_sealed_is_unsealed_by_its_key_alone(content: bytes, subject: str) -> None:
    sealed = seal(content, KEY.public, subject)
    assert is_sealed(sealed)
    assert KEY.unseal(sealed, subject) == content
    with pytest.raises(SealError, match="is sealed to key"):
        OTHER.unseal(sealed, subject)
    with pytest.raises(SealError, match="was changed"):
        KEY.unseal(sealed, subject + "?")


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change_by: int) -> None:
    sealed = seal(b"content", KEY.public, "subject")
    raw = bytearray(base64.b64decode(sealed["sealed"]["text"]))
    raw[place % len(raw)] ^= change_by
    sealed["sealed"]["text"] = base64.b64encode(raw).decode()
    with pytest.raises(SealError, match="was changed"):
        KEY.unseal(sealed, "subject")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values | st.fixed_dictionaries({"sealed": json_values}))
def test_what_is_nothing_sealed_is_refused_by_name(value: object) -> None:
    with pytest.raises(SealError):
        KEY.unseal(value, "subject")


def test_the_same_is_never_sealed_the_same() -> None:
    texts = {json.dumps(seal(b"content", KEY.public, "subject")) for _ in range(10)}
    assert len(texts) == 10


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "identity" / "sealing.key"
    made = SealingKey.load_or_make(path)
    assert SealingKey.load_or_make(path).public == made.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["sealing.key"]


async def test_many_at_once_make_one_key(tmp_path: Path) -> None:
    path = tmp_path / "sealing.key"
    made = await asyncio.gather(
        *(asyncio.to_thread(SealingKey.load_or_make, path) for _ in range(16))
    )
    assert len({each.public for each in made}) == 1


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, b"A" * 100])
def test_a_file_without_a_key_says_so_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sealing.key"
    path.write_bytes(content)
    with pytest.raises(SealError, match=r"sealing\.key holds no sealing key: 32 bytes in base64"):
        SealingKey.load_or_make(path)
    assert path.read_bytes() == content


def test_a_public_key_that_is_none_is_refused() -> None:
    with pytest.raises(SealError, match="the key is none"):
        seal(b"", b"short", "subject")


class TestNode:
    """A node's own key."""

    def test_an_edge_without_a_cloud_makes_its_own(self, tmp_path: Path) -> None:
        node = NodeSeal(tmp_path / "sealing.key", joined=tmp_path / "joined.json")
        assert node.unsealed(node.sealed(change({"data": {}}))) == change({"data": {}})

    def test_a_joined_node_without_its_key_makes_no_other(self, tmp_path: Path) -> None:
        (tmp_path / "joined.json").touch()
        node = NodeSeal(tmp_path / "sealing.key", joined=tmp_path / "joined.json")
        with pytest.raises(SealError, match=r"put it back, or move .* away and join again"):
            node.sealed(change({}))
        assert not (tmp_path / "sealing.key").exists()
        path = tmp_path / "sealing.key"
        SealingKey.load_or_make(path)
        assert is_sealed(node.sealed(change({})).object)  # it was handed in

    def test_what_is_not_confidential_and_what_is_gone_stay_as_they_are(
        self, tmp_path: Path
    ) -> None:
        node = NodeSeal(tmp_path / "sealing.key", joined=tmp_path / "joined.json")
        for each in (change(None), change({"a": 1}, ObjectKey("configmaps", "d", "m"))):
            assert node.sealed(each) is each
            assert node.unsealed(each) is each
        assert not (tmp_path / "sealing.key").exists()

    def test_a_sealed_object_is_only_that_object(self, tmp_path: Path) -> None:
        node = NodeSeal(tmp_path / "sealing.key", joined=tmp_path / "joined.json")
        sealed = seal_change(change({"data": {"a": "b"}}), node.key.public)
        elsewhere = change(sealed.object, ObjectKey("secrets", "d", "another"))
        with pytest.raises(SealError, match="secrets/d/another was changed"):
            node.unsealed(elsewhere)

    def test_what_is_no_object_inside_is_refused(self, tmp_path: Path) -> None:
        node = NodeSeal(tmp_path / "sealing.key", joined=tmp_path / "joined.json")
        for content in (b"[]", b"{", b"\xff"):
            sealed = seal(content, node.key.public, str(SECRET))
            with pytest.raises(SealError, match="holds no object"):
                node.unsealed(change(sealed))

    def test_a_key_has_a_name(self) -> None:
        assert KEY.id == key_id(KEY.public) != OTHER.id


def test_a_private_file_is_made_or_closed(tmp_path: Path) -> None:
    path, beside = tmp_path / "a.db", tmp_path / "a.db-wal"
    make_private(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for each in (path, beside):
        each.write_text("kept")
        each.chmod(0o664)
    make_private(path)
    assert {stat.S_IMODE(each.stat().st_mode) for each in (path, beside)} == {0o600}
    assert path.read_text() == beside.read_text() == "kept"
