"""Whose token it is, told with the cloud away.

A token that the cloud's API issued is checked by the issuer's public keys, which came along with
the node's own tokens; one that the node signed (``fedge_edged.tokens``) by the node's key. Either
is good only while its account, and the pod that it is bound to, are among what the node was given.

https://datatracker.ietf.org/doc/html/rfc7519, https://datatracker.ietf.org/doc/html/rfc7518
"""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from fedge_apiserver.access import User, account_user
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import NODES, PODS, SECRETS, SERVICE_ACCOUNTS
from fedge_apiserver.tokens import TokenError, private_claims
from fedge_objects import JsonObject, NodeName

_PARTS: Final = 3
_HALF_BYTES: Final = 32
_MOST_CHECKED: Final = 256
_BOUND: Final = {"pod": PODS, "secret": SECRETS, "node": NODES}
POD_NAME: Final = "authentication.kubernetes.io/pod-name"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_LEEWAY_SECONDS: Final = 60


class NodeAccounts:
    """Checks tokens of service accounts."""

    def __init__(
        self,
        registry: Registry,
        *,
        node: NodeName,
        issuers: Path,
        node_key: Path,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; files are read when a token asks for them.

        Args:
            registry: of the node's objects.
            node: which node.
            issuers: file of the issuers' keys, by issuer: ``{"https://...": {"keys": [JWK]}}``.
            node_key: file of the key with which the node signs tokens.
            now: seconds since the epoch.
        """
        self._registry = registry
        self._node = node
        self._issuers = issuers
        self._node_key = node_key
        self._now = now
        self._checked: dict[str, JsonObject] = {}

    def user(self, token: str) -> User:
        """Return the service account whose token this is.

        Raises:
            TokenError: it is not valid here.
        """
        claims = self._claims(token)
        return self._user(claims)

    def review(self, spec: Mapping[str, Any]) -> JsonObject:
        """Return the status of a TokenReview.

        https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
        """
        asked = [str(each) for each in spec.get("audiences") or ()]
        try:
            claims = self._claims(str(spec.get("token", "")), audiences=asked)
            user = self._user(claims)
        except TokenError as exc:
            return {"error": f"the token is not valid: {exc}", "user": {}}
        audiences = [each for each in claims["aud"] if not asked or each in asked]
        return {"authenticated": True, "audiences": audiences, "user": user.info()}

    def _user(self, claims: JsonObject) -> User:
        private = private_claims(claims)
        account, namespace = private["serviceaccount"], str(private["namespace"])
        self._check_there("serviceaccount", SERVICE_ACCOUNTS.storage, namespace, account)
        for name, resource in _BOUND.items():
            if bound := private.get(name):
                where = namespace if resource.namespaced else ""
                self._check_there(name, resource.storage, where, bound)
        user = account_user(namespace, str(account["name"]), str(account["uid"]))
        if pod := private.get("pod"):
            extra = ((POD_NAME, (str(pod["name"]),)), (POD_UID, (str(pod["uid"]),)))
            return User(user.name, user.groups, user.uid, extra)
        return user

    def _check_there(self, what: str, storage: str, namespace: str, known: JsonObject) -> None:
        name = str(known.get("name", ""))
        if storage == SECRETS.storage:
            return  # they are read for nobody who is not known yet
        entry = self._registry.store.get(storage, namespace, name)
        if entry is None:
            raise TokenError(f"{what} {namespace}/{name} is not among what this node was given")
        found = json.loads(entry.body)["metadata"]["uid"]
        if found != known.get("uid"):
            raise TokenError(f"{what} {namespace}/{name} was made anew")

    def _claims(self, token: str, audiences: list[str] | None = None) -> JsonObject:
        """Return what a token says that is valid now.

        Args:
            token: whoever's.
            audiences: one of which it must be for; none: the API.
        """
        claims = self._checked.get(token)
        if claims is None:
            claims = self._verified(token)
            if len(self._checked) >= _MOST_CHECKED:
                self._checked.clear()
            self._checked[token] = claims
        now = self._now()
        if not claims["nbf"] - _LEEWAY_SECONDS <= now < claims["exp"]:
            raise TokenError("it has expired, or is not valid yet")
        if not set(claims["aud"]) & set(audiences or self._known_issuers()):
            raise TokenError(f"it is for {', '.join(claims['aud'])}")
        return claims

    def _verified(self, token: str) -> JsonObject:
        parts = token.split(".")
        if len(parts) != _PARTS:
            raise TokenError("it is no JSON Web Token")
        try:
            head, claims = (dict(json.loads(_decoded(each))) for each in parts[:2])
            signature = _decoded(parts[2])
            claims["nbf"], claims["exp"] = float(claims["nbf"]), float(claims["exp"])
            claims["aud"] = _texts(claims["aud"])
            issuer = str(claims["iss"])
            private = private_claims(claims)
            _ = private["namespace"], dict(private["serviceaccount"])["name"]
        except (ValueError, KeyError, TypeError, binascii.Error) as exc:
            raise TokenError("it cannot be decoded") from exc
        signed = f"{parts[0]}.{parts[1]}".encode()
        if issuer == f"fedge://{self._node}" and head.get("alg") == "HS256":
            self._check_own(signed, signature)
        else:
            self._check_issued(issuer, head, signed, signature)
        return claims

    def _check_own(self, signed: bytes, signature: bytes) -> None:
        try:
            key = self._node_key.read_bytes()
        except OSError as exc:
            raise TokenError("this node has signed no tokens") from exc
        if not hmac.compare_digest(hmac.digest(key, signed, "sha256"), signature):
            raise TokenError("its signature is wrong")

    def _check_issued(self, issuer: str, head: JsonObject, signed: bytes, signature: bytes) -> None:
        keys = self._known_issuers().get(issuer)
        if keys is None:
            raise TokenError(
                f"it was issued by {issuer}, whose keys this node was not given: a pod of this"
                " node gets them with its own first token"
            )
        fitting = [each for each in keys if head.get("kid") in (None, each.get("kid"))]
        if not any(_is_signed(each, head.get("alg"), signed, signature) for each in fitting):
            raise TokenError("its signature is wrong, or of a key that this node was not given")

    def _known_issuers(self) -> dict[str, list[JsonObject]]:
        try:
            held = json.loads(self._issuers.read_bytes())
            return {str(name): list(each["keys"]) for name, each in dict(held).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError) as exc:
            raise TokenError(f"the issuers' keys in {self._issuers} cannot be read: {exc}") from exc


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in list(value)]  # type: ignore[call-overload]  # what is no list raises TypeError


def _is_signed(jwk: JsonObject, algorithm: object, signed: bytes, signature: bytes) -> bool:
    """Whether a JSON Web Key has signed something, by an algorithm that is the key's own."""
    try:
        match jwk.get("kty"), algorithm:
            case "EC", "ES256" if jwk.get("crv") == "P-256" and len(signature) == 2 * _HALF_BYTES:
                point = ec.EllipticCurvePublicNumbers(
                    _number(jwk["x"]), _number(jwk["y"]), ec.SECP256R1()
                )
                halves = (signature[:_HALF_BYTES], signature[_HALF_BYTES:])
                r, s = (int.from_bytes(half, "big") for half in halves)
                point.public_key().verify(
                    encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256())
                )
            case "RSA", "RS256":
                numbers = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"]))
                numbers.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            case _:
                return False
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return True


def _number(text: str) -> int:
    return int.from_bytes(_decoded(text), "big")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
