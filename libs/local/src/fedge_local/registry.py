"""A registry of images of our own, as Debian packages it.

Source: https://distribution.github.io/distribution/about/configuration/.
"""

import asyncio
import json
from pathlib import Path

from fedge_local.commands import program
from fedge_local.processes import Place
from fedge_local.servers import Server

_ANSWER_SECONDS = 2.0


class Registry(Server):
    """One registry that speaks plain HTTP; with a password file it asks who is there."""

    def __init__(
        self, *, folder: Path, place: Place, address: str, port: int, htpasswd: Path | None = None
    ) -> None:
        """Describe it.

        Args:
            folder: of its files.
            place: where it runs.
            address: it listens on.
            port: it listens on.
            htpasswd: users and bcrypt hashes; None lets everybody in.
        """
        super().__init__(name="registry", folder=folder, place=place)
        self._address = address
        self._port = port
        self._htpasswd = htpasswd

    @property
    def host(self) -> str:
        """The part of an image's name before the first slash."""
        return f"{self._address}:{self._port}"

    async def prepare(self) -> None:
        """Write its configuration, which may be JSON as all YAML may."""
        configuration: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / "data")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.host},
        }
        if self._htpasswd is not None:
            configuration["auth"] = {"htpasswd": {"realm": "fedge", "path": str(self._htpasswd)}}
        (self.folder / "config.yml").write_text(json.dumps(configuration))

    def command(self) -> list[str]:
        """Return the command."""
        return [program("docker-registry"), "serve", str(self.folder / "config.yml")]

    async def answers(self) -> bool:
        """Say whether it speaks HTTP, be it to say that one must log in."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                connection = await self._place.connect(self._address, self._port)
                reader, writer = await asyncio.open_connection(sock=connection)
                try:
                    writer.write(f"GET /v2/ HTTP/1.0\r\nHost: {self.host}\r\n\r\n".encode())
                    return (await reader.readline()).startswith(b"HTTP/1.")
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
