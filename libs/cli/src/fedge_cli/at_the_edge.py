"""Logs and commands at the node itself, through edged's own socket, with no cloud."""

import json
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedge_cli.errors import AwayError
from fedge_cli.execing import Frames, Wish, talk

_LENGTH = struct.Struct("!I")


class _Connection(Frames):
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: bytes, /) -> None:
        """See ``Frames``."""
        self._connection.sendall(_LENGTH.pack(len(message)) + message)

    def frames(self) -> Iterator[bytes]:
        """Yield what edged sends until it is done."""
        with self._connection.makefile("rb") as file:
            while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
                yield file.read(_LENGTH.unpack(head)[0])


def show_logs(
    path: Path, *, namespace: str, pod: str, container: str, options: Mapping[str, str]
) -> None:
    """Print a container's log.

    Raises:
        CommandError: there is no such log.
        AwayError: edged cannot be reached.
    """
    request = {"do": "logs", "namespace": namespace, "pod": pod, "container": container}
    with _asked(path, {**request, "options": dict(options)}) as connection:
        talk(connection, connection.frames(), Wish(command=[]))


def run_command(path: Path, *, namespace: str, pod: str, wish: Wish) -> int:
    """Run a command in a container; return its exit code.

    Raises:
        CommandError: it cannot run.
        AwayError: edged cannot be reached.
    """
    request = {"do": "exec", "namespace": namespace, "pod": pod, "container": wish.container}
    how = {"command": wish.command, "stdin": wish.stdin, "tty": wish.tty}
    with _asked(path, {**request, **how}) as connection:
        return talk(connection, connection.frames(), wish)


@contextmanager
def _asked(path: Path, request: Mapping[str, Any]) -> Iterator[_Connection]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except OSError as exc:
            raise AwayError(
                f"edged's socket {path} cannot be reached: {exc.strerror}; run this as root on the "
                "node, and check that edged runs"
            ) from exc
        connection.sendall(json.dumps(request).encode() + b"\n")
        try:
            yield _Connection(connection)
        except ConnectionError as exc:
            raise AwayError(f"the connection to edged broke: {exc}") from exc
