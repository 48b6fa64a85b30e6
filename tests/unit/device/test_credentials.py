"""Accounts of devices: each device's node is given exactly the account that its Secret says."""

import base64
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_device.credentials import Credentials
from fedge_device.kinds.resources import DEVICES
from fedge_devices import (
    DEVICE_CREDENTIALS,
    SECRET_ANNOTATION,
    SECRET_KEY,
    SECRET_TYPE,
    read_credential,
)
from fedge_dispatch import Complete, Decision, Placement
from fedge_kube import SECRETS
from fedge_objects import JsonObject, NodeName, ObjectKey, Version

DEVICE = ObjectKey(DEVICES.name, "plant", "pump")
SECRET = ObjectKey(SECRETS.name, "plant", "pump-login")
PASSWORD = "open sesame"
ACCOUNT = ObjectKey(DEVICE_CREDENTIALS, "plant", "pump")


def device(node: str | None = "gw-1", secret: str = SECRET.name) -> JsonObject:
    return {
        "metadata": {
            "namespace": "plant",
            "name": "pump",
            "annotations": {SECRET_ANNOTATION: secret} if secret else {},
        },
        "spec": {"nodeName": node} if node else {},
    }


def secret(password: str | None = PASSWORD, uid: str = "uid-1") -> JsonObject:
    data = {} if password is None else {SECRET_KEY: base64.b64encode(password.encode()).decode()}
    return {
        "metadata": {"namespace": "plant", "name": SECRET.name, "uid": uid},
        "type": SECRET_TYPE,
        "data": data,
    }


@dataclass
class World:
    """Credentials as device has them, and what each node holds of it."""

    credentials: Credentials = field(default_factory=Credentials)
    placement: Placement = field(
        default_factory=lambda: Placement(
            (DEVICES.name,), (), {DEVICE_CREDENTIALS: (DEVICES.name, SECRETS.name)}
        )
    )
    held: dict[tuple[NodeName, ObjectKey], tuple[Version, JsonObject | None]] = field(
        default_factory=dict
    )

    def saw(self, key: ObjectKey, obj: JsonObject | None, revision: int) -> list[Decision]:
        decisions = []
        for made in self.credentials.saw(key, obj, revision):
            decisions += self.placement.put_made(made)
        for each in decisions:
            self.take(each)
        self.placement.see(key.resource, revision)
        return decisions

    def take(self, told: Decision) -> None:
        where, change = (told.node, told.change.key), told.change
        if where not in self.held or self.held[where][0] < change.version:
            self.held[where] = (change.version, change.object)

    def complete(self, told: Complete) -> None:
        for where, (version, _) in list(self.held.items()):
            is_meant = where[0] == told.node and where[1].resource == told.resource
            if (
                is_meant
                and where[1] not in told.keys
                and version.decided <= told.version.decided
                and version.revision <= told.version.revision
            ):
                self.held[where] = (told.version, None)

    def has(self, node: str = "gw-1") -> JsonObject | None:
        return self.held.get((NodeName(node), ACCOUNT), (None, None))[1]


@pytest.mark.parametrize("first", ["device", "secret"])
def test_a_node_is_given_the_hash_and_not_the_password(first: str) -> None:
    world = World()
    steps = [(DEVICE, device()), (SECRET, secret())]
    for revision, (key, obj) in enumerate(steps if first == "device" else steps[::-1], 1):
        world.saw(key, obj, revision)
    given_to_node = world.has()
    assert given_to_node is not None
    assert read_credential(ACCOUNT, given_to_node).user == "plant/pump"
    assert "open sesame" not in str(given_to_node)
    assert base64.b64encode(b"open sesame").decode() not in str(given_to_node)
    finding = world.credentials.finding(DEVICE)
    assert finding is not None
    assert finding.holds


def test_another_password_is_another_account_and_the_same_is_told_once() -> None:
    world = World()
    world.saw(DEVICE, device(), 1)
    world.saw(SECRET, secret(), 2)
    before = world.has()
    assert world.saw(SECRET, secret(), 3) == []
    world.saw(SECRET, secret("another"), 4)
    assert world.has() not in (before, None)


@pytest.mark.parametrize(
    ("key", "obj"),
    [
        (DEVICE, None),
        (DEVICE, device(secret="")),
        (DEVICE, device(secret="of-another-name")),
        (DEVICE, device(node=None)),
        (SECRET, None),
        (SECRET, secret(None)),
        (SECRET, secret("")),
    ],
)
def test_an_account_goes_with_its_device_its_secret_or_the_word_between_them(
    key: ObjectKey, obj: JsonObject | None
) -> None:
    world = World()
    world.saw(DEVICE, device(), 1)
    world.saw(SECRET, secret(), 2)
    world.saw(key, obj, 3)
    assert world.has() is None


def test_an_account_moves_with_its_device() -> None:
    world = World()
    world.saw(SECRET, secret(), 1)
    world.saw(DEVICE, device("gw-1"), 2)
    world.saw(DEVICE, device("gw-2"), 3)
    assert world.has("gw-1") is None
    assert world.has("gw-2") is not None


def test_an_old_word_changes_nothing() -> None:
    world = World()
    world.saw(DEVICE, device(), 5)
    world.saw(SECRET, secret("new"), 6)
    assert world.saw(SECRET, secret("old"), 4) == []
    assert world.saw(DEVICE, device("gw-2"), 3) == []


@pytest.mark.parametrize(
    ("obj", "reason"),
    [(None, "SecretNotFound"), (secret(None), "NoPassword"), (secret("x"), "FromSecret")],
)
def test_the_condition_says_what_is_missing_and_never_the_password(
    obj: JsonObject | None, reason: str
) -> None:
    told: list[ObjectKey] = []
    credentials = Credentials(told.append)
    credentials.saw(DEVICE, device(), 1)
    credentials.saw(SECRET, obj, 2)
    finding = credentials.finding(DEVICE)
    assert finding is not None
    assert finding.reason == reason
    assert told == [DEVICE]


def test_a_device_without_the_annotation_has_no_condition() -> None:
    credentials = Credentials()
    credentials.saw(DEVICE, device(secret=""), 1)
    assert credentials.finding(DEVICE) is None


_NODES = st.sampled_from([None, "gw-1", "gw-2"])
_STEPS = st.one_of(
    st.tuples(st.just("device"), _NODES, st.booleans()),
    st.tuples(st.just("no device"), st.none(), st.none()),
    st.tuples(st.just("secret"), st.sampled_from(["a", "b", ""]), st.none()),
    st.tuples(st.just("no secret"), st.none(), st.none()),
    st.tuples(st.just("restart"), st.none(), st.none()),
)


@given(st.lists(_STEPS, max_size=20))
def test_whatever_happens_each_node_ends_with_what_the_api_says(
    steps: list[tuple[str, str | None, bool | None]],
) -> None:
    world = World()
    api: dict[ObjectKey, tuple[JsonObject, int]] = {}
    for revision, (what, value, flag) in enumerate(steps, 1):
        match what:
            case "device":
                obj = device(value, SECRET.name if flag else "")
                api[DEVICE] = (obj, revision)
                world.saw(DEVICE, obj, revision)
            case "secret":
                api[SECRET] = (secret(value), revision)
                world.saw(SECRET, secret(value), revision)
            case "restart":
                held = world.held
                world = World(held=held)
                for key, (obj, since) in api.items():
                    world.saw(key, obj, since)
                world.placement.mark_listed(DEVICES.name, revision)
                world.placement.mark_listed(SECRETS.name, revision)
                for node in ("gw-1", "gw-2"):
                    for told in world.placement.everything(NodeName(node)):
                        if isinstance(told, Complete):
                            world.complete(told)
                        else:
                            world.take(told)
            case _:
                key = DEVICE if what == "no device" else SECRET
                if api.pop(key, None) is not None:
                    world.saw(key, None, revision)
    has_account = {
        node
        for node in ("gw-1", "gw-2")
        if DEVICE in api
        and SECRET in api
        and api[DEVICE][0]["spec"].get("nodeName") == node
        and api[DEVICE][0]["metadata"]["annotations"]
        and api[SECRET][0]["data"][SECRET_KEY]
    }
    assert {node for node in ("gw-1", "gw-2") if world.has(node)} == has_account
