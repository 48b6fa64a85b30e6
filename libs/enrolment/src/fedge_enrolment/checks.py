"""Checks of a gateway: what joining and running need, each with its cause and its remedy.

Nothing is changed by them, and nothing secret is said to whoever answers.
"""

import os
import shutil
import socket
import ssl
import stat
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from fedge_enrolment.dialling import Address, DialError, context_of, dial, request, secured
from fedge_enrolment.identity import Identity, IdentityError, Joined
from fedge_enrolment.joining import ClockError, FakeCloudError, check_clock, fetch_authority
from fedge_enrolment.names import BROKER, BROKER_PORT, ENROLMENT_PORT
from fedge_enrolment.refusals import RefusedError
from fedge_enrolment.tokens import JoinToken

MEGABYTE: Final = 1024 * 1024
DISK_NEEDED_BYTES: Final = 256 * MEGABYTE
DISK_WANTED_BYTES: Final = 2048 * MEGABYTE
CONTROLLERS: Final = ("cpu", "memory", "pids")
_GREETING: Final = b"AMQP\x00\x00\x09\x01"
_METHOD: Final = 1
_END: Final = b"\xce"
_START: Final = (10, 10)
_START_OK: Final = (10, 11)
_TUNE: Final = (10, 30)
_CLOSE: Final = (10, 50)
_EXTERNAL: Final = b"\x08EXTERNAL" + bytes(4) + b"\x05en_US"
"""Mechanism, an empty response, and the language of messages."""
_MAX_FRAME: Final = 1024 * 1024
_HEAD: Final = struct.Struct(">BHI")


class Level(StrEnum):
    """How a check came out."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        name: what was looked at.
        level: how it came out.
        detail: what was found.
        remedy: what to do; empty where nothing is to be done.
    """

    name: str
    level: Level
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where a gateway has what fedge needs.

    Attributes:
        data: folder of the edge's data.
        runtime: socket of the container runtime (CRI); None: it is not looked at.
        cgroups: where the kernel shows control groups.
        broker: ``host:port`` of the gateway's own broker; empty: it is not looked at.
    """

    data: Path
    runtime: Path | None = Path("/run/containerd/containerd.sock")
    cgroups: Path = Path("/sys/fs/cgroup")
    broker: str = ""


def ok(name: str, detail: str) -> Check:
    """Return a check that came out well."""
    return Check(name=name, level=Level.OK, detail=detail)


def warn(name: str, detail: str, remedy: str) -> Check:
    """Return a check of what works and will not for ever, or not well."""
    return Check(name=name, level=Level.WARN, detail=detail, remedy=remedy)


def fail(name: str, detail: str, remedy: str) -> Check:
    """Return a check of what does not work."""
    return Check(name=name, level=Level.FAIL, detail=detail, remedy=remedy)


def before_joining(token: JoinToken, machine: Machine, *, cloud: str = "") -> Iterator[Check]:
    """Check what joining needs; ends with the first failure that hides all others.

    Args:
        token: that the gateway was handed.
        machine: the gateway.
        cloud: ``host:port`` to dial in place of the token's.
    """
    yield from of_machine(machine)
    left = token.expires - time.time()
    if left <= 0:
        # maybe: the clock is checked below
        yield warn("token", f"ended {-left / 60:.0f} min ago", "make another: `fedge token create`")
    else:
        yield ok("token", f"good for another {left / 60:.0f} min")
    try:
        address = Address.parse(cloud or token.cloud, ENROLMENT_PORT)
        _, there = fetch_authority(address, token)
    except ValueError as exc:
        yield fail("cloud", str(exc), "give --cloud host:port")
        return
    except DialError as exc:
        yield fail(_STEPS[exc.step], exc.detail, exc.remedy)
        return
    except FakeCloudError as exc:
        detail, _, remedy = str(exc).partition(": ")
        yield fail("cloud", detail, remedy)
        return
    yield ok("cloud", f"{address} is the cloud that made the token")
    yield _clock(there)


def of_gateway(identity: Identity, machine: Machine) -> Iterator[Check]:
    """Check a gateway that has joined, or should have."""
    yield from of_machine(machine)
    try:
        joined = identity.joined()
    except IdentityError as exc:
        detail, _, remedy = str(exc).rpartition(": ")
        yield fail("identity", detail, remedy)
        return
    if joined is None:
        yield fail(
            "identity",
            f"{identity.folder} holds none: this gateway has not joined",
            "join: `fedge token create` in the cloud, `fedge join TOKEN` here",
        )
        return
    yield from _files(identity, joined)
    yield _certificate(joined)
    yield from _cloud(identity, joined)
    if machine.broker:
        yield _own_broker(machine.broker)


def of_machine(machine: Machine) -> Iterator[Check]:
    """Check the disk, the container runtime and control groups."""
    yield _disk(machine.data)
    if machine.runtime is not None:
        yield _runtime(machine.runtime)
    yield _cgroups(machine.cgroups)


def login(address: Address, identity: Identity) -> None:
    """Log in at the cloud's broker with the gateway's certificate, and out again.

    Raises:
        DialError: the broker cannot be reached, or is another.
        RefusedError: it does not let the gateway in.
    """
    context = context_of(identity.authorities, certificate=identity.certificate, key=identity.key)
    with secured(dial(address), context, BROKER, address) as stream:
        try:
            stream.sendall(_GREETING)
            _expect(stream, _START)
            arguments = struct.pack(">HHI", *_START_OK, 0) + _EXTERNAL
            stream.sendall(_HEAD.pack(_METHOD, 0, len(arguments)) + arguments + _END)
            _expect(stream, _TUNE)
        except (OSError, EOFError) as exc:
            raise RefusedError(
                "login_refused",
                0,
                f"{address} does not let this gateway in ({str(exc) or 'it hung up'})",
                "see `fedge node list` in the cloud: it may be revoked, its certificate over, or "
                "another gateway in its place",
            ) from exc


_STEPS: Final = {
    "dns": "name",
    "tcp": "connection",
    "proxy": "proxy",
    "tls": "tls",
    "http": "cloud",
}


def _disk(folder: Path) -> Check:
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    detail = f"{free // MEGABYTE} MiB free at {there}"
    if not os.access(there, os.W_OK):
        return fail("disk", f"{there} cannot be written", "run this as root, or mount it writable")
    if free < DISK_NEEDED_BYTES:
        return fail("disk", detail, f"free at least {DISK_NEEDED_BYTES // MEGABYTE} MiB")
    if free < DISK_WANTED_BYTES:
        remedy = "images and what waits for the cloud want more: give the edge its own disk"
        return warn("disk", detail, remedy)
    return ok("disk", detail)


def _runtime(path: Path) -> Check:
    name = "container runtime"
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(5)
    try:
        connection.connect(str(path))
    except FileNotFoundError:
        remedy = "install and start containerd, or say where its socket is with --runtime"
        return fail(name, f"there is no {path}", remedy)
    except OSError as exc:
        remedy = "start containerd; run this as root"
        return fail(name, f"{path} does not answer ({exc.strerror or exc})", remedy)
    finally:
        connection.close()
    return ok(name, f"answers at {path}")


def _cgroups(root: Path) -> Check:
    unified = root / "cgroup.controllers"
    try:
        if unified.exists():
            there, version = set(unified.read_text().split()), "v2"
        else:
            there, version = {each.name for each in root.iterdir()}, "v1"
            there |= {part for each in there for part in each.split(",")}
    except OSError as exc:
        return fail("cgroups", f"{root} cannot be read ({exc.strerror})", "mount control groups")
    missing = [each for each in CONTROLLERS if each not in there]
    if missing:
        remedy = "boot the kernel with `cgroup_enable=memory cgroup_memory=1`, or what it lacks"
        return fail("cgroups", f"{version}, without {', '.join(missing)}", remedy)
    return ok("cgroups", f"{version}, with {', '.join(CONTROLLERS)}")


def _clock(there: datetime | None) -> Check:
    try:
        ahead = check_clock(there)
    except ClockError as exc:
        detail, _, remedy = str(exc).rpartition(": ")
        return fail("clock", detail, remedy)
    return ok("clock", f"{ahead.total_seconds():+.0f} s from the cloud's")


def _files(identity: Identity, joined: Joined) -> Iterator[Check]:
    for path in (identity.key, identity.certificate, identity.authorities):
        if not path.exists():
            yield fail("identity", f"{path} is not there", "restore it, or join again")
            return
    if not identity.sealing_key.exists():
        remedy = f"put it back, or move {identity.folder} away and join again"
        yield fail("identity", f"{identity.sealing_key}, which opens Secrets, is not there", remedy)
        return
    for path in (identity.folder, identity.key, identity.sealing_key):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield fail("identity", f"others can read {path}", f"chmod go= {path}")
            return
    yield ok("identity", f"node {joined.node}")


def _certificate(joined: Joined) -> Check:
    left = joined.expires - time.time()
    end = f"{datetime.fromtimestamp(joined.expires, UTC):%Y-%m-%d %H:%M} UTC"
    if left <= 0:
        remedy = "let it reach the cloud: it is renewed then; see --identity and the log of meta"
        return fail("certificate", f"ended {end}", remedy)
    if time.time() > joined.renew_after:
        remedy = "let it reach the cloud, by its enrolment port too; see the log of meta"
        return warn("certificate", f"ends {end} and should be renewed by now", remedy)
    return ok("certificate", f"valid until {end}")


def _cloud(identity: Identity, joined: Joined) -> Iterator[Check]:
    hub = Address.parse(joined.cloud, ENROLMENT_PORT)
    try:
        answer = request(hub, context_of(identity.authorities), "GET", "/healthz")
    except (DialError, RefusedError, OSError, ssl.SSLError) as exc:
        step = _STEPS[exc.step] if isinstance(exc, DialError) else "cloud"
        remedy = exc.remedy if isinstance(exc, DialError | RefusedError) else "join again"
        detail = exc.detail if isinstance(exc, DialError | RefusedError) else str(exc)
        yield fail(step, detail, remedy)
    else:
        yield ok("cloud", f"hub answers at {hub}")
        yield _clock(answer.time)
    broker = Address.parse(joined.broker, BROKER_PORT)
    yield _asked("broker login", f"{broker} lets this gateway in", lambda: login(broker, identity))


def _own_broker(text: str) -> Check:
    address = Address.parse(text, 5672)
    try:
        socket.create_connection((address.host, address.port), 5).close()
    except OSError as exc:
        remedy = "see the log of RabbitMQ on this gateway"
        return fail("own broker", f"{address} does not answer ({exc})", remedy)
    return ok("own broker", f"answers at {address}")


def _asked(name: str, detail: str, ask: Callable[[], None]) -> Check:
    try:
        ask()
    except (DialError, RefusedError) as exc:
        return fail(name, exc.detail, exc.remedy)
    except (OSError, ssl.SSLError) as exc:
        return fail(name, str(exc), "see that the identity's files are whole, or join again")
    return ok(name, detail)


def _expect(stream: ssl.SSLSocket, wanted: tuple[int, int]) -> None:
    """Read a frame, which must be this method.

    Raises:
        OSError: it is another; with what the broker says.
        EOFError: the broker hung up.
    """
    kind, _, size = _HEAD.unpack(_read(stream, _HEAD.size))
    if kind != _METHOD or not 4 <= size <= _MAX_FRAME:  # noqa: PLR2004 - class and method
        raise OSError("it does not speak AMQP 0-9-1")
    payload = _read(stream, size + 1)
    method = struct.unpack(">HH", payload[:4])
    if method == _CLOSE:
        raise OSError(payload[7 : 7 + payload[6]].decode(errors="replace"))
    if method != wanted:
        raise OSError(f"it said {method}")


def _read(stream: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
