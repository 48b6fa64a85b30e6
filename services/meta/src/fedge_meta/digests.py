"""Telling hub what the node has: at the start, when asked, and now and then.

A hash of all of it, unless hub asks for more because its own differs.
"""

import asyncio
from collections.abc import Collection
from datetime import timedelta

import structlog

from fedge_fabric import UnavailableError
from fedge_fabric.fabric import Fabric
from fedge_meta.keeping import Keeping

log = structlog.stdlib.get_logger("fedge.meta")


class Digests:
    """Sends digests. One that cannot leave soon is worth nothing, so it expires."""

    def __init__(self, *, keeping: Keeping, fabric: Fabric, every: timedelta) -> None:
        self._keeping = keeping
        self._fabric = fabric
        self._every = every
        self._due = asyncio.Event()

    async def tell(self, prefixes: Collection[str] | None = None) -> None:
        """Tell once, of these branches or of the whole.

        Raises:
            UnavailableError: the edge's broker is away.
        """
        message = await self._keeping.digest(prefixes)
        await self._fabric.publish(
            message.envelope,
            exchange=message.exchange,
            routing_key=message.routing_key,
            expires_after=self._every,
        )

    def hurry(self) -> None:
        """Have the next one told at once."""
        self._due.set()

    async def run(self) -> None:
        """Tell at once, then every so often, until cancelled."""
        while True:
            self._due.clear()
            try:
                await self.tell()
            except UnavailableError as exc:
                log.warning("digest_not_told", reason=str(exc))
            try:
                async with asyncio.timeout(self._every.total_seconds()):
                    await self._due.wait()
            except TimeoutError:
                continue
