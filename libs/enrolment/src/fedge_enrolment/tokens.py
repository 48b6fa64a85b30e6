"""Join tokens: what a gateway is handed so that it can join.

A token says where the cloud is, by which fingerprint its authority is known, and a secret that is
good for a while. So nobody is ever asked to trust whoever answers. What is wrong with a token that
was copied by hand is told before anything is dialled.
"""

import base64
import binascii
import hashlib
import json
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Any, Final, Self

PREFIX: Final = "fedge1_"
FINGERPRINT_BYTES: Final = 32
_ID_BYTES: Final = 5
_SECRET_BYTES: Final = 16
_CHECK_BYTES: Final = 4
_ID: Final = re.compile("[a-z2-7]{8}")
MAX_LENGTH: Final = 2048


class TokenError(ValueError):
    """The text is no token; it says what is wrong with it and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A token.

    Attributes:
        cloud: hub's enrolment port, as ``host:port``.
        fingerprint: SHA-256 of the authority's certificate (DER).
        id: names it in the cloud's records.
        secret: proves it.
        expires: seconds since the epoch.
        node: the only node that may use it; empty: any.
    """

    cloud: str
    fingerprint: bytes
    id: str
    secret: str = field(repr=False)
    expires: int
    node: str = ""

    def encode(self) -> str:
        """Return the text that is handed out."""
        content = json.dumps(
            {
                "c": self.cloud,
                "f": base64.b64encode(self.fingerprint).decode(),
                "i": self.id,
                "s": self.secret,
                "e": self.expires,
                **({"n": self.node} if self.node else {}),
            },
            separators=(",", ":"),
        ).encode()
        check = zlib.crc32(content).to_bytes(_CHECK_BYTES, "big")
        return PREFIX + base64.urlsafe_b64encode(content + check).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a token.

        Raises:
            TokenError: it is none, or not the whole of it.
        """
        text = text.strip()
        if not text.startswith(PREFIX):
            raise TokenError(
                f"a join token begins with {PREFIX!r}, this is something else: make one with "
                "`fedge token create`"
            )
        body = text.removeprefix(PREFIX)
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            content, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
            if len(text) > MAX_LENGTH or zlib.crc32(content).to_bytes(_CHECK_BYTES, "big") != check:
                raise ValueError("the check does not fit")  # noqa: TRY301 - told below with the rest
            return cls._parse(json.loads(content))
        except (ValueError, KeyError, TypeError, binascii.Error) as exc:
            raise TokenError(
                "the join token is damaged (a part is missing or was changed): copy all of it, or "
                "make another with `fedge token create`"
            ) from exc

    @classmethod
    def _parse(cls, content: dict[str, Any]) -> Self:
        fingerprint = base64.b64decode(content["f"], validate=True)
        if len(fingerprint) != FINGERPRINT_BYTES:
            raise ValueError("not a SHA-256")
        return cls(
            cloud=str(content["c"]),
            fingerprint=fingerprint,
            id=str(content["i"]),
            secret=str(content["s"]),
            expires=int(content["e"]),
            node=str(content.get("n", "")),
        )


def new_id() -> str:
    """Return a name for a token: letters and digits that fit a Kubernetes name."""
    return base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower().rstrip("=")


def is_id(text: str) -> bool:
    """Whether ``text`` can be the name of a token: it ends up in names of files and objects."""
    return _ID.fullmatch(text) is not None


def new_secret() -> str:
    """Return a secret of 128 bits."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def digest_of(secret: str) -> str:
    """Return what is kept of a secret: it has 128 bits, so a plain hash does not reveal it."""
    return hashlib.sha256(secret.encode()).hexdigest()
