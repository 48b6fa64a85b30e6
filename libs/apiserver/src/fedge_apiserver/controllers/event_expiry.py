"""Deletes events that are older than they are kept."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

import msgspec

from fedge_apiserver.errors import ApiError
from fedge_apiserver.registry import DeleteOptions, Registry
from fedge_apiserver.resources import EVENTS

_ROUND_SECONDS: Final = 60.0


class _Meta(msgspec.Struct):
    creationTimestamp: str = ""  # noqa: N815 - the field's name


class _Event(msgspec.Struct):
    metadata: _Meta
    lastTimestamp: str | None = None  # noqa: N815


_glance: Final = msgspec.json.Decoder(_Event).decode


class EventExpiry:
    """Looks through the events once a minute."""

    def __init__(self, registry: Registry, ttl_seconds: float) -> None:
        self._registry = registry
        self._ttl = timedelta(seconds=ttl_seconds)

    async def run(self) -> None:
        """Delete until cancelled."""
        while True:
            await self.expire()
            await asyncio.sleep(_ROUND_SECONDS)

    async def expire(self) -> None:
        """Delete the events that are too old now."""
        oldest = self._registry.now() - self._ttl
        for entry in list(self._registry.store.select(EVENTS.storage)):
            event = _glance(entry.body)
            seen = event.lastTimestamp or event.metadata.creationTimestamp
            if datetime.fromisoformat(seen) < oldest:
                try:
                    await self._registry.delete(
                        EVENTS, entry.namespace, entry.name, DeleteOptions()
                    )
                except ApiError as exc:
                    if exc.reason != "NotFound":
                        raise
