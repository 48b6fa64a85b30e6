"""Where the API answers, and the files by which others find it and trust it.

In the folder ``api`` of the edge's data folder: ``endpoint.json`` (address and port, for edged,
which tells them to pods), ``ca.crt`` (for pods), ``kubeconfig`` (for root at the gateway) and
``pki``, the server's own. What is missing or runs out is made by a process of its own: what it
needs for keys and certificates takes memory that a gateway has better uses for.
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import msgspec

FOLDER: Final = "api"
LOOPBACK: Final = "127.0.0.1"
_ENDPOINT: Final = "endpoint.json"
_MAKE_SECONDS: Final = 60.0
RENEW_DAYS: Final = 180
"""The certificate is looked at anew at the first start after so long; it holds for longer."""
DAY_SECONDS: Final = 86400.0

_NEW_ADDRESS: Final = 20
_REQUEST_ACKNOWLEDGED_CREATE: Final = 0x1 | 0x4 | 0x400
_LOCAL, _ADDRESS = 2, 1
_PERMANENT: Final = 0x80
_HOST_SCOPE: Final = 254
_HEADER: Final = struct.Struct("=IHHII")
_EXISTS: Final = -17


class EndpointError(Exception):
    """The API's files cannot be made; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the API answers.

    Attributes:
        address: that pods reach; empty: they do not.
        port: at that address and at 127.0.0.1.
        renew_after: seconds since the epoch from which on the files are looked at anew.
    """

    address: str
    port: int
    renew_after: float = 0.0

    @property
    def names(self) -> list[str]:
        """What the server's certificate holds for."""
        inside = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        return [*filter(None, ("localhost", LOOPBACK, self.address)), *inside]


class ApiFolder:
    """The API's files."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FOLDER
        self.kubeconfig = self.path / "kubeconfig"
        self.pki = self.path / "pki"
        self.issuers = self.path / "issuers.json"

    @property
    def endpoint(self) -> Endpoint | None:
        """What the folder says; None if nothing, or nothing that can be read."""
        try:
            return msgspec.json.decode((self.path / _ENDPOINT).read_bytes(), type=Endpoint)
        except (OSError, msgspec.MsgspecError):
            return None

    async def prepare(self, address: str, port: int) -> None:
        """Make what is missing, runs out or says something else.

        Raises:
            EndpointError: it cannot be made.
        """
        held = self.endpoint
        if held is not None and (held.address, held.port) == (address, port):
            left = held.renew_after - time.time()
            # more than was given: the clock was ahead then
            if 0 < left < RENEW_DAYS * DAY_SECONDS and self.kubeconfig.exists():
                return
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "fedge_meta.api", str(self.path), address, str(port)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_MAKE_SECONDS):
                _, said = await process.communicate()
        except TimeoutError as exc:
            raise EndpointError(f"it took longer than {_MAKE_SECONDS:.0f} s") from exc
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode:
            raise EndpointError(said.decode(errors="replace").strip()[-1000:])

    def make(self, endpoint: Endpoint) -> None:
        """Make the files, in this process.

        Raises:
            OSError, ValueError: the folder cannot be used.
        """
        from fedge_apiserver.security import (  # noqa: PLC0415 - megabytes
            load_credentials,
            make_kubeconfig,
            write_private,
        )

        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        credentials = load_credentials(self.pki, endpoint.names)
        url = f"https://{LOOPBACK}:{endpoint.port}"
        write_private(self.kubeconfig, make_kubeconfig(url, credentials))
        write_private(self.path / "ca.crt", credentials.authority)
        # last: whoever sees it finds the others
        write_private(self.path / _ENDPOINT, json.dumps(asdict(endpoint)).encode())


def take_address(address: str) -> None:
    """Give the loopback interface an IPv4 address, unless it has it.

    Pods reach it by their default route, as they do a node-local DNS cache, whatever plugin made
    their network (rtnetlink(7), https://man7.org/linux/man-pages/man7/rtnetlink.7.html).

    Raises:
        OSError: it may not be given.
        ValueError: it is no IPv4 address.
    """
    try:
        packed = socket.inet_pton(socket.AF_INET, address)
    except OSError as exc:
        raise ValueError(f"{address!r} is no IPv4 address") from exc
    index = socket.if_nametoindex("lo")
    body = struct.pack("=BBBBI", socket.AF_INET, 32, _PERMANENT, _HOST_SCOPE, index)
    for kind in (_LOCAL, _ADDRESS):
        body += struct.pack("=HH", 4 + len(packed), kind) + packed
    head = _HEADER.pack(
        _HEADER.size + len(body), _NEW_ADDRESS, _REQUEST_ACKNOWLEDGED_CREATE | 0x200, 1, 0
    )
    with contextlib.closing(
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    ) as kernel:
        kernel.send(head + body)
        answer = kernel.recv(4096)
    (error,) = struct.unpack_from("=i", answer, _HEADER.size)
    if error not in (0, _EXISTS):
        raise OSError(-error, f"the address {address} cannot be given to the interface lo")
