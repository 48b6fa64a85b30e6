"""Accounts of devices: what their Secrets say, hashed, for the nodes that the devices name.

A Device names a Secret of its namespace by annotation. The password goes no further than here.
"""

import base64
import binascii
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from fedge_device.findings import Finding
from fedge_device.kinds.resources import DEVICES
from fedge_devices import (
    DEVICE_CREDENTIALS,
    SECRET_ANNOTATION,
    SECRET_KEY,
    SECRET_TYPE,
    credential_for,
    write_credential,
)
from fedge_dispatch import Made
from fedge_kube import SECRETS
from fedge_objects import JsonObject, NodeName, ObjectKey, Version

ACCOUNT: Final = "Account"
"""The condition of a Device that names a Secret."""


@dataclass(frozen=True, slots=True)
class _Named:
    node: NodeName | None
    secret: ObjectKey | None
    revision: int


@dataclass(frozen=True, slots=True)
class _Secret:
    uid: str
    password: bytes = field(repr=False)
    revision: int


class Credentials:
    """Makes a node's object of each Device and the Secret that it names."""

    resource = DEVICE_CREDENTIALS
    leading = DEVICES.name
    source = SECRETS
    field_selector = f"type={SECRET_TYPE}"

    def __init__(self, changed: Callable[[ObjectKey], object] = lambda _: None) -> None:
        """Prepare.

        Args:
            changed: is told of each device whose finding may be another by now.
        """
        self._changed = changed
        self._devices: dict[ObjectKey, _Named] = {}
        self._secrets: dict[ObjectKey, _Secret] = {}
        self._naming: defaultdict[ObjectKey, set[ObjectKey]] = defaultdict(set)

    def saw(self, key: ObjectKey, obj: JsonObject | None, revision: int) -> Iterable[Made]:
        """Take a Device or a Secret; return what the nodes should have of it by now."""
        if key.resource == DEVICES.name:
            return self._saw_device(key, obj, revision)
        return self._saw_secret(key, obj, revision)

    def finding(self, key: ObjectKey) -> Finding | None:
        """Return whether a device has the account that it names; None if it names none."""
        named = self._devices.get(key)
        if named is None or named.secret is None:
            return None
        name = named.secret.name
        if named.node is None:
            return Finding(ACCOUNT, None, "NoNode", "the device names no node to log in at")
        secret = self._secrets.get(named.secret)
        if secret is None:
            return Finding(
                ACCOUNT,
                False,
                "SecretNotFound",
                f"namespace {key.namespace!r} has no Secret {name!r} of type {SECRET_TYPE}:"
                f" create one, or remove the annotation {SECRET_ANNOTATION}",
            )
        if not secret.password:
            text = f"Secret {name!r} has no {SECRET_KEY!r}, or an empty one: put one into its data"
            return Finding(ACCOUNT, False, "NoPassword", text)
        return Finding(ACCOUNT, True, "FromSecret")

    def _saw_device(self, key: ObjectKey, obj: JsonObject | None, revision: int) -> list[Made]:
        before = self._devices.get(key)
        if before is not None and revision < before.revision:
            return []
        if before is not None and before.secret is not None:
            self._naming[before.secret].discard(key)
            if not self._naming[before.secret]:
                del self._naming[before.secret]
        if obj is None:
            self._devices.pop(key, None)
            return [_made(key, None, None, Version(revision, 0))]
        named = _Named(_node(obj), _secret_of(key, obj), revision)
        self._devices[key] = named
        if named.secret is not None:
            self._naming[named.secret].add(key)
        return [self._make(key, named)]

    def _saw_secret(self, key: ObjectKey, obj: JsonObject | None, revision: int) -> list[Made]:
        before = self._secrets.get(key)
        if before is not None and revision < before.revision:
            return []
        if obj is None:
            self._secrets.pop(key, None)
        else:
            uid = str(_dict(obj.get("metadata")).get("uid") or "")
            self._secrets[key] = _Secret(uid, _password(obj), revision)
        naming = sorted(self._naming.get(key, ()))
        for device in naming:
            self._changed(device)
        return [self._make(device, self._devices[device], revision) for device in naming]

    def _make(self, key: ObjectKey, named: _Named, revision: int = 0) -> Made:
        secret = None if named.secret is None else self._secrets.get(named.secret)
        if secret is None or not secret.password:
            return _made(key, None, None, Version(named.revision, revision))
        account = credential_for(key.namespace, key.name, secret.password, secret.uid)
        version = Version(named.revision, secret.revision)
        return _made(key, named.node, write_credential(account), version)


def _made(
    device: ObjectKey, node: NodeName | None, obj: JsonObject | None, version: Version
) -> Made:
    key = ObjectKey(DEVICE_CREDENTIALS, device.namespace, device.name)
    return Made(key=key, node=node, object=obj, version=version)


def _node(obj: JsonObject) -> NodeName | None:
    node = _dict(obj.get("spec")).get("nodeName")
    return NodeName(str(node)) if node else None


def _secret_of(key: ObjectKey, obj: JsonObject) -> ObjectKey | None:
    annotations = _dict(_dict(obj.get("metadata")).get("annotations"))
    name = str(annotations.get(SECRET_ANNOTATION) or "")
    return ObjectKey(SECRETS.name, key.namespace, name) if name else None


def _password(obj: JsonObject) -> bytes:
    text = _dict(obj.get("data")).get(SECRET_KEY)
    try:
        return base64.b64decode(text) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return b""


def _dict(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}
