"""Telling hub what the node has: when asked, at the start, and now and then."""

import asyncio
from datetime import timedelta

import structlog

from fedge_fabric import UnavailableError
from fedge_fabric.fabric import Fabric
from fedge_meta.keeping import Keeping

log = structlog.stdlib.get_logger("fedge.meta")


class Inventory:
    """Sends inventories. One that cannot leave soon is worth nothing, so it expires."""

    def __init__(self, *, keeping: Keeping, fabric: Fabric, every: timedelta) -> None:
        self._keeping = keeping
        self._fabric = fabric
        self._every = every

    async def tell(self) -> None:
        """Tell once.

        Raises:
            UnavailableError: the edge's broker is away.
        """
        message = await self._keeping.inventory()
        await self._fabric.publish(
            message.envelope,
            exchange=message.exchange,
            routing_key=message.routing_key,
            expires_after=self._every,
        )

    async def run(self) -> None:
        """Tell at once, then every so often, until cancelled."""
        while True:
            try:
                await self.tell()
            except UnavailableError as exc:
                log.warning("inventory_not_told", reason=str(exc))
            await asyncio.sleep(self._every.total_seconds())
