"""Commands in containers, over a WebSocket.

The protocol is ``v4.channel.k8s.io``: the first byte of a frame is its channel.
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from fedge_cli.api import Api
from fedge_cli.errors import AwayError, CommandError

if TYPE_CHECKING:
    import ssl

PROTOCOL = Subprotocol("v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = b"\0", b"\1", b"\2", b"\3", b"\4"
_PIECE_BYTES = 32 * 1024
_OPEN_SECONDS = 30.0
_CLOSE_SECONDS = 2.0
_NO_END = "the connection ended before the command told how it had ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to run, and how."""

    command: list[str]
    container: str = ""
    stdin: bool = False
    tty: bool = False


def run_command(api: Api, path: str, wish: Wish) -> int:
    """Run a command and show what it says; return its exit code.

    Raises:
        CommandError: the server refuses.
        AwayError: the connection cannot be made, or broke before the command had ended.
    """
    parameters = [("command", each) for each in wish.command]
    if wish.container:
        parameters.append(("container", wish.container))
    parameters += [("stdout", "true"), ("stderr", "false" if wish.tty else "true")]
    parameters += [("stdin", str(wish.stdin).lower()), ("tty", str(wish.tty).lower())]
    access = api.socket_access(f"{path}?{urlencode(parameters)}")
    try:
        return asyncio.run(_run(access, wish))
    except InvalidStatus as exc:
        raise CommandError(_reason(exc.response.status_code, exc.response.body)) from exc
    except (OSError, ConnectionClosed) as exc:
        raise AwayError(f"the connection to the command broke: {exc}") from exc


class Frames(Protocol):
    """Takes and gives frames."""

    def send(self, message: bytes, /) -> None:
        """Send one."""
        ...


class _Socket(Frames):
    """A WebSocket, for threads other than its own too.

    One thread alone reads and writes it: a TLS connection must not be used by two at once
    (https://docs.python.org/3.11/library/ssl.html#ssl-nonblocking).
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._sending: set[asyncio.Task[None]] = set()

    def send(self, message: bytes, /) -> None:
        """Send one; in another thread, wait until it is sent."""
        if threading.get_ident() != self._thread:
            if self._loop.is_closed():
                raise BrokenPipeError
            asyncio.run_coroutine_threadsafe(self._send(message), self._loop).result()
            return
        task = self._loop.create_task(self._send(message), name="send")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionClosed):  # the command has ended
            await self._connection.send(message)


async def _run(access: tuple[str, dict[str, str], "ssl.SSLContext | None"], wish: Wish) -> int:
    url, headers, context = access
    async with connect(
        url,
        subprotocols=[PROTOCOL],
        additional_headers=headers,
        ssl=context,
        max_size=None,
        open_timeout=_OPEN_SECONDS,
        close_timeout=_CLOSE_SECONDS,
        proxy=None,
    ) as connection:
        with _inputs(_Socket(connection), wish):
            async for frame in connection:
                code = _take(frame)
                if code is not None:
                    return code
    raise AwayError(_NO_END)


def talk(socket: Frames, frames: Iterable[bytes | str], wish: Wish) -> int:
    """Pass on what is typed and show what comes; return the command's exit code.

    Raises:
        CommandError: the command did not run.
        AwayError: the connection ended before the command had.
    """
    with _inputs(socket, wish):
        for frame in frames:
            code = _take(frame)
            if code is not None:
                return code
    raise AwayError(_NO_END)


def _take(frame: bytes | str) -> int | None:
    """Show what a frame says; return the exit code if it says that the command has ended."""
    if not isinstance(frame, bytes) or len(frame) < 1:
        return None
    channel, content = frame[:1], frame[1:]
    if channel == _ERROR:
        return exit_code_of(content)
    if channel in (_STDOUT, _STDERR):
        _write(sys.stdout.buffer if channel == _STDOUT else sys.stderr.buffer, content)
    return None


@contextlib.contextmanager
def _inputs(socket: Frames, wish: Wish) -> Iterator[None]:
    """Pass on what is typed meanwhile."""
    if wish.stdin:
        threading.Thread(target=_type, args=(socket,), daemon=True, name="input").start()
    with _terminal(socket) if wish.tty else contextlib.nullcontext():
        yield


def _type(socket: Frames) -> None:
    # the command has ended, and with it the connection or its loop
    with contextlib.suppress(ConnectionClosed, OSError, RuntimeError, CancelledError):
        while content := os.read(sys.stdin.fileno(), _PIECE_BYTES):
            socket.send(_STDIN + content)


@contextlib.contextmanager
def _terminal(socket: Frames) -> Iterator[None]:
    """Hand each key on as it is, and tell how large the terminal is."""
    import termios  # noqa: PLC0415 - only where a terminal is asked for
    import tty  # noqa: PLC0415

    def tell(*_: object) -> None:
        size = shutil.get_terminal_size()
        with contextlib.suppress(ConnectionClosed, OSError):
            told = json.dumps({"Width": size.columns, "Height": size.lines})
            socket.send(_RESIZE + told.encode())

    tell()
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    handler = signal.signal(signal.SIGWINCH, tell)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(content)
    stream.flush()


def exit_code_of(content: bytes) -> int:
    """Return the exit code that a ``Status`` object tells.

    Raises:
        CommandError: the command did not run.
    """
    status = json.loads(content)
    if status.get("status") == "Success":
        return 0
    for cause in (status.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    raise CommandError(str(status.get("message") or "the command failed"))


def _reason(code: int, body: bytes | bytearray | None) -> str:
    text = (body or b"").decode(errors="replace").strip()
    try:
        status = json.loads(text)
        return f"Error from server ({status['reason']}): {status['message']}"
    except (ValueError, KeyError, TypeError):
        return f"the server answered {code}: {text}"
