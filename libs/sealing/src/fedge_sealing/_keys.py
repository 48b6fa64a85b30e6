"""Sealing to a key, and unsealing by it.

Hybrid public key encryption, RFC 9180, in base mode: X25519, HKDF-SHA256, AES-256-GCM. What it is
that was sealed is part of it, so that one sealed text cannot be taken for another.
"""

import base64
import binascii
import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from fedge_sealing._private import write_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.hpke import Suite

KEY_BYTES: Final = 32
_ID_CHARACTERS: Final = 16
_VERSION: Final = 1


class SealError(ValueError):
    """Something cannot be sealed or unsealed; the message says what and why, never its content."""


class SealingKey:
    """The private half. `cryptography` is loaded when it is first needed: it takes 8 MB."""

    def __init__(self, private: bytes) -> None:
        """Take the key.

        Raises:
            SealError: it is none.
        """
        if len(private) != KEY_BYTES:
            raise SealError(f"a sealing key has {KEY_BYTES} bytes, this one {len(private)}")
        self._private = private

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the key of a file: base64, on one line.

        Raises:
            SealError: it is not there, or holds no key.
        """
        try:
            return cls(base64.b64decode(path.read_bytes().strip(), validate=True))
        except OSError as exc:
            raise SealError(f"the sealing key {path} cannot be read: {exc.strerror}") from exc
        except (binascii.Error, SealError) as exc:
            raise SealError(f"{path} holds no sealing key: 32 bytes in base64") from exc

    @classmethod
    def load_or_make(cls, path: Path) -> Self:
        """Return the key of a file, which is made if it is not there. Raises like `load`."""
        if not path.exists():
            from cryptography.hazmat.primitives.asymmetric import x25519  # noqa: PLC0415

            new = x25519.X25519PrivateKey.generate().private_bytes_raw()
            try:
                write_private(path, base64.b64encode(new) + b"\n", may_replace=False)
            except FileExistsError:
                return cls.load(path)  # somebody else was first
            except OSError as exc:
                raise SealError(f"the sealing key {path} cannot be made: {exc}") from exc
        return cls.load(path)

    @cached_property
    def public(self) -> bytes:
        """The public half: 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    @cached_property
    def id(self) -> str:
        """The key's name."""
        return key_id(self.public)

    def unseal(self, sealed: object, subject: str) -> bytes:
        """Return what was sealed.

        Args:
            sealed: what `seal` returned.
            subject: what it was said to be then.

        Raises:
            SealError: it was sealed to another key, for another subject, or is damaged.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        parts = _parts(sealed)
        if (found := parts.get("key")) != self.id:
            raise SealError(f"{subject} is sealed to key {str(found)[:40]!r}, this is {self.id!r}")
        if parts.get("v") != _VERSION:
            raise SealError(f"{subject} is sealed in a way that this fedge does not know: update")
        try:
            text = base64.b64decode(str(parts.get("text")), validate=True)
            return bytes(_suite().decrypt(text, self._key, info=_info(subject)))
        except (binascii.Error, InvalidTag, ValueError) as exc:
            raise SealError(f"{subject} was changed since it was sealed") from exc

    @cached_property
    def _key(self) -> "X25519PrivateKey":
        from cryptography.hazmat.primitives.asymmetric import x25519  # noqa: PLC0415

        return x25519.X25519PrivateKey.from_private_bytes(self._private)


def seal(content: bytes, public: bytes, subject: str) -> dict[str, Any]:
    """Return what only the owner of a key can read.

    Args:
        content: to be sealed.
        public: half of the key, 32 bytes.
        subject: what it is.

    Returns:
        ``{"sealed": {"v": 1, "key": ID, "text": BASE64}}``

    Raises:
        SealError: there is no such key.
    """
    from cryptography.hazmat.primitives.asymmetric import x25519  # noqa: PLC0415

    try:
        key = x25519.X25519PublicKey.from_public_bytes(public)
        text = _suite().encrypt(content, key, info=_info(subject))
    except ValueError as exc:
        raise SealError(f"{subject} cannot be sealed: the key is none") from exc
    inner = {"v": _VERSION, "key": key_id(public), "text": base64.b64encode(text).decode()}
    return {"sealed": inner}


def key_id(public: bytes) -> str:
    """Return the name of a key."""
    return hashlib.sha256(public).hexdigest()[:_ID_CHARACTERS]


def is_sealed(value: object) -> bool:
    """Whether something is what `seal` returns, with or without metadata."""
    return isinstance(value, dict) and "sealed" in value and value.keys() <= {"metadata", "sealed"}


def key_of(sealed: object) -> str:
    """Return the name of the key to which something is sealed; raises `SealError`."""
    return str(_parts(sealed).get("key"))


def _parts(sealed: object) -> dict[str, Any]:
    parts = sealed.get("sealed") if isinstance(sealed, dict) else None
    if not isinstance(parts, dict):
        raise SealError("this is nothing sealed")
    return parts


def _suite() -> "Suite":
    from cryptography.hazmat.primitives import hpke  # noqa: PLC0415

    return hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def _info(subject: str) -> bytes:
    return b"fedge sealed v1\0" + subject.encode()
