"""A Redis of our own: on loopback, nothing written to disk, since it may be flushed at any moment."""

import asyncio
from pathlib import Path

from fedge_local.commands import program
from fedge_local.ports import LOOPBACK
from fedge_local.processes import Machine
from fedge_local.servers import Server

_PING = b"*1\r\n$4\r\nPING\r\n"
_PONG = b"+PONG\r\n"


class Redis(Server):
    """One redis-server (https://redis.io/docs/latest/operate/oss_and_stack/management/config/)."""

    def __init__(self, *, folder: Path, port: int) -> None:
        super().__init__(name="redis", folder=folder, place=Machine())
        self.port = port

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command."""
        options = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            "databases": "1",
            "daemonize": "no",
        }
        return [
            program("redis-server"),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]

    async def answers(self) -> bool:
        """Say whether it answers PING."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        try:
            writer.write(_PING)
            return await reader.readline() == _PONG
        except OSError:
            return False
        finally:
            writer.close()
