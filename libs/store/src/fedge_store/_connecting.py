"""Opening a connection so that a cancelled caller leaves none behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import aiosqlite


@asynccontextmanager
async def connected(
    opening: Awaitable[aiosqlite.Connection],
) -> AsyncIterator[aiosqlite.Connection]:
    """Open, and close at the end.

    A connection is a thread. Should the caller be cancelled while it opens, it is opened to the end
    and closed; its thread would else answer to a loop that is gone.
    """
    task = asyncio.ensure_future(opening)
    try:
        connection = await asyncio.shield(task)
    except asyncio.CancelledError:
        await (await task).close()
        raise
    try:
        yield connection
    finally:
        await connection.close()
