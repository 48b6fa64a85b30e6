"""Joining: from a token to an identity, on the gateway.

The authority is fetched from whoever answers and must have the token's fingerprint; from then on
everything is verified, and only then the token is shown. The key is made here and stays here. What
is begun may be repeated at any point: the same key and token lead to the same place.
"""

import base64
import json
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import msgspec

import fedge_tracing as tracing
from fedge_enrolment import certificates as c
from fedge_enrolment.dialling import Address, DialError, context_of, request, untrusting
from fedge_enrolment.identity import Identity, IdentityError, Joined
from fedge_enrolment.names import ENROLMENT_PORT
from fedge_enrolment.refusals import UNAVAILABLE, RefusedError
from fedge_enrolment.registrar import MAX_CLOCK_SKEW, Grant, RenewRequest, renewal_message
from fedge_enrolment.tokens import JoinToken
from fedge_objects import NodeName
from fedge_sealing import SealError, SealingKey, write_private

T = TypeVar("T")

_AGAIN_SECONDS: Final = 0.5
_MOST_AGAIN_SECONDS: Final = 5.0


class FakeCloudError(Exception):
    """Who answers is not the cloud that made the token."""


class ClockError(Exception):
    """This machine's clock is too wrong to judge certificates."""


def join(
    identity: Identity,
    token: JoinToken,
    *,
    node: NodeName,
    cloud: str = "",
    patience_seconds: float = 0.0,
) -> Joined:
    """Join as ``node``; a gateway that has joined is only told so.

    Args:
        identity: the gateway's folder.
        token: what it was handed.
        node: which node to be.
        cloud: ``host:port`` to dial in place of the token's.
        patience_seconds: for so long a cloud that is away is tried again.

    Raises:
        DialError: the cloud cannot be reached.
        FakeCloudError: it is another cloud.
        ClockError: the clock is wrong.
        RefusedError: it does not let this gateway in.
        IdentityError: the folder is damaged.
    """
    if (before := identity.joined()) is not None:
        return before
    address = Address.parse(cloud or token.cloud, ENROLMENT_PORT)
    with tracing.span("fetch authority"):
        authority, there = patiently(lambda: fetch_authority(address, token), patience_seconds)
    check_clock(there)
    with tracing.span("make keys"):
        key, sealing_key = _own_key(identity), _own_sealing_key(identity)
    body = {
        "token": f"{token.id}.{token.secret}",
        "node": node,
        "csr": c.new_request(key, node).decode(),
        "sealingKey": base64.b64encode(sealing_key.public).decode(),
    }
    context = context_of(authority)
    with tracing.span("ask for certificate", kind=tracing.SpanKind.CLIENT):
        answer = patiently(
            lambda: request(address, context, "POST", "/v1/join", body), patience_seconds
        )
    return _keep(identity, answer.body, address)


def renew(identity: Identity) -> Joined:
    """Get a new certificate for the one there is; raises like `join`."""
    joined = identity.joined()
    if joined is None:
        raise RefusedError(
            "not_joined",
            0,
            f"{identity.folder} holds no identity",
            "join first: `fedge join TOKEN`",
        )
    address = Address.parse(joined.cloud, ENROLMENT_PORT)
    key = identity.key.read_bytes()
    context = context_of(identity.authorities)
    # not by this machine's clock: it may be the reason why the certificate was left to end
    at = request(address, context, "GET", "/healthz").time or datetime.now(UTC)
    unsigned = RenewRequest(
        node=joined.node,
        csr=c.new_request(key, joined.node).decode(),
        certificate=identity.certificate.read_text(),
        at=int(at.timestamp()),
        signature="",
    )
    signature = c.sign(key, renewal_message(unsigned))
    signed = msgspec.structs.replace(unsigned, signature=base64.b64encode(signature).decode())
    body = msgspec.to_builtins(signed)
    return _keep(identity, request(address, context, "POST", "/v1/renew", body).body, address)


def fetch_authority(address: Address, token: JoinToken) -> tuple[bytes, datetime | None]:
    """Return the authority that the token names, PEM, and what time it is there.

    Raises:
        DialError: the cloud cannot be reached.
        FakeCloudError: it has another authority.
    """
    answer = request(address, untrusting(), "GET", "/v1/ca")
    try:
        found = [pem for pem in c.split(answer.body) if c.fingerprint(pem) == token.fingerprint]
    except ValueError:
        found = []
    if not found:
        raise FakeCloudError(
            f"{address} is not the cloud that made this token, or has a new authority: check the "
            "address, and that nothing between ends TLS; else make a new token"
        )
    return found[0], answer.time


def check_clock(there: datetime | None) -> timedelta:
    """Return by how much this machine's clock is ahead of the cloud's.

    Raises:
        ClockError: too much.
    """
    if there is None:
        return timedelta(0)
    ahead = datetime.now(UTC) - there
    if abs(ahead) > MAX_CLOCK_SKEW:
        raise ClockError(
            f"this machine's clock is {abs(ahead)} "
            f"{'ahead' if ahead > timedelta(0) else 'behind'}: set it, best by NTP, and try again"
        )
    return ahead


def patiently(ask: Callable[[], T], patience_seconds: float) -> T:
    """Ask until there is an answer, or patience ends; raises like ``ask``."""
    end = time.monotonic() + patience_seconds
    wait = _AGAIN_SECONDS
    while True:
        try:
            return ask()
        except (DialError, RefusedError) as exc:
            is_passing = isinstance(exc, DialError) or exc.status == UNAVAILABLE
            if not is_passing or time.monotonic() + wait > end:
                raise
        time.sleep(wait)
        wait = min(wait * 2, _MOST_AGAIN_SECONDS)


def _own_key(identity: Identity) -> bytes:
    """Return the gateway's key, made at the first time and kept before anybody hears of it."""
    if not identity.key.exists():
        write_private(identity.key, c.new_key())
    return identity.key.read_bytes()


def _own_sealing_key(identity: Identity) -> SealingKey:
    """Return the key by which Secrets are read, made at the first time."""
    try:
        return SealingKey.load_or_make(identity.sealing_key)
    except SealError as exc:
        raise IdentityError(f"{exc}: put the right one there, or remove it") from exc


def _keep(identity: Identity, answer: bytes, address: Address) -> Joined:
    try:
        grant = msgspec.json.decode(answer, type=Grant)
        ssl.PEM_cert_to_DER_cert(grant.certificate)
    except (ValueError, msgspec.DecodeError, json.JSONDecodeError) as exc:
        raise DialError(
            "http", f"{address} granted nothing readable ({exc})", "update fedge"
        ) from exc
    joined = Joined(
        node=NodeName(grant.node),
        user=grant.user,
        cloud=str(address),
        broker=grant.broker,
        renew_after=grant.renew_after,
        expires=grant.expires,
    )
    identity.keep(joined, certificate=grant.certificate, authorities=grant.authorities)
    return joined
