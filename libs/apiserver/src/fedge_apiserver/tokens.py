"""Tokens of service accounts: JSON Web Tokens signed with the server's own key.

https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
https://datatracker.ietf.org/doc/html/rfc7519
"""

import base64
import binascii
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from fedge_apiserver.security import write_private
from fedge_objects import JsonObject

LEAST_SECONDS: Final = 600
MOST_SECONDS: Final = 2**32
_HALF_BYTES: Final = 32
_PARTS: Final = 3
_CLAIMS: Final = "kubernetes.io"


class TokenError(Exception):
    """A token is not valid; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """Whom a token is for.

    Attributes:
        namespace: of the account.
        name: of the account.
        uid: of the account.
        bound: kind, name and uid of the object with which the token ends, if there is one.
    """

    namespace: str
    name: str
    uid: str
    bound: tuple[str, str, str] | None = None


class TokenKey:
    """Signs and checks tokens (ES256)."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, issuer: str) -> None:
        self._key = key
        self.issuer = issuer
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = _encoded(hashlib.sha256(public).digest())

    @classmethod
    def load(cls, file: Path, issuer: str) -> "TokenKey":
        """Return the key of a file, which is made if it is not there."""
        if not file.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            pem = made.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write_private(file, pem)
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{file} is no key of an elliptic curve: remove it to have one made")
        return cls(key, issuer)

    def issue(
        self, bearer: Bearer, *, audiences: Sequence[str], now: int, seconds: int
    ) -> tuple[str, int]:
        """Return a token and when it runs out, in seconds since the epoch.

        Args:
            bearer: whom it is for.
            audiences: who is to take it; none: this server.
            now: the time, in seconds since the epoch.
            seconds: how long it is valid; held between ten minutes and 2^32.
        """
        expires = now + max(LEAST_SECONDS, min(MOST_SECONDS, seconds))
        private: JsonObject = {
            "namespace": bearer.namespace,
            "serviceaccount": {"name": bearer.name, "uid": bearer.uid},
        }
        if bearer.bound is not None:
            kind, name, uid = bearer.bound
            private[kind.lower()] = {"name": name, "uid": uid}
        claims: JsonObject = {
            "aud": list(audiences) or [self.issuer],
            "exp": expires,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            _CLAIMS: private,
            "nbf": now,
            "sub": f"system:serviceaccount:{bearer.namespace}:{bearer.name}",
        }
        head = {"alg": "ES256", "kid": self._key_id}
        signed = f"{_encoded(_json(head))}.{_encoded(_json(claims))}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_HALF_BYTES, "big") + s.to_bytes(_HALF_BYTES, "big")
        return f"{signed}.{_encoded(signature)}", expires

    def check(self, token: str, *, audiences: Sequence[str], now: int) -> JsonObject:
        """Return the claims of a token that is valid now, for one of ``audiences``.

        Raises:
            TokenError: it is not.
        """
        parts = token.split(".")
        if len(parts) != _PARTS:
            raise TokenError("it is no JSON Web Token")
        try:
            head, claims = (json.loads(_decoded(each)) for each in parts[:2])
            signature = _decoded(parts[2])
        except (ValueError, binascii.Error) as exc:
            raise TokenError("it cannot be decoded") from exc
        if head.get("alg") != "ES256" or head.get("kid") != self._key_id:
            raise TokenError("it was signed by somebody else")
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        try:
            self._key.public_key().verify(
                encode_dss_signature(r, s),
                f"{parts[0]}.{parts[1]}".encode(),
                ec.ECDSA(hashes.SHA256()),
            )
        except InvalidSignature as exc:
            raise TokenError("its signature is wrong") from exc
        if claims["iss"] != self.issuer:
            raise TokenError(f"it was issued by {claims['iss']}")
        if not claims["nbf"] <= now < claims["exp"]:
            raise TokenError("it has expired, or is not valid yet")
        if not set(claims["aud"]) & set(audiences or [self.issuer]):
            raise TokenError(f"it is for {', '.join(claims['aud'])}")
        return dict(claims)

    def key_set(self) -> JsonObject:
        """Return the public key as a JSON Web Key Set.

        https://datatracker.ietf.org/doc/html/rfc7517
        """
        numbers = self._key.public_key().public_numbers()
        key = {
            "use": "sig",
            "kty": "EC",
            "kid": self._key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": _encoded(numbers.x.to_bytes(_HALF_BYTES, "big")),
            "y": _encoded(numbers.y.to_bytes(_HALF_BYTES, "big")),
        }
        return {"keys": [key]}


def private_claims(claims: Mapping[str, Any]) -> JsonObject:
    """Return what a token says of its account and of what it is bound to."""
    return dict(claims.get(_CLAIMS) or {})


def _json(value: JsonObject) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
