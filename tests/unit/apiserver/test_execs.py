"""Commands by way of a hub, of clients that leave."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from fedge_apiserver.http._execs import _join

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection


class Hub:
    """A hub that goes on after the end of a command was told."""

    def __init__(self) -> None:
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for frame in (b"\3{}", b"\1more", b"\1yet more"):
            self.sent += 1
            yield frame


async def test_client_that_leaves_when_it_heard_the_end_disturbs_nothing() -> None:
    got: list[object] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Mapping[str, Any]) -> None:
        if got:
            raise ConnectionError("the client is gone")
        got.append(message["bytes"])

    hub = Hub()
    await _join(cast("ClientConnection", hub), receive, send)
    assert got == [b"\3{}"]
    assert hub.sent == 2
