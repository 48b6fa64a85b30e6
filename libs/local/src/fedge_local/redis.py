"""A Redis of our own: own port, append-only file in its own folder.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/.
"""

import asyncio
from pathlib import Path

from fedge_local.commands import program
from fedge_local.processes import Place
from fedge_local.servers import Server

_ANSWER_SECONDS = 2.0


class Redis(Server):
    """One Redis on the loopback address."""

    def __init__(self, *, folder: Path, place: Place, port: int) -> None:
        super().__init__(name="redis", folder=folder, place=place)
        self._port = port

    @property
    def url(self) -> str:
        """How clients reach it."""
        return f"redis://127.0.0.1:{self._port}/0"

    def command(self) -> list[str]:
        """Return the command."""
        return [
            program("redis-server"), "--bind", "127.0.0.1", "--port", str(self._port),
            "--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "everysec",
            "--save", "", "--daemonize", "no",
        ]  # fmt: skip

    async def answers(self) -> bool:
        """Say whether it answers a ping; while it loads its file it does not."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                connection = await self._place.connect("127.0.0.1", self._port)
                reader, writer = await asyncio.open_connection(sock=connection)
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
