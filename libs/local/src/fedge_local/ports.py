"""Ports of one machine: chosen free once, then kept, so that addresses stay what they were."""

import socket
from collections.abc import Iterable
from pathlib import Path

from fedge_local.errors import LocalError, PortTakenError

_FIRST = 20_000  # below the range from which the kernel gives ports to outgoing connections
_BLOCKS = 1_000
_BLOCK = 10
_LAST = _FIRST + _BLOCKS * _BLOCK


def choose(names: Iterable[str], *, seed: int, taken: Iterable[int] = ()) -> dict[str, int]:
    """Choose a free port of the loopback address for each name.

    Args:
        names: what the ports are for.
        seed: where to begin to look; different stacks begin at different places.
        taken: ports that are spoken for.

    Raises:
        LocalError: there are not enough.
    """
    used = set(taken)
    chosen: dict[str, int] = {}
    start = _FIRST + seed % _BLOCKS * _BLOCK
    candidates = iter([*range(start, _LAST), *range(_FIRST, start)])
    for name in names:
        for port in candidates:
            if port not in used and is_free(port):
                chosen[name] = port
                break
        else:
            raise LocalError(f"no port between {_FIRST} and {_LAST} is free for {name!r}")
    return chosen


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def require_free(name: str, port: int, *, remembered_in: Path) -> None:
    """Make sure that the server ``name`` can listen on the port that it was given before.

    Raises:
        PortTakenError: another process has it; with the remedy.
    """
    if not is_free(port):
        raise PortTakenError(
            f"port {port}, which {name} had before, is in use by another process: stop that"
            f" process, or remove {remembered_in} to have new ports chosen"
        )
