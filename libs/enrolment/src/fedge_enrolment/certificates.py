"""Certificates: those of authorities, servers and nodes (X.509, RFC 5280).

Keys are P-256. Everything is valid from an hour ago, because clocks differ.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from fedge_enrolment.refusals import BAD_REQUEST, FORBIDDEN, RefusedError
from fedge_objects import NodeName

_BACKDATED: Final = timedelta(hours=1)
_MAX_COMMON_NAME: Final = 64
_RSA_BITS: Final = 2048
_DELIMITER: Final = b"-----END CERTIFICATE-----"

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A certificate and its key, both PEM. The key is never printed."""

    certificate: bytes
    key: bytes = field(repr=False)


def new_key() -> bytes:
    """Return a new private key, PEM (PKCS 8)."""
    return _pem_of(ec.generate_private_key(ec.SECP256R1()))


def new_request(key: bytes, node: NodeName) -> bytes:
    """Return a request for a node's certificate, PEM (PKCS 10), signed by ``key``."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(node))
    return builder.sign(_private(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def new_authority(now: datetime, *, lifetime: timedelta) -> KeyPair:
    """Return a new certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "fedge"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"fedge authority {now:%Y-%m-%d %H:%M:%S}"),
        ]
    )
    certificate = _authority(name, key.public_key(), now, now + lifetime, issuer=name)
    signed = certificate.sign(key, hashes.SHA256())
    return KeyPair(certificate=_pem(signed), key=_pem_of(key))


def cross_sign(new: bytes, by: KeyPair, now: datetime) -> bytes:
    """Return the authority ``new`` (PEM) signed by another: who trusts that one trusts it, too."""
    subject, issuer = load(new), load(by.certificate)
    end = min(subject.not_valid_after_utc, issuer.not_valid_after_utc)
    builder = _authority(subject.subject, _public(subject), now, end, issuer=issuer.subject)
    return _pem(
        builder.add_extension(_issued_by(issuer), critical=False).sign(
            _private(by.key), hashes.SHA256()
        )
    )


def issue_server(
    authority: KeyPair, names: Sequence[str], now: datetime, *, lifetime: timedelta
) -> KeyPair:
    """Return a certificate for a server with a new key.

    Args:
        authority: who signs.
        names: DNS names and addresses it holds for.
        now: the time.
        lifetime: how long it is valid; it never outlives the authority.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _end(authority, _subject(names[0], "fedge:servers"), key.public_key(), now, lifetime)
    signed = (
        builder.add_extension(
            x509.SubjectAlternativeName(map(_general_name, names)), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(_private(authority.key), hashes.SHA256())
    )
    return KeyPair(certificate=_pem(signed), key=_pem_of(key))


def issue_client(
    authority: KeyPair, public_key: PublicKey, *, name: str, user: str, now: datetime,
    lifetime: timedelta,
) -> bytes:  # fmt: skip
    """Return a client's certificate, PEM: it may log in as ``user`` and prove nothing else.

    Args:
        authority: who signs.
        public_key: the client's.
        name: of the node, for people.
        user: of the broker; the certificate's one alternative name, a URI.
        now: the time.
        lifetime: how long it is valid; it never outlives the authority.
    """
    builder = _end(authority, _subject(name), public_key, now, lifetime)
    return _pem(
        builder.add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(user)]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(_private(authority.key), hashes.SHA256())
    )


def read_request(pem: str, node: NodeName) -> PublicKey:
    """Return the key of a request for a certificate of ``node``.

    Of a request nothing counts but its key; one that asks for more than it may have is refused all
    the same, because it was made to deceive, or by mistake.

    Raises:
        RefusedError: it is none, or it asks for another name, for rights of an authority, or with
            a key that is too weak.
    """
    remedy = "run `fedge join` again: it makes its own request"
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        is_signed = request.is_signature_valid
        names = [
            str(each.value) for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
        asked = [each.oid for each in request.extensions]
        key = request.public_key()
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension) as exc:
        raise RefusedError(
            "csr_malformed", BAD_REQUEST, f"the certificate request cannot be read: {exc}", remedy
        ) from exc
    if not is_signed:
        raise RefusedError(
            "csr_not_signed",
            BAD_REQUEST,
            "the certificate request is not signed by its key",
            remedy,
        )
    if any(name != common_name(node) for name in names):
        raise RefusedError(
            "csr_other_name",
            FORBIDDEN,
            f"the certificate request is for {names[0]!r}, the node is {node!r}",
            remedy,
        )
    if asked:
        what = (
            "the rights of an authority"
            if ExtensionOID.BASIC_CONSTRAINTS in asked
            else "extensions of its own"
        )
        raise RefusedError(
            "csr_asks_too_much", FORBIDDEN, f"the certificate request asks for {what}", remedy
        )
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        return key
    raise RefusedError(
        "csr_weak_key",
        BAD_REQUEST,
        "the certificate request has a key that is not accepted",
        f"use P-256, Ed25519 or RSA of {_RSA_BITS} bits",
    )


def common_name(name: str) -> str:
    """Return what a certificate calls a node: at most 64 characters of its name."""
    return name[:_MAX_COMMON_NAME]


def load(pem: bytes) -> x509.Certificate:
    """Return the first certificate of a PEM text. Raises ``ValueError``."""
    return x509.load_pem_x509_certificate(pem)


def split(bundle: bytes) -> list[bytes]:
    """Return the certificates of a PEM text, each alone."""
    parts = bundle.split(_DELIMITER)
    return [part.strip() + b"\n" + _DELIMITER + b"\n" for part in parts[:-1]]


def fingerprint(pem: bytes) -> bytes:
    """Return the SHA-256 of a certificate."""
    return load(pem).fingerprint(hashes.SHA256())


def key_id(public_key: PublicKey) -> str:
    """Return a short name of a public key: SHA-256 of its SubjectPublicKeyInfo, hexadecimal."""
    info = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(info)
    return digest.finalize().hex()


def users_of(certificate: x509.Certificate) -> list[str]:
    """Return as whom a client's certificate logs in."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return names.value.get_values_for_type(x509.UniformResourceIdentifier)


def is_issued_by(certificate: x509.Certificate, authorities: Iterable[bytes]) -> bool:
    """Whether one of the authorities (PEM) signed a certificate."""
    for each in authorities:
        try:
            certificate.verify_directly_issued_by(load(each))
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def sign(key: bytes, message: bytes) -> bytes:
    """Sign ``message`` with a P-256 key (PEM), ECDSA with SHA-256."""
    return _private(key).sign(message, ec.ECDSA(hashes.SHA256()))


def is_signed_by(public_key: object, message: bytes, signature: bytes) -> bool:
    """Whether the owner of a P-256 key signed ``message``."""
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        return False
    try:
        public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def public_of(key: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public half of a private key, PEM."""
    return _private(key).public_key()


def revocations(
    authority: KeyPair, serials: Iterable[int], now: datetime, *, lifetime: timedelta
) -> bytes:
    """Return a certificate revocation list, PEM (RFC 5280, section 5)."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(load(authority.certificate).subject)
        .last_update(now)
        .next_update(now + lifetime)
    )
    for serial in sorted(set(serials)):
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(revoked.build())
    signed = builder.sign(_private(authority.key), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def revoked_in(pem: bytes) -> set[int]:
    """Return the serial numbers on a revocation list, PEM."""
    return {each.serial_number for each in x509.load_pem_x509_crl(pem)}


def _authority(
    subject: x509.Name,
    key: PublicKey,
    now: datetime,
    end: datetime,
    *,
    issuer: x509.Name,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _end(
    authority: KeyPair, subject: x509.Name, key: PublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    issuer = load(authority.certificate)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(min(now + lifetime, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(_issued_by(issuer), critical=False)
    )


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str, organization: str = "fedge:nodes") -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name(name)),
        ]
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key is no P-256 key")
    return key


def _public(certificate: x509.Certificate) -> PublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError("the authority's key is no P-256 key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def utc(seconds: float) -> datetime:
    """Return a time of the epoch as certificates have it: in whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC)
