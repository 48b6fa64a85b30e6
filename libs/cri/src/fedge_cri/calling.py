"""Calls by gRPC: one request with one answer, or with a row of them.

The only importer of ``grpclib``, which is written in Python and takes 15 MB less than gRPC's own
library: an edge has one process for everything, and asks its runtime a few times a minute.
The protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

from grpclib.client import Channel
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

OPENING_SECONDS: Final = 1.0
_LOST = (OSError, StreamTerminatedError, ProtocolError)


class CallError(Exception):
    """A call without an answer: the code that gRPC has for it, and the server's words."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        """E.g. ``NOT_FOUND``; ``UNAVAILABLE`` if nobody is there."""
        self.details = details


class Calls:
    """Calls of one server. The connection is made by the first call, and again when it was lost."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @classmethod
    @asynccontextmanager
    async def to_socket(cls, socket: Path) -> AsyncIterator[Self]:
        """Open a client of the server that listens on ``socket``; it need not be there yet."""
        channel = Channel(path=str(socket))
        try:
            yield cls(channel)
        finally:
            channel.close()

    @classmethod
    @asynccontextmanager
    async def to_address(cls, host: str, port: int) -> AsyncIterator[Self]:
        """Open a client of the server at ``host`` and ``port``, without TLS."""
        channel = Channel(host, port)
        try:
            yield cls(channel)
        finally:
            channel.close()

    async def ask(
        self,
        method: str,
        request: Any,
        answer: type[Any],
        *,
        seconds: float,
        metadata: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the answer to one request.

        Args:
            method: ``package.Service/Method``.
            request: the message.
            answer: type of the answer.
            seconds: after this it is given up.
            metadata: that goes with it.

        Raises:
            CallError: there is none.
        """
        try:
            async with self._channel.request(
                f"/{method}",
                Cardinality.UNARY_UNARY,
                type(request),
                answer,
                timeout=seconds,
                metadata=metadata,
            ) as stream:
                await stream.send_message(request, end=True)
                received = await stream.recv_message()
        except GRPCError as exc:
            raise _said(exc) from exc
        except TimeoutError as exc:
            raise CallError("DEADLINE_EXCEEDED", f"no answer within {seconds:g} s") from exc
        except _LOST as exc:
            raise CallError("UNAVAILABLE", str(exc)) from exc
        if received is None:
            raise CallError("INTERNAL", f"{method} was answered with nothing")
        return received

    async def follow(
        self,
        method: str,
        request: Any,
        answer: type[Any],
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Any]:
        """Yield None once the server has taken the request, then its answers.

        A server that has nothing to say yet may send no headers; a short wait stands for them.

        Raises:
            CallError: the server refused, or is lost.
        """
        try:
            async with self._channel.request(
                f"/{method}", Cardinality.UNARY_STREAM, type(request), answer, metadata=metadata
            ) as stream:
                await stream.send_message(request, end=True)
                opening = asyncio.ensure_future(stream.recv_initial_metadata())
                try:
                    done, _ = await asyncio.wait({opening}, timeout=OPENING_SECONDS)
                    if done:
                        opening.result()
                    yield None
                    await opening
                    while (received := await stream.recv_message()) is not None:
                        yield received
                finally:
                    opening.cancel()
        except GRPCError as exc:
            raise _said(exc) from exc
        except _LOST as exc:
            raise CallError("UNAVAILABLE", str(exc)) from exc


def _said(exc: GRPCError) -> CallError:
    return CallError(Status(exc.status).name, exc.message or "")
