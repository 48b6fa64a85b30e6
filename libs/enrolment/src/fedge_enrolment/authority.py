"""The cloud's certificate authority and the certificates of its servers.

Made exactly once, whichever of several hubs comes first: the record is created, and who comes
second reads it. A rotation adds an authority and keeps the former ones trusted; the new one is also
signed by the one before it, so that a node that was away all the while still trusts the servers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from fedge_enrolment import certificates as c
from fedge_enrolment.names import BROKER, HUB, user_of_service
from fedge_enrolment.records import (
    AUTHORITY,
    SERVER,
    ChangedError,
    ExistsError,
    Record,
    Records,
)
from fedge_enrolment.refusals import CONFLICT, RefusedError

log = structlog.stdlib.get_logger("fedge.enrolment")

AUTHORITY_LIFETIME: Final = timedelta(days=3650)
SERVER_LIFETIME: Final = timedelta(days=365)
RENEW_AFTER: Final = 2 / 3
"""Of its life, a certificate is renewed."""
CLOUD: Final = "cloud"
"""Name of the record of the authority."""
SERVERS: Final = {"hub": HUB, "broker": BROKER}
SERVICES: Final = ("hub", "controller", "device")
"""They may log in at the cloud's broker with certificates, too."""
SIGNS_AFTER: Final = timedelta(minutes=10)
"""A broker reads files again every two minutes, and a cluster tells pods of a Secret within one."""
_KNOWN_FOR: Final = timedelta(seconds=1)
_NEXT: Final = "next.crt"
_NEXT_KEY: Final = "next.key"
_NEXT_FROM: Final = "next.from"
_CERTIFICATE: Final = "tls.crt"
_KEY: Final = "tls.key"
_BUNDLE: Final = "ca.crt"
_CROSS: Final = "cross.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Who signs, and who is trusted.

    Attributes:
        signing: the authority that signs.
        bundle: certificates of all that are trusted, newest first, PEM.
        cross: the one that signs, as signed by the one before it, and so on, PEM; servers send it
            along.
    """

    signing: c.KeyPair
    bundle: bytes
    cross: bytes = field(default=b"", repr=False)

    @property
    def fingerprint(self) -> bytes:
        """Return the SHA-256 by which tokens know it."""
        return c.fingerprint(self.signing.certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCredential:
    """A server's certificate with what it sends along, and its key; PEM."""

    chain: bytes
    key: bytes = field(repr=False)


class Authorities:
    """The authority in the records."""

    def __init__(self, records: Records, now: Callable[[], datetime]) -> None:
        self._records = records
        self._now = now
        self._known: tuple[datetime, Authority] | None = None

    async def current(self) -> Authority:
        """Return the authority as it was a moment ago at the earliest, making it if there is none.

        Raises:
            RecordsAwayError: the records cannot be reached.
        """
        if self._known is None or abs(self._now() - self._known[0]) > _KNOWN_FOR:
            self._known = self._now(), await self._found()
        return self._known[1]

    async def _found(self) -> Authority:
        record = await self._records.get(AUTHORITY, CLOUD)
        if record is not None and self._is_due(record):
            return await self._promote(record)
        if record is None:
            made = c.new_authority(self._now(), lifetime=AUTHORITY_LIFETIME)
            try:
                record = await self._records.create(
                    AUTHORITY, CLOUD, _data(made, made.certificate, b"")
                )
                log.info("authority_made", fingerprint=c.fingerprint(made.certificate).hex())
            except ExistsError:
                record = await self._records.get(AUTHORITY, CLOUD)
                if record is None:
                    raise
        return self._read(record)

    async def rotate(self, after: timedelta = SIGNS_AFTER) -> bytes:
        """Add an authority; return its certificate, PEM.

        It is trusted at once and signs later: whoever verifies must have heard of it by then.

        Args:
            after: when it begins to sign.

        Raises:
            ChangedError: somebody else did it at the same moment, or not long ago.
        """
        await self.current()
        record = await self._records.get(AUTHORITY, CLOUD)
        if record is None:
            raise ChangedError("the authority was removed meanwhile")
        if _NEXT in record.data:
            raise ChangedError("a new authority is on its way already: wait until it signs")
        now = self._now()
        new = c.new_authority(now, lifetime=AUTHORITY_LIFETIME)
        data = {
            **record.data,
            _BUNDLE: new.certificate.decode() + record.data[_BUNDLE],
            _NEXT: new.certificate.decode(),
            _NEXT_KEY: new.key.decode(),
            _NEXT_FROM: (now + after).isoformat(),
        }
        await self._records.replace(record, data)
        self._known = None
        return new.certificate

    async def distrust(self, fingerprint: bytes) -> None:
        """Have an authority trusted no longer, e.g. because its key was stolen.

        What it signed is worth nothing as soon as whoever verifies has read its files again.

        Args:
            fingerprint: of its certificate.

        Raises:
            RefusedError: it is the one that signs, or not trusted anyway.
            ChangedError: somebody else changed the authorities at the same moment.
        """
        authority = await self._found()
        if fingerprint == authority.fingerprint:
            raise RefusedError(
                "authority_signs",
                CONFLICT,
                f"authority {fingerprint.hex()} is the one that signs",
                "make another first, `fedge ca rotate`, and wait until all have renewed by it",
            )
        record = await self._records.get(AUTHORITY, CLOUD)
        if record is None:
            raise ChangedError("the authority was removed meanwhile")
        trusted = {c.fingerprint(each): each for each in c.split(record.data[_BUNDLE].encode())}
        if fingerprint not in trusted or _NEXT in record.data:
            raise RefusedError(
                "authority_unknown",
                CONFLICT,
                f"no authority {fingerprint.hex()} is trusted, or a new one is on its way",
                "see `fedge ca show`",
            )
        former = trusted.pop(fingerprint)
        cross = c.split(record.data[_CROSS].encode())
        data = {
            **record.data,
            _BUNDLE: b"".join(trusted.values()).decode(),
            _CROSS: b"".join(
                each for each in cross if not c.is_issued_by(c.load(each), [former])
            ).decode(),
        }
        await self._records.replace(record, data)
        self._known = None
        log.warning("authority_distrusted", fingerprint=fingerprint.hex())

    def _is_due(self, record: Record) -> bool:
        return _NEXT in record.data and self._now() >= datetime.fromisoformat(
            record.data[_NEXT_FROM]
        )

    async def _promote(self, record: Record) -> Authority:
        """Have the next authority sign from now on."""
        before, data = self._read(record), record.data
        new = c.KeyPair(certificate=data[_NEXT].encode(), key=data[_NEXT_KEY].encode())
        cross = c.cross_sign(new.certificate, before.signing, self._now())
        changed = _data(new, before.bundle, cross + before.cross)
        try:
            record = await self._records.replace(record, changed)
        except ChangedError:
            return await self._found()  # another hub was faster
        log.info("authority_signs", fingerprint=c.fingerprint(new.certificate).hex())
        return self._read(record)

    async def server(self, name: str, addresses: Sequence[str]) -> ServerCredential:
        """Return the credential of a server, renewing it when it is time.

        Args:
            name: one of `SERVERS`.
            addresses: DNS names and addresses it holds for beside its own name.
        """
        names = [SERVERS[name], *dict.fromkeys(addresses)]
        return await self._credential(
            name,
            names,
            lambda signing: c.issue_server(signing, names, self._now(), lifetime=SERVER_LIFETIME),
        )

    async def service(self, name: str) -> ServerCredential:
        """Return the credential by which a service logs in at the cloud's broker.

        Args:
            name: one of `SERVICES`.
        """
        user = user_of_service(name)

        def issue(signing: c.KeyPair) -> c.KeyPair:
            key = c.new_key()
            certificate = c.issue_client(
                signing, c.public_of(key), name=name, user=user, now=self._now(),
                lifetime=SERVER_LIFETIME,
            )  # fmt: skip
            return c.KeyPair(certificate=certificate, key=key)

        return await self._credential(f"client-{name}", [user], issue)

    async def _credential(
        self, name: str, names: Sequence[str], issue: Callable[[c.KeyPair], c.KeyPair]
    ) -> ServerCredential:
        authority = await self.current()
        while True:
            record = await self._records.get(SERVER, name)
            if record is not None and self._is_good(record, authority, names):
                return _credential(record)
            made = issue(authority.signing)
            data = {
                _CERTIFICATE: (made.certificate + authority.cross).decode(),
                _KEY: made.key.decode(),
                _BUNDLE: authority.bundle.decode(),
                "names": " ".join(names),
            }
            try:
                if record is None:
                    record = await self._records.create(SERVER, name, data)
                else:
                    record = await self._records.replace(record, data)
            except (ExistsError, ChangedError):
                continue  # another hub was faster: take its
            log.info("certificate_made", of=name, names=names)
            return _credential(record)

    def _read(self, record: Record) -> Authority:
        """Return what is still valid of the record."""
        now = self._now()
        pairs = (record.data[_BUNDLE].encode(), record.data[_CROSS].encode())
        bundle, cross = (
            b"".join(each for each in c.split(pem) if c.load(each).not_valid_after_utc > now)
            for pem in pairs
        )
        signing = c.KeyPair(
            certificate=record.data[_CERTIFICATE].encode(), key=record.data[_KEY].encode()
        )
        return Authority(signing=signing, bundle=bundle, cross=cross)

    def _is_good(self, record: Record, authority: Authority, names: Sequence[str]) -> bool:
        certificate = c.load(record.data[_CERTIFICATE].encode())
        return (
            record.data["names"].split() == list(names)
            and record.data[_BUNDLE].encode() == authority.bundle
            and c.is_issued_by(certificate, [authority.signing.certificate])
            and self._now()
            < renewal_time(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        )


def renewal_time(begin: datetime, end: datetime) -> datetime:
    """Return when a certificate is to be renewed."""
    return begin + (end - begin) * RENEW_AFTER


def _data(signing: c.KeyPair, bundle: bytes, cross: bytes) -> dict[str, str]:
    return {
        _CERTIFICATE: signing.certificate.decode(),
        _KEY: signing.key.decode(),
        _BUNDLE: bundle.decode(),
        _CROSS: cross.decode(),
    }


def _credential(record: Record) -> ServerCredential:
    return ServerCredential(
        chain=record.data[_CERTIFICATE].encode(), key=record.data[_KEY].encode()
    )
