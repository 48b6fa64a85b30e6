"""Telling hub what became of the objects that a node was given.

One word per object and version; many that come together are one message. What was told is kept, in
memory, to be told again when hub has lost it.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from fedge_fabric import kinds
from fedge_fabric.addresses import Address, MessageClass
from fedge_fabric.envelope import Envelope
from fedge_fabric.errors import UnavailableError
from fedge_fabric.topology import UP
from fedge_objects import NodeName, ObjectKey, Version
from fedge_service import backoff

if TYPE_CHECKING:
    from fedge_fabric.fabric import Fabric

log = structlog.stdlib.get_logger("fedge.fabric")

TOGETHER_SECONDS = 0.2
"""How long the first word waits for others."""
MOST_TOGETHER = 500
MAX_REASON = 512


class Effects:
    """What one edge service knows of the objects it acts on."""

    def __init__(self, node: NodeName, service: str) -> None:
        self._node = node
        self._service = service
        self._known: dict[ObjectKey, dict[str, str]] = {}
        self._untold: dict[ObjectKey, None] = {}
        self._news = asyncio.Event()

    def applied(self, key: ObjectKey, version: Version) -> None:
        """Take note that a version is in effect."""
        self._note(key, {"version": str(version), "state": "applied", "reason": ""})

    def failed(self, key: ObjectKey, version: Version, reason: str) -> None:
        """Take note that a version is not in effect, and why."""
        word = {"version": str(version), "state": "failed", "reason": reason[:MAX_REASON]}
        self._note(key, word)

    def tell_again(self) -> None:
        """Have all told anew."""
        self._untold = dict.fromkeys(self._known)
        self._news.set()

    async def run(self, fabric: "Fabric") -> None:
        """Tell until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(TOGETHER_SECONDS)
            self._news.clear()
            while self._untold:
                batch = list(self._untold)[:MOST_TOGETHER]
                for key in batch:
                    del self._untold[key]
                await self._tell(fabric, batch)

    async def _tell(self, fabric: "Fabric", batch: list[ObjectKey]) -> None:
        async for _ in backoff(first_seconds=0.2, most_seconds=5):
            told: dict[str, Any] = {str(key): self._known[key] for key in batch}
            try:
                await fabric.publish(
                    Envelope(
                        type=kinds.OBJECTS_APPLIED,
                        source=f"/node/{self._node}/{self._service}",
                        data={"objects": told},
                    ),
                    exchange=UP,
                    routing_key=str(Address(self._node, MessageClass.STATE, ("applied",))),
                )
            except UnavailableError as exc:
                log.info("effects_wait", objects=len(batch), reason=str(exc))
            else:
                return

    def _note(self, key: ObjectKey, word: dict[str, str]) -> None:
        if self._known.get(key) != word:
            self._known[key] = word
            self._untold[key] = None
            self._news.set()
