"""Sockets that wait for the first connection; what answers it is loaded only then."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import structlog

from fedge_meta.api.endpoint import LOOPBACK, take_address
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.meta")

_BACKLOG: Final = 128
_AGAIN_SECONDS: Final = 60.0

Serve = Callable[[Sequence[socket.socket]], Awaitable[None]]


async def wait_and_serve(
    address: str,
    port: int,
    serve: Serve,
    *,
    listens: Callable[[str], Awaitable[None]],
    at_once: bool = False,
) -> None:
    """Listen, and have ``serve`` take over at the first connection; until cancelled.

    Args:
        address: that pods reach; empty: the loopback alone is listened at.
        port: at all addresses.
        serve: loads what answers and does; the first connection waits meanwhile.
        listens: is called once connections are taken, and before ``serve``, with the address that
            pods reach; empty, if it could not be had.
        at_once: whether there is something to do though nobody connects.
    """
    async for _ in backoff(first_seconds=1, most_seconds=_AGAIN_SECONDS):
        try:
            async with _listening(address, port) as (sockets, reached):
                log.info("api_waits", addresses=[LOOPBACK, *filter(None, [reached])], port=port)
                await listens(reached)
                if not at_once:
                    await _connection(sockets)
                await serve(sockets)
        except OSError as exc:
            # without it the node does all else it is there for
            remedy = "stop what uses the port, or set FEDGE_META_API_PORT"
            log.error("api_not_served", port=port, reason=str(exc), remedy=remedy)  # noqa: TRY400


@contextlib.asynccontextmanager
async def _listening(address: str, port: int) -> AsyncIterator[tuple[list[socket.socket], str]]:
    """Listen, and say at which address for pods: none, if it may not be given to this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_listen(LOOPBACK, port))]
        if address:
            try:
                take_address(address)
                sockets.append(stack.enter_context(_listen(address, port)))
            except OSError as exc:
                remedy = "let meta add addresses (CAP_NET_ADMIN), or set FEDGE_META_API_ADDRESS"
                log.warning("api_not_for_pods", reason=str(exc), remedy=remedy)
                address = ""
        yield sockets, address


def _listen(host: str, port: int) -> socket.socket:
    # with the protocol named, asyncio turns Nagle's algorithm off for what is accepted
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


async def _connection(sockets: Sequence[socket.socket]) -> None:
    """Return when somebody connects, without accepting."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    for each in sockets:
        loop.add_reader(each, came.set)
    try:
        await came.wait()
    finally:
        for each in sockets:
            loop.remove_reader(each)
