"""Dialling the cloud: through a proxy if there is one, TLS with the cloud's own authority.

Servers are verified by their own names (`fedge_enrolment.names`), not by the address that is
dialled. A proxy is what ``HTTPS_PROXY`` and ``NO_PROXY`` say; it is asked to CONNECT (RFC 9110,
section 9.3.6).
"""

import base64
import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import fedge_tracing as tracing
from fedge_enrolment.names import HUB
from fedge_enrolment.refusals import RefusedError

TIMEOUT_SECONDS: Final = 10.0
_MAX_ANSWER: Final = 1024 * 1024
_MAX_HEAD: Final = 16 * 1024
PROXY_PORT: Final = 3128


class DialError(Exception):
    """The cloud cannot be reached.

    Attributes:
        step: at which step: ``dns``, ``tcp``, ``proxy``, ``tls`` or ``http``.
        detail: what happened.
        remedy: what to do.
    """

    def __init__(self, step: str, detail: str, remedy: str) -> None:
        super().__init__(f"{detail}: {remedy}")
        self.step = step
        self.detail = detail
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, default_port: int) -> "Address":
        """Read ``host``, ``host:port`` or ``[v6]:port``.

        Raises:
            ValueError: it is none of these.
        """
        try:
            parts = urlsplit(f"//{text}")
            port = parts.port
        except ValueError as exc:
            raise ValueError(f"{text!r} is no address: use host:port") from exc
        if not parts.hostname or parts.path or parts.username or parts.query:
            raise ValueError(f"{text!r} is no address: use host:port")
        return cls(parts.hostname, port or default_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the cloud said, and what time it is there; None: it did not say."""

    status: int
    body: bytes
    time: datetime | None


def context_of(
    authorities: bytes | Path, *, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """Return how to verify the cloud's servers, and as whom to come, if anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if isinstance(authorities, Path):
        context.load_verify_locations(cafile=str(authorities))
    else:
        context.load_verify_locations(cadata=authorities.decode())
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def untrusting() -> ssl.SSLContext:
    """Return a context that takes any server: for what is public and checked by a fingerprint."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def proxy_for(address: Address) -> SplitResult | None:
    """Return the proxy through which an address is reached, if any.

    Raises:
        DialError: the variable does not hold the address of one.
    """
    url = getproxies().get("https")
    if not url or proxy_bypass(address.host):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise DialError(
            "proxy", f"the proxy {url!r} cannot be used", "set HTTPS_PROXY to http://host:port"
        )
    return parts


def dial(address: Address) -> socket.socket:
    """Return a connection to an address.

    Raises:
        DialError: there is none; at which step.
    """
    proxy = proxy_for(address)
    target = address if proxy is None else Address(proxy.hostname or "", proxy.port or PROXY_PORT)
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        raise DialError(
            "dns", f"the name {target.host!r} is not known here ({exc})",
            "correct the name, or the name servers in /etc/resolv.conf",
        ) from exc  # fmt: skip
    error: OSError | None = None
    for family, kind, protocol, _, place in found:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(TIMEOUT_SECONDS)
        try:
            connection.connect(place)
            if proxy is not None:
                _ask_proxy(connection, proxy, address)
        except OSError as exc:
            connection.close()
            error = exc
        except DialError:
            connection.close()
            raise
        else:
            return connection
    if isinstance(error, TimeoutError):
        detail, remedy = "does not answer", "see that the firewall lets it out, and the line works"
    elif isinstance(error, ConnectionRefusedError):
        detail, remedy = "refuses connections", "see that the address is right and the cloud runs"
    else:
        detail, remedy = f"cannot be reached ({error})", "see that the network is there"
    raise DialError("tcp", f"{target} {detail}", remedy) from error


def secured(
    connection: socket.socket, context: ssl.SSLContext, name: str, address: Address
) -> ssl.SSLSocket:
    """Return the connection with TLS, to a server that is who it should be.

    Raises:
        DialError: it is not, or there is no agreement.
    """
    try:
        return context.wrap_socket(connection, server_hostname=name)
    except ssl.SSLCertVerificationError as exc:
        connection.close()
        raise DialError("tls", *_distrust(exc, address, name)) from exc
    except OSError as exc:
        connection.close()
        raise DialError(
            "tls", f"{address} does not speak TLS as it should ({exc})",
            "see that this is hub's port, and that nothing between ends TLS",
        ) from exc  # fmt: skip


def request(
    address: Address, context: ssl.SSLContext, method: str, path: str, body: Any = None
) -> Answer:
    """Send a request to hub.

    Raises:
        DialError: it cannot be reached.
        RefusedError: it refuses.
    """
    stream = secured(dial(address), context, HUB, address)
    connection = http.client.HTTPConnection(HUB, address.port, timeout=TIMEOUT_SECONDS)
    connection.sock = stream
    try:
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if told := tracing.traceparent():
            headers["traceparent"] = told
        connection.request(method, path, body=content, headers=headers)
        response = connection.getresponse()
        data = response.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException) as exc:
        raise DialError(
            "http", f"{address} broke off ({exc!r})", "try again; see the log of hub if it stays so"
        ) from exc
    finally:
        connection.close()
    date = response.headers.get("Date")
    answer = Answer(
        status=response.status,
        body=data,
        time=parsedate_to_datetime(date).astimezone(UTC) if date else None,
    )
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise _refusal(answer, address)
    return answer


def _refusal(answer: Answer, address: Address) -> Exception:
    try:
        problem = json.loads(answer.body)
        return RefusedError.read(dict(problem), answer.status)
    except (ValueError, TypeError):
        return DialError(
            "http", f"{address} answered {answer.status} and no reason", "is this hub's port?"
        )


def proxy_request(proxy: SplitResult, address: Address) -> bytes:
    """Return how to ask a proxy for a connection to an address."""
    lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}"]
    if proxy.username:
        account = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(account.encode()).decode()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def check_proxy_answer(answer: bytes, proxy: SplitResult, address: Address) -> None:
    """Make sure that a proxy has connected.

    Args:
        answer: the head of its answer.
        proxy: which.
        address: to which it should.

    Raises:
        DialError: it has not.
    """
    head = answer.split(b"\r\n", 1)[0].decode(errors="replace")
    words = head.split()
    if len(words) < 2 or words[1] != "200":  # noqa: PLR2004 - version and code
        raise DialError(
            "proxy", f"the proxy {proxy.hostname} does not connect to {address} ({head!r})",
            "see that it allows CONNECT to this host and port, and the account in HTTPS_PROXY",
        )  # fmt: skip


def _ask_proxy(connection: socket.socket, proxy: SplitResult, address: Address) -> None:
    connection.sendall(proxy_request(proxy, address))
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < _MAX_HEAD:
        piece = connection.recv(1)  # what follows the head is not the proxy's
        if not piece:
            break
        answer += piece
    check_proxy_answer(answer, proxy, address)


def _distrust(exc: ssl.SSLCertVerificationError, address: Address, name: str) -> tuple[str, str]:
    match exc.verify_code:
        case 9:
            return (
                f"the certificate of {address} is not valid yet",
                "set this machine's clock, best by NTP",
            )
        case 10:
            return (
                f"the certificate of {address} has expired",
                "set this machine's clock; if it is right, see why hub does not renew it",
            )
        case 62:
            return (
                f"{address} is not {name}",
                "dial hub's own port: something else answers here",
            )
        case _:
            return (
                f"{address} is not from the cloud this gateway belongs to ({exc.verify_message})",
                "dial the right cloud; something between may be ending TLS: it has to be passed on",
            )
