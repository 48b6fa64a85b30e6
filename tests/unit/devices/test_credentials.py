"""Accounts as they travel: never the password, always the same for the same."""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_devices import (
    DEVICE_CREDENTIALS,
    credential_for,
    read_credential,
    write_credential,
)
from fedge_objects import ObjectKey

KEY = ObjectKey(DEVICE_CREDENTIALS, "plant", "pump.1")


@given(password=st.binary(min_size=1), uid=st.text())
def test_the_hash_is_rabbitmqs_and_comes_back_from_the_object(password: bytes, uid: str) -> None:
    made = credential_for("plant", "pump.1", password, uid)
    raw = base64.b64decode(made.password_hash)
    assert raw[4:] == hashlib.sha256(raw[:4] + password).digest()
    assert read_credential(KEY, json.loads(json.dumps(write_credential(made)))) == made


def test_the_same_secret_gives_the_same_and_each_device_another_salt() -> None:
    salts = {
        base64.b64decode(credential_for(namespace, name, password, uid).password_hash)[:4]
        for namespace, name in (("plant", "a"), ("plant", "b"), ("other", "a"))
        for password in (b"x", b"y")
        for uid in ("u-1", "u-2")
    }
    assert len(salts) == 12
    assert credential_for("plant", "a", b"x", "u") == credential_for("plant", "a", b"x", "u")


def test_neither_the_password_nor_its_hash_is_printed() -> None:
    made = credential_for("plant", "a", b"correct horse", "u")
    assert "correct horse" not in json.dumps(write_credential(made))
    assert made.password_hash not in f"{made!r} {made}"


def test_whose_account_it_is_says_the_key_and_not_the_content() -> None:
    obj = write_credential(credential_for("kube-system", "admin", b"x", "u"))
    assert read_credential(KEY, obj).user == "plant/pump.1"


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("plant", 'a">>).'), ("plant", "a b"), ("plant", "."), ("plant", ""), ("", "a"), ("a.b", "a")],
)
def test_what_no_device_is_called_is_refused(namespace: str, name: str) -> None:
    obj = write_credential(credential_for("plant", "a", b"x", "u"))
    with pytest.raises(ValueError, match="no name of a device"):
        read_credential(ObjectKey(DEVICE_CREDENTIALS, namespace, name), obj)


@pytest.mark.parametrize("text", ["", "AAAA", "}>>, halt().", "=" * 48, "ä" * 48, 7, None])
def test_what_is_no_hash_is_refused(text: object) -> None:
    obj = write_credential(credential_for("plant", "a", b"x", "u"))
    obj["spec"]["passwordHash"] = text
    with pytest.raises(ValueError, match="salted hash"):
        read_credential(KEY, obj)
