"""Who may join, what a node is given, and what becomes of it: the cloud's side of enrolment.

Everything that is granted is in the records before it is said, and every step may be repeated: a
gateway whose answer was lost asks again with the same key and is given the same place.
"""

import asyncio
import base64
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

import msgspec
import structlog

from fedge_enrolment import certificates as c
from fedge_enrolment.authority import Authorities, renewal_time
from fedge_enrolment.names import is_node_name, user_of
from fedge_enrolment.records import NODE, TOKEN, ChangedError, ExistsError, Record, Records
from fedge_enrolment.refusals import BAD_REQUEST, CONFLICT, FORBIDDEN, UNAUTHORIZED, RefusedError
from fedge_enrolment.tokens import JoinToken, digest_of, is_id, new_id, new_secret
from fedge_objects import NodeName

log = structlog.stdlib.get_logger("fedge.enrolment")

T = TypeVar("T")

TERMS: Final = "terms"
"""Name of the record, beside the authority, in which hub says where it is."""
MAX_CLOCK_SKEW: Final = timedelta(minutes=10)
_ATTEMPTS: Final = 50
_DOCUMENT: Final = "record"
_IDENTITY_BYTES: Final = 4
_SEALING_BYTES: Final = 32


class TokenUse(msgspec.Struct, frozen=True, kw_only=True):
    """Who used a token.

    Attributes:
        node: as which node.
        key: by which key.
    """

    node: str
    key: str


class TokenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the cloud keeps of a token: not the token.

    Attributes:
        id: of the token.
        digest: of its secret.
        expires: seconds since the epoch.
        uses: how many gateways it is good for.
        node: the only node; empty: any.
        used: by whom.
        made: seconds since the epoch.
    """

    id: str
    digest: str
    expires: float
    uses: int
    made: float
    node: str = ""
    used: tuple[TokenUse, ...] = ()


class Serial(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that was issued: its serial number and its end, seconds since the epoch."""

    number: str
    end: float


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the cloud keeps of a node.

    Attributes:
        node: its name.
        identity: of its present life.
        key: name of its public key.
        sealing_key: public, base64: Secrets are sealed to it; empty: it has none.
        joined: when, seconds since the epoch.
        serials: certificates issued in this life that are not over.
        former: those of former lives that are not over.
        revoked: when it was shut out, seconds since the epoch; None: it is not.
    """

    node: str
    identity: str
    key: str
    joined: float
    sealing_key: str = ""
    serials: tuple[Serial, ...] = ()
    former: tuple[Serial, ...] = ()
    revoked: float | None = None

    @property
    def user(self) -> str:
        """Its user at the broker."""
        return user_of(NodeName(self.node), self.identity)


class JoinRequest(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """What a gateway asks.

    Attributes:
        token: id of the token and its secret, joined by a dot.
        node: which node it wants to be.
        csr: certificate request, PEM.
        sealing_key: public, base64.
    """

    token: str
    node: str
    csr: str
    sealing_key: str = ""


class RenewRequest(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """What a node asks when its certificate nears its end, or is past it.

    Attributes:
        node: who.
        csr: certificate request, PEM.
        certificate: the one that it has, PEM.
        at: the time, seconds since the epoch: an old request is worth nothing.
        signature: of `renewal_message` by the certificate's key, base64.
    """

    node: str
    csr: str
    certificate: str
    at: int
    signature: str


class Grant(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a node is given.

    Attributes:
        node: its name.
        user: of the broker.
        certificate: PEM.
        authorities: whom it trusts, PEM.
        broker: ``host:port`` of the cloud's broker (AMQPS).
        cloud: ``host:port`` of hub's enrolment port.
        renew_after: seconds since the epoch.
        expires: seconds since the epoch.
    """

    node: str
    user: str
    certificate: str
    authorities: str
    broker: str
    cloud: str
    renew_after: int
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the cloud grants.

    Attributes:
        lifetime: of a node's certificate.
        grace: for so long after its end a certificate may still be renewed by its key; 0: never.
        broker: ``host:port`` that nodes dial for AMQPS.
        cloud: ``host:port`` of the enrolment port.
    """

    broker: str
    cloud: str
    lifetime: timedelta = timedelta(days=90)
    grace: timedelta = timedelta(days=180)


def renewal_message(request: RenewRequest) -> bytes:
    """Return what a node signs to renew its certificate."""
    return "\n".join(("fedge renewal v1", request.node, str(request.at), request.csr)).encode()


class Registrar:
    """Grants and revokes. Safe to use from many tasks, and from many hubs at once."""

    def __init__(
        self,
        *,
        records: Records,
        authorities: Authorities,
        terms: Terms,
        now: Callable[[], datetime],
    ) -> None:
        self._records = records
        self._authorities = authorities
        self._terms = terms
        self._now = now
        self._tokens = asyncio.Lock()

    async def join(self, request: JoinRequest) -> Grant:
        """Make a gateway a node.

        Raises:
            RefusedError: it may not join; with the reason.
            RecordsAwayError: nothing can be decided now.
        """
        node = _node(request.node)
        sealing_key = _sealing_key(request.sealing_key)
        public_key = c.read_request(request.csr, node)
        key = c.key_id(public_key)
        # first without a use: a gateway that is refused for another reason may try again with it
        token, _ = await self._token(request.token, node, key)
        await self._place(node, key, sealing_key, token)
        async with self._tokens:  # many gateways with one token would undo each other's changes
            await self._use(request.token, node, key)
        for _ in range(_ATTEMPTS):
            before, wanted = await self._place(node, key, sealing_key, token)
            try:
                grant = await self._grant(before, wanted, public_key)
            except (ChangedError, ExistsError):
                continue  # somebody else joined as this node: decide again
            log.info("node_joined", node=node, user=grant.user, token=token.id)
            return grant
        raise _too_busy(f"node {node!r}")

    async def renew(self, request: RenewRequest) -> Grant:
        """Give a node a new certificate for the one that it has.

        Raises:
            RefusedError: it is not its, or it is too late.
            RecordsAwayError: nothing can be decided now.
        """
        node = _node(request.node)
        public_key = c.read_request(request.csr, node)
        remedy = (
            "move the gateway's identity folder away and join again:"
            f" `fedge token create --node {node}`, `fedge join TOKEN`"
        )
        now = self._now()
        try:
            old = c.load(request.certificate.encode())
            signature = base64.b64decode(request.signature, validate=True)
        except ValueError as exc:
            raise RefusedError(
                "certificate_malformed",
                BAD_REQUEST,
                f"the certificate cannot be read: {exc}",
                remedy,
            ) from exc
        authority = await self._authorities.current()
        if not c.is_issued_by(old, c.split(authority.bundle)):
            raise RefusedError(
                "certificate_foreign", FORBIDDEN, "the certificate is not from this cloud", remedy
            )
        if not c.is_signed_by(old.public_key(), renewal_message(request), signature):
            raise RefusedError(
                "signature_wrong", FORBIDDEN, "the request is not signed by the certificate's key",
                remedy,
            )  # fmt: skip
        skew = abs(now - c.utc(request.at))
        if skew > MAX_CLOCK_SKEW:
            raise RefusedError(
                "clock_skew",
                FORBIDDEN,
                f"the request is from {c.utc(request.at):%Y-%m-%d %H:%M:%S}, here it is "
                f"{now:%Y-%m-%d %H:%M:%S} (UTC)",
                "set the gateway's clock, best by NTP",
            )
        end = old.not_valid_after_utc
        if now > end + self._terms.grace:
            raise RefusedError(
                "certificate_expired",
                FORBIDDEN,
                f"the certificate ended {end:%Y-%m-%d %H:%M} UTC, and is renewed for "
                f"{self._terms.grace.total_seconds() / 86400:g} days after that",
                remedy,
            )
        for _ in range(_ATTEMPTS):
            before = await self._records.get(NODE, node)
            known = None if before is None else _parse(before, NodeRecord)
            if known is None or c.users_of(old) != [known.user]:
                raise RefusedError(
                    "identity_replaced",
                    FORBIDDEN,
                    f"another gateway is node {node!r} now, or it was removed",
                    remedy,
                )
            if known.revoked is not None:
                raise RefusedError("node_revoked", FORBIDDEN, f"node {node!r} was revoked", remedy)
            wanted = msgspec.structs.replace(known, key=c.key_id(public_key))
            try:
                grant = await self._grant(before, wanted, public_key)
            except (ChangedError, ExistsError):
                continue
            log.info("certificate_renewed", node=node, user=grant.user)
            return grant
        raise _too_busy(f"node {node!r}")

    async def create_token(
        self, *, node: str = "", lifetime: timedelta = timedelta(hours=1), uses: int = 1
    ) -> JoinToken:
        """Make a token.

        Args:
            node: the only node that may use it; empty: any.
            lifetime: how long it is good.
            uses: for how many gateways.

        Raises:
            RefusedError: such a token cannot be.
        """
        if node:
            _node(node)
        if uses < 1 or lifetime <= timedelta(0):
            raise RefusedError(
                "token_useless", BAD_REQUEST, f"a token for {uses} uses within {lifetime}",
                "give at least one use and a time to come",
            )  # fmt: skip
        if node and uses > 1:
            raise RefusedError(
                "token_useless", BAD_REQUEST, f"a token for node {node!r} with {uses} uses",
                "a token for one node has one use; leave out --uses or --node",
            )  # fmt: skip
        authority = await self._authorities.current()
        secret, now = new_secret(), self._now()
        token = JoinToken(
            cloud=self._terms.cloud,
            fingerprint=authority.fingerprint,
            id=new_id(),
            secret=secret,
            expires=int((now + lifetime).timestamp()),
            node=node,
        )
        record = TokenRecord(
            id=token.id,
            digest=digest_of(secret),
            expires=token.expires,
            uses=uses,
            node=node,
            made=now.timestamp(),
        )
        await self._records.create(TOKEN, token.id, _data(record))
        await self._forget_tokens()
        return token

    async def tokens(self) -> list[TokenRecord]:
        """Return the tokens there are."""
        return [_parse(each, TokenRecord) for each in await self._records.all_of(TOKEN)]

    async def revoke_token(self, token_id: str) -> bool:
        """Make a token worthless; return whether there was one. Nodes that joined by it stay."""
        is_there = await self._records.get(TOKEN, token_id) is not None
        await self._records.delete(TOKEN, token_id)
        return is_there

    async def nodes(self) -> list[NodeRecord]:
        """Return the nodes there are, the revoked among them."""
        return [_parse(each, NodeRecord) for each in await self._records.all_of(NODE)]

    async def node(self, node: NodeName) -> NodeRecord | None:
        """Return what is kept of a node."""
        record = await self._records.get(NODE, node)
        return None if record is None else _parse(record, NodeRecord)

    async def sealing_key(self, node: NodeName) -> bytes:
        """Return the public key to which a node's Secrets are sealed; empty: it has none."""
        record = await self.node(node)
        return b"" if record is None else base64.b64decode(record.sealing_key)

    async def revoke(self, node: NodeName) -> NodeRecord | None:
        """Shut a node out, until it joins anew; return what is kept, None if there is no such."""
        for _ in range(_ATTEMPTS):
            before = await self._records.get(NODE, node)
            if before is None:
                return None
            known = _parse(before, NodeRecord)
            if known.revoked is not None:
                return known
            wanted = msgspec.structs.replace(known, revoked=self._now().timestamp())
            try:
                await self._records.replace(before, _data(wanted))
            except ChangedError:
                continue
            return wanted
        raise _too_busy(f"node {node!r}")

    async def bundle(self) -> bytes:
        """Return whom to trust, PEM."""
        return (await self._authorities.current()).bundle

    async def rotate_authority(self, after: timedelta) -> bytes:
        """Add an authority that signs after a while; return its fingerprint.

        Raises:
            RefusedError: another one is on its way.
        """
        try:
            return c.fingerprint(await self._authorities.rotate(after))
        except ChangedError as exc:
            raise RefusedError(
                "rotation_under_way",
                CONFLICT,
                f"no new authority was made: {exc}",
                "`fedge ca show` lists those that are trusted",
            ) from exc

    async def distrust_authority(self, fingerprint: bytes) -> None:
        """Have a former authority trusted no longer; nodes that did not renew since are out.

        Raises:
            RefusedError: it is the one that signs, or not trusted anyway.
        """
        for _ in range(_ATTEMPTS):
            try:
                await self._authorities.distrust(fingerprint)
            except ChangedError:
                continue
            return
        raise _too_busy("the authority")

    async def revocations(self) -> bytes:
        """Return the serial numbers of certificates that are revoked and not over (CRL, PEM)."""
        authority = await self._authorities.current()
        serials = [
            int(serial.number, 16)
            for each in await self.nodes()
            for serial in (*each.former, *(each.serials if each.revoked is not None else ()))
        ]
        return c.revocations(authority.signing, serials, self._now(), lifetime=timedelta(days=1))

    async def _place(
        self, node: NodeName, key: str, sealing_key: str, token: TokenRecord
    ) -> tuple[Record | None, NodeRecord]:
        """Return what is kept of a node, and what should be once ``key`` has joined as it."""
        before = await self._records.get(NODE, node)
        known = None if before is None else _parse(before, NodeRecord)
        if known is not None and known.key == key:
            if known.revoked is not None:
                raise RefusedError(
                    "key_revoked",
                    FORBIDDEN,
                    f"the key that asks to be node {node!r} was revoked",
                    "remove the gateway's identity folder, so that it makes a new key",
                )
            return before, msgspec.structs.replace(known, sealing_key=sealing_key)
        if known is not None and known.revoked is None and token.node != node:
            raise RefusedError(
                "node_exists",
                CONFLICT,
                f"node {node!r} has joined already, with another key",
                f"choose another name; or, if this gateway takes its place, run `fedge node "
                f"revoke {node}` or make a token for it: `fedge token create --node {node}`",
            )
        return before, NodeRecord(
            node=node,
            identity=secrets.token_hex(_IDENTITY_BYTES),
            key=key,
            sealing_key=sealing_key,
            joined=self._now().timestamp(),
            former=() if known is None else (*known.former, *known.serials),
        )

    async def _grant(
        self, before: Record | None, wanted: NodeRecord, public_key: c.PublicKey
    ) -> Grant:
        """Issue a certificate, and write it down before it is given away."""
        authority, now = await self._authorities.current(), self._now()
        pem = c.issue_client(
            authority.signing,
            public_key,
            name=wanted.node,
            user=wanted.user,
            now=now,
            lifetime=self._terms.lifetime,
        )
        certificate = c.load(pem)
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        alive, former = (
            tuple(each for each in serials if each.end > now.timestamp())
            for serials in (wanted.serials, wanted.former)
        )
        new = Serial(number=f"{certificate.serial_number:x}", end=end.timestamp())
        record = msgspec.structs.replace(wanted, serials=(*alive, new), former=former)
        if before is None:
            await self._records.create(NODE, wanted.node, _data(record))
        else:
            await self._records.replace(before, _data(record))
        return Grant(
            node=wanted.node,
            user=wanted.user,
            certificate=pem.decode(),
            authorities=authority.bundle.decode(),
            broker=self._terms.broker,
            cloud=self._terms.cloud,
            renew_after=int(renewal_time(begin, end).timestamp()),
            expires=int(end.timestamp()),
        )

    async def _use(self, shown: str, node: NodeName, key: str) -> None:
        """Use a token once for this key; a repeat by the same key is no further use."""
        for _ in range(_ATTEMPTS):
            token, record = await self._token(shown, node, key)
            use = TokenUse(node=node, key=key)
            if use in token.used:
                return
            wanted = msgspec.structs.replace(token, used=(*token.used, use))
            try:
                await self._records.replace(record, _data(wanted))
            except ChangedError:
                continue
            return
        raise _too_busy(f"join token {shown.partition('.')[0]}")

    async def _token(self, shown: str, node: NodeName, key: str) -> tuple[TokenRecord, Record]:
        """Return the token that is shown, which has a use left for this key.

        Raises:
            RefusedError: there is none, or it is over, used, or another node's.
        """
        token_id, _, secret = shown.partition(".")
        record = await self._records.get(TOKEN, token_id) if is_id(token_id) else None
        token = None if record is None else _parse(record, TokenRecord)
        if (
            record is None
            or token is None
            or not hmac.compare_digest(token.digest, digest_of(secret))
        ):
            raise RefusedError(
                "token_unknown",
                UNAUTHORIZED,
                "the join token is not known here: it was revoked, is long over, or is not from "
                "this cloud",
                "make another with `fedge token create`",
            )
        if self._now().timestamp() > token.expires:
            raise RefusedError(
                "token_expired",
                UNAUTHORIZED,
                f"the join token {token.id} ended {c.utc(token.expires):%Y-%m-%d %H:%M:%S} UTC",
                "make another with `fedge token create`, longer with --ttl",
            )
        if token.node and token.node != node:
            raise RefusedError(
                "token_other_node",
                FORBIDDEN,
                f"the join token {token.id} is for node {token.node!r}, not {node!r}",
                f"join with --node {token.node}, or make another token",
            )
        if len(token.used) >= token.uses and TokenUse(node=node, key=key) not in token.used:
            raise RefusedError(
                "token_used",
                UNAUTHORIZED,
                f"the join token {token.id} was used already",
                "make another with `fedge token create`, for several with --uses",
            )
        return token, record

    async def _forget_tokens(self) -> None:
        """Remove tokens that ended a day ago: until then their users are told why."""
        limit = self._now().timestamp() - timedelta(days=1).total_seconds()
        for each in await self.tokens():
            if each.expires < limit:
                await self._records.delete(TOKEN, each.id)


def _node(name: str) -> NodeName:
    if not is_node_name(name):
        raise RefusedError(
            "node_name_invalid",
            BAD_REQUEST,
            f"{name[:300]!r} cannot name a node",
            "use lower case letters, digits, '-' and '.', at most 253",
        )
    return NodeName(name)


def _sealing_key(text: str) -> str:
    try:
        if text and len(base64.b64decode(text, validate=True)) != _SEALING_BYTES:
            raise ValueError("not 32 bytes")  # noqa: TRY301 - told below
    except ValueError as exc:
        raise RefusedError(
            "sealing_key_malformed", BAD_REQUEST, f"the sealing key cannot be read: {exc}",
            "run `fedge join` again: it makes its own",
        ) from exc  # fmt: skip
    return text


def _too_busy(what: str) -> RefusedError:
    return RefusedError(
        "too_busy", 503, f"{what} is changed by too many at once", "try again in a moment"
    )


def _data(record: TokenRecord | NodeRecord) -> dict[str, str]:
    return {_DOCUMENT: msgspec.json.encode(record).decode()}


def _parse(record: Record, kind: type[T]) -> T:
    return msgspec.json.decode(record.data[_DOCUMENT], type=kind)
