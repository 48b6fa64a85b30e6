"""Tasks that are started again when they fail."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

log = structlog.stdlib.get_logger("fedge.supervision")

_HEALTHY_AFTER_SECONDS = 60.0


async def backoff(
    *, first_seconds: float = 0.5, most_seconds: float = 30.0
) -> AsyncIterator[float]:
    """Yield at once, then after waits that double up to ``most_seconds``, each with full jitter.

    The jitter keeps many edges from coming back in step after an outage of what they share.
    Yields the wait in seconds that passed before.
    """
    yield 0.0
    limit = first_seconds
    while True:
        wait = random.uniform(limit / 2, limit)  # noqa: S311 - spreads load, hides nothing
        await asyncio.sleep(wait)
        yield wait
        limit = min(limit * 2, most_seconds)


async def supervise(
    name: str, work: Callable[[], Awaitable[None]], *, most_seconds: float = 30.0
) -> None:
    """Run ``work`` until it is cancelled; when it fails, say so and start it again.

    Returns when ``work`` returns. A failure after a healthy minute starts the waits anew.
    """
    loop = asyncio.get_running_loop()
    while True:
        async for waited in backoff(most_seconds=most_seconds):
            started = loop.time()
            try:
                await work()
            except Exception:
                log.exception("task_failed", task=name, waited_seconds=round(waited, 2))
            else:
                return
            if loop.time() - started > _HEALTHY_AFTER_SECONDS:
                break
