"""The broker's connections to the cloud, as the kernel sees them.

Reading the kernel's table costs no message and wakes nobody. It tells what the broker itself learns
only after its heartbeats were missed: that nothing is answered, and when the kernel will try again
(``/proc/net/tcp``, https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html).
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED: Final = "01"
_RETRANSMITTING: Final = "01"
_TICKS_PER_SECOND: Final = 100
"""Of the kernel's clock as it shows it to programs (USER_HZ), on all architectures of today."""
_REACHED_WITHIN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An established connection.

    Attributes:
        silent_seconds: how long the kernel waits until it sends again what was not answered; 0.0:
            nothing waits for an answer.
    """

    silent_seconds: float


class Sockets:
    """Connections to one address, and whether a new one can be made."""

    def __init__(self, *, host: str, port: int, own_port: int) -> None:
        """Describe the other end; nothing is connected.

        Args:
            host: name or address of the cloud's broker.
            port: of the cloud's broker.
            own_port: of the edge's own broker: connections to it over loopback are not meant.
        """
        self._host = host
        self._port = port
        self._own_port = own_port

    def connections(self) -> list[Connection]:
        """Return the established connections to the cloud's broker."""
        found: list[Connection] = []
        for table in _TABLES:
            try:
                text = table.read_text()
            except FileNotFoundError:
                continue  # a kernel without IPv6
            found += self._read(text)
        return found

    async def is_reachable(self) -> bool:
        """Whether the cloud's broker takes a connection right now; it is closed at once."""
        try:
            async with asyncio.timeout(_REACHED_WITHIN_SECONDS):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    def _read(self, text: str) -> Iterator[Connection]:
        suffix = f":{self._port:04X}"
        for line in text.splitlines()[1:]:
            fields = line.split()
            if not fields[2].endswith(suffix) or fields[3] != _ESTABLISHED:
                continue
            if self._port == self._own_port and _address(fields[2]).is_loopback:
                continue
            timer, when = fields[5].split(":")
            is_silent = timer == _RETRANSMITTING and int(fields[6], 16) > 0
            yield Connection(silent_seconds=int(when, 16) / _TICKS_PER_SECOND if is_silent else 0.0)


def _address(field: str) -> IPv4Address | IPv6Address:
    """Read an address of the table: words of four bytes in the machine's order (little-endian)."""
    digits = field.partition(":")[0]
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    packed = b"".join(words)
    if len(packed) == len(words[0]):
        return IPv4Address(packed)
    six = IPv6Address(packed)
    return six.ipv4_mapped or six
