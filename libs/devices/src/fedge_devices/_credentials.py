"""What a device logs in with at its node's broker: an account of its own.

The password stays in its Secret. What travels is the hash that RabbitMQ keeps
(https://www.rabbitmq.com/docs/passwords): four bytes of salt and the SHA-256 of salt and password.
The same Secret gives a device the same hash, and each device another.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from fedge_objects import JsonObject, ObjectKey

DEVICE_CREDENTIALS: Final = "devicecredentials"
"""A resource of fedge's own, of which the API has nothing: one object per device, of its name."""
CREDENTIAL_KIND: Final = "DeviceCredential"
CREDENTIAL_VERSION: Final = "devices.fedge.io/v1"
SECRET_ANNOTATION: Final = "devices.fedge.io/mqtt-secret"  # noqa: S105 - no secret, a name
"""Of a Device: the Secret in its namespace that has its password."""
SECRET_TYPE: Final = "devices.fedge.io/mqtt"  # noqa: S105 - no secret, a name
SECRET_KEY: Final = "password"  # noqa: S105 - no secret, a name
HASHING: Final = "rabbit_password_hashing_sha256"
_SALT_BYTES: Final = 4
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NAME: Final = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A device's account.

    Attributes:
        namespace, name: of the Device.
        password_hash: base64 of salt and hash.
    """

    namespace: str
    name: str
    password_hash: str

    @property
    def user(self) -> str:
        """The user name: ``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    def __repr__(self) -> str:
        """Return the user name only."""
        return f"Credential({self.user!r})"


def credential_for(namespace: str, name: str, password: bytes, secret_uid: str) -> Credential:
    """Return the account of a device with a password.

    Args:
        namespace: of the Device.
        name: of the Device.
        password: as the device sends it.
        secret_uid: of the Secret that has it.
    """
    about = f"mqtt-salt\0{secret_uid}\0{namespace}/{name}".encode()
    salt = hmac.digest(password, about, "sha256")[:_SALT_BYTES]
    digest = hashlib.sha256(salt + password).digest()
    text = base64.b64encode(salt + digest).decode()
    return Credential(namespace=namespace, name=name, password_hash=text)


def write_credential(credential: Credential) -> JsonObject:
    """Return the object that a node is given."""
    return {
        "apiVersion": CREDENTIAL_VERSION,
        "kind": CREDENTIAL_KIND,
        "metadata": {"namespace": credential.namespace, "name": credential.name},
        "spec": {
            "user": credential.user,
            "passwordHash": credential.password_hash,
            "hashingAlgorithm": HASHING,
        },
    }


def read_credential(key: ObjectKey, obj: JsonObject) -> Credential:
    """Return the account that an object says; whose it is says its key alone.

    Raises:
        ValueError: it is none that a broker could be given. The text has no part of the hash.
    """
    if not _NAMESPACE.fullmatch(key.namespace) or not is_name(key.name):
        raise ValueError(f"{str(key)[:300]!r} is no name of a device")
    spec = obj.get("spec")
    if not isinstance(spec, dict) or spec.get("hashingAlgorithm") != HASHING:
        raise ValueError(f"the account of {key} is not hashed by {HASHING}")
    text = spec.get("passwordHash")
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != _SALT_BYTES + hashlib.sha256().digest_size:
        raise ValueError(f"the account of {key} has no salted hash of 36 bytes in base64")
    return Credential(
        namespace=key.namespace, name=key.name, password_hash=base64.b64encode(raw).decode()
    )


def is_name(name: str) -> bool:
    """Whether a Device, or a Secret, can be called so (RFC 1123's subdomain)."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None
