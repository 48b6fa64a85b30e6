"""From the outbox to the broker, in order, until the broker has it."""

import asyncio

import structlog

from fedge_fabric import InvalidError, UnavailableError
from fedge_fabric.fabric import Fabric
from fedge_meta.keeping import Keeping
from fedge_service import backoff
from fedge_store import ObjectStore, Outgoing, OutgoingRow

log = structlog.stdlib.get_logger("fedge.meta")

BATCH = 64


async def relay(store: ObjectStore, keeping: Keeping, fabric: Fabric) -> None:
    """Publish what waits, a batch at a time, until cancelled.

    A batch is dropped from the outbox when the broker has confirmed all of it; a process that ends
    before that publishes it once more, which its readers know by the ids and versions.
    """
    while True:
        rows = await store.waiting(BATCH)
        async for _ in backoff(first_seconds=0.1, most_seconds=5):
            try:
                await _publish(rows, keeping, fabric)
            except UnavailableError as exc:
                log.warning("relaying_again", rows=len(rows), reason=str(exc))
            else:
                break
        async for _ in backoff(first_seconds=0.1, most_seconds=5):
            try:
                await store.forget_until(rows[-1].id)
            except UnavailableError as exc:
                log.warning("outbox_not_emptied", rows=len(rows), reason=str(exc))
            else:
                break


async def _publish(rows: list[OutgoingRow], keeping: Keeping, fabric: Fabric) -> None:
    """Publish side by side and wait for all.

    Raises:
        UnavailableError: one was not confirmed.
    """
    messages = [await keeping.in_full(row.message) for row in rows]
    results = await asyncio.gather(
        *(_publish_one(message, fabric) for message in messages),
        return_exceptions=True,
    )
    for row, result in zip(rows, results, strict=True):
        if isinstance(result, InvalidError):
            # waiting would not help it, and would hold up all that follows
            log.error(
                "message_cannot_be_published",
                routing_key=row.message.routing_key,
                reason=str(result),
            )
        elif isinstance(result, BaseException):
            raise result


async def _publish_one(message: Outgoing | None, fabric: Fabric) -> None:
    if message is not None:
        await fabric.publish(
            message.envelope, exchange=message.exchange, routing_key=message.routing_key
        )
