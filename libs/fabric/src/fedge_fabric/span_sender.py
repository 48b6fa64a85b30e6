"""The spans of this process, sent up through the broker: no other connection is opened for them."""

import asyncio
import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
from opentelemetry.sdk.trace import ReadableSpan

import fedge_tracing as tracing
from fedge_fabric import kinds, topology
from fedge_fabric.addresses import Address, MessageClass, encode_word
from fedge_fabric.envelope import Envelope
from fedge_fabric.errors import FabricError
from fedge_objects import NodeName
from fedge_service import backoff

if TYPE_CHECKING:
    from fedge_fabric.fabric import Fabric

log = structlog.stdlib.get_logger("fedge.fabric")

SETTLE_SECONDS = 1.0
"""So long the first span waits for others, at most."""
FLUSH_SECONDS = 2.0


class SpanSender:
    """Sends what waits in the buffer. Several of one process share its spans out among them."""

    def __init__(self, fabric: "Fabric", buffer: tracing.SpanBuffer, *, service: str) -> None:
        """Take the way, and what is sent."""
        self._fabric = fabric
        self._buffer = buffer
        state = tracing.state()
        node = state.node if state is not None else ""
        self._source = f"/node/{node}/{service}" if node else f"/cloud/{service}"
        self._routing_key = (
            str(Address(NodeName(node), MessageClass.SPANS, (service,)))
            if node
            else f"cloud.{MessageClass.SPANS}.{encode_word(service)}"
        )

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            spans, dropped = await self._buffer.take(within_seconds=SETTLE_SECONDS)
            try:
                await self._send_until_taken(spans, dropped)
            except asyncio.CancelledError:
                self._buffer.give_back(spans, dropped)
                raise

    async def _send_until_taken(self, spans: Sequence[ReadableSpan], dropped: int) -> None:
        async for _ in backoff(first_seconds=0.5, most_seconds=10):
            try:
                await self._send(spans, dropped)
            except FabricError as exc:
                # meanwhile more come to wait, as many as there is room for
                log.info("spans_wait", spans=len(spans), reason=str(exc))
            else:
                return

    async def flush(self) -> None:
        """Send what is left, if that goes at once; else count it as dropped."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                while len(self._buffer):
                    await self._send(*self._buffer.take_now())
        except (FabricError, TimeoutError) as exc:
            log.info("spans_lost", reason=str(exc) or type(exc).__name__)

    async def _send(self, spans: Sequence[ReadableSpan], dropped: int) -> None:
        try:
            body = tracing.encode(spans)
        except Exception:
            # telemetry never stops anything: these are lost, and the log says why
            log.exception("spans_not_encoded", spans=len(spans))
            body, dropped = b"", dropped + len(spans)
        await self._fabric.publish(
            Envelope(
                type=kinds.SPANS_ENDED,
                source=self._source,
                data={
                    "otlp": base64.b64encode(body).decode(),
                    "spans": len(spans),
                    "dropped": dropped,
                },
            ),
            exchange=topology.UP,
            routing_key=self._routing_key,
        )
