"""The spans of joining: made before there was a broker to send them by, and sent once by meta."""

import asyncio
import base64
from pathlib import Path

import structlog

from fedge_fabric import Address, Envelope, MessageClass, UnavailableError, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_objects import NodeName
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.meta")

MOST_BYTES = 64 * 1024


async def send_join_spans(fabric: Fabric, node: NodeName, file: Path) -> None:
    """Send what the file holds, and remove it when the broker has it."""
    try:
        body = await asyncio.to_thread(file.read_bytes)
    except OSError as exc:
        log.warning("join_spans_lost", file=str(file), reason=str(exc))
        return
    if len(body) > MOST_BYTES:
        log.warning("join_spans_lost", file=str(file), reason=f"it has {len(body)} bytes")
        body = b""
    async for _ in backoff(first_seconds=0.5, most_seconds=30):
        try:
            await fabric.publish(
                Envelope(
                    type=kinds.SPANS_ENDED,
                    source=f"/node/{node}/meta",
                    data={
                        "otlp": base64.b64encode(body).decode(),
                        "spans": 0,
                        "dropped": 0,
                    },
                ),
                exchange=t.UP,
                routing_key=str(Address(node, MessageClass.SPANS, ("join",))),
            )
        except UnavailableError as exc:
            log.info("spans_wait", reason=str(exc))
        else:
            break
    await asyncio.to_thread(file.unlink, missing_ok=True)
