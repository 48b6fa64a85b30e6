"""The server's certificates, its token and the administrator's kubeconfig.

Made once, kept in the data folder: a kubeconfig that was handed out stays good. Files are written
beside their place and moved there, so that nobody ever reads half of one.
"""

import base64
import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_DAYS: Final = 3650
_SERVER_DAYS: Final = 825
_RENEW_DAYS: Final = 60
_BACKDATED: Final = timedelta(hours=1)
"""A certificate is valid from a while ago: clients' clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where the server's secrets lie, and the token.

    Attributes:
        authority: the CA's certificate, PEM.
        authority_file: where it lies.
        certificate: file of the server's certificate.
        key: file of its key.
        token: the administrator's bearer token.
    """

    authority: bytes
    authority_file: Path
    certificate: Path
    key: Path
    token: str

    def __repr__(self) -> str:
        return f"Credentials(certificate={str(self.certificate)!r})"


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load_credentials(folder: Path, names: list[str]) -> Credentials:
    """Return the secrets in a folder; what is missing or runs out soon is made.

    Args:
        folder: of its own; made if it is not there.
        names: host names and addresses that the server's certificate must hold for.

    Raises:
        OSError: the folder cannot be read or written.
        ValueError: a file in it is no certificate or key.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_file, authority_key_file = folder / "ca.crt", folder / "ca.key"
    if not (authority_file.exists() and authority_key_file.exists()):
        _make_authority(authority_file, authority_key_file)
    authority = x509.load_pem_x509_certificate(authority_file.read_bytes())
    certificate_file, key_file = folder / "server.crt", folder / "server.key"
    if not _is_good(certificate_file, key_file, authority, names):
        signing_key = _load_key(authority_key_file)
        _make_server(certificate_file, key_file, authority, signing_key, names)
    token_file = folder / "token"
    if not token_file.exists():
        write_private(token_file, secrets.token_urlsafe(32).encode())
    return Credentials(
        authority=authority_file.read_bytes(),
        authority_file=authority_file,
        certificate=certificate_file,
        key=key_file,
        token=token_file.read_text().strip(),
    )


def make_client(folder: Path, user: str, groups: Sequence[str], days: int) -> tuple[bytes, bytes]:
    """Return a client's certificate, signed by the CA in ``folder``, and its key; both PEM.

    Args:
        folder: of the server's secrets.
        user: common name: who the client is.
        groups: organizations: the groups that roles may be bound to.
        days: how long the certificate is valid.

    Raises:
        OSError: the CA cannot be read.
        ValueError: the folder holds another kind of key, or the name is too long.
    """
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    signing_key = _load_key(folder / "ca.key")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups),
            x509.NameAttribute(NameOID.COMMON_NAME, user),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
        .sign(signing_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def make_kubeconfig(url: str, credentials: Credentials) -> bytes:
    """Return a kubeconfig for the administrator.

    https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
    """
    authority = base64.b64encode(credentials.authority).decode()
    return f"""\
apiVersion: v1
kind: Config
clusters:
- name: fedge
  cluster:
    server: {url}
    certificate-authority-data: {authority}
users:
- name: fedge-admin
  user:
    token: {credentials.token}
contexts:
- name: fedge
  context:
    cluster: fedge
    user: fedge-admin
    namespace: default
current-context: fedge
""".encode()


def _load_key(file: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key
    raise ValueError(f"{file} holds another kind of key than this one makes")


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _make_authority(certificate_file: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("fedge-apiserver-ca"))
        .issuer_name(_name("fedge-apiserver-ca"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(key_file, _pem(key))
    write_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM))


def _make_server(
    certificate_file: Path,
    key_file: Path,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: list[str],
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name("fedge-apiserver"))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=_SERVER_DAYS))
        .add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    write_private(key_file, _pem(key))
    write_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _is_good(
    certificate_file: Path, key_file: Path, authority: x509.Certificate, names: list[str]
) -> bool:
    if not (certificate_file.exists() and key_file.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    # A cut between the two writes leaves an old certificate beside a new key.
    is_pair = key.public_key() == certificate.public_key()
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    is_fresh = certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=_RENEW_DAYS)
    is_ours = certificate.issuer == authority.subject
    return is_pair and is_fresh and is_ours and set(map(_alternative, names)) <= set(held)
