"""Tasks that are started again when they fail, and tasks that end when they are cancelled."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

import structlog

log = structlog.stdlib.get_logger("fedge.supervision")

_HEALTHY_AFTER_SECONDS = 60.0
_CANCEL_AGAIN_SECONDS = 1.0


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
    name: str,
    work: Callable[[], Awaitable[None]],
    *,
    most_seconds: float = 30.0,
    failed: Callable[[str], None] = lambda _: None,
) -> None:
    """Run ``work`` until it is cancelled; when it fails, say so and start it again.

    Args:
        name: of the work.
        work: what is to be done.
        most_seconds: the longest wait before it is started again.
        failed: told of each failure.

    Returns when ``work`` returns. A failure after a healthy minute starts the waits anew.
    """
    loop = asyncio.get_running_loop()
    while True:
        async for waited in backoff(most_seconds=most_seconds):
            started = loop.time()
            try:
                await work()
            except Exception as exc:
                log.exception("task_failed", task=name, waited_seconds=round(waited, 2))
                failed(f"{name}: {exc!r}")
            else:
                return
            if loop.time() - started > _HEALTHY_AFTER_SECONDS:
                break


async def to_its_end(work: Coroutine[None, None, None], *, name: str) -> None:
    """Run ``work`` in a task of its own; when cancelled, cancel that until it has ended.

    Once is not enough for work that waits by a library's ``asyncio.wait_for``: up to Python 3.11
    that drops a cancellation that comes in the same moment as the answer
    (https://github.com/python/cpython/issues/86296), and a TaskGroup one that comes while a child's
    failure is ending it. A TaskGroup cancels each of its children once only.
    """
    task = asyncio.create_task(work, name=name)
    try:
        await asyncio.wait({task})
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_AGAIN_SECONDS)
    task.result()
