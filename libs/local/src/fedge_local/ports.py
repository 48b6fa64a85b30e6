"""TCP ports of this machine: free ones, and whether one that was chosen before is still ours."""

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

from fedge_local.errors import PortTakenError

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return that many different ports of the loopback address that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def check_free(port: int, *, wanted_by: str, state: Path, addresses: Iterable[str] = ()) -> None:
    """Check that a port can be bound.

    Args:
        port: the port.
        wanted_by: the process that wants it, for the message.
        state: the file that remembers it, for the message.
        addresses: further addresses that it is bound on.

    Raises:
        PortTakenError: somebody else has it.
    """
    for address in (LOOPBACK, *addresses):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as exc:
                raise PortTakenError(
                    f"port {port} on {address}, which {wanted_by} used before, is taken by another"
                    f" process: stop that process, or delete {state} and other ports are chosen"
                ) from exc
