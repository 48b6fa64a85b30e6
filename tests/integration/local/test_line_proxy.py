"""A slow line delays, is narrow, keeps the order, holds the sender up, and breaks at both ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from fedge_local.line_proxy import LineProxy

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[..., Awaitable[tuple[Stream, Stream, LineProxy]]]
MEBIBYTE = 1024 * 1024


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Give a function that makes a line and returns both ends of a connection over it."""
    async with AsyncExitStack() as cleanup:

        async def make(**how: float | None) -> tuple[Stream, Stream, LineProxy]:
            port, accepted = await cleanup.enter_async_context(server())
            line = LineProxy(listen="127.0.0.1", target=("127.0.0.1", port), **how)  # type: ignore[arg-type]  # one kind of value for all
            await cleanup.enter_async_context(line)
            near = await asyncio.open_connection("127.0.0.1", line.port)
            cleanup.callback(near[1].close)
            return near, await accepted.get(), line

        yield make


@asynccontextmanager
async def server() -> AsyncIterator[tuple[int, asyncio.Queue[Stream]]]:
    accepted: asyncio.Queue[Stream] = asyncio.Queue()
    ends: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        accepted.put_nowait((reader, writer))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], accepted
    finally:
        listening.close()
        for each in ends:
            each.transport.abort()


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_bytes_take_the_delay_in_each_direction(connect: Connect) -> None:
    (reader, writer), (far_reader, far_writer), _ = await connect(delay_seconds=0.2)
    for out, into in ((writer, far_reader), (far_writer, reader)):
        began = now()
        out.write(b"x")
        assert await into.readexactly(1) == b"x"
        assert 0.2 <= now() - began < 1.0


async def test_delay_holds_nothing_up_behind_it(connect: Connect) -> None:
    (_, writer), (far_reader, _), _ = await connect(delay_seconds=0.3)
    began = now()
    for _ in range(20):
        writer.write(b"x")
        await asyncio.sleep(0.01)
    await far_reader.readexactly(20)
    assert now() - began < 20 * 0.3


async def test_rate_is_shared_by_all_connections_of_a_direction(connect: Connect) -> None:
    (_, writer), (far_reader, _), line = await connect(bytes_per_second=100_000)
    _, second = await asyncio.open_connection("127.0.0.1", line.port)
    began = now()
    writer.write(bytes(50_000))
    second.write(bytes(50_000))
    await far_reader.readexactly(50_000)
    elapsed = now() - began
    assert 0.7 < elapsed < 3.0  # alone it would take 0.5 s
    second.close()


async def test_order_is_kept_and_the_end_is_passed_on(connect: Connect) -> None:
    (reader, writer), (far_reader, far_writer), _ = await connect(
        delay_seconds=0.05, bytes_per_second=2 * MEBIBYTE
    )
    sent = b"".join(number.to_bytes(4, "big") for number in range(100_000))
    writer.write(sent)
    writer.write_eof()
    assert await far_reader.read(-1) == sent
    far_writer.write(b"answer after the end")
    far_writer.close()
    assert await reader.read(-1) == b"answer after the end"


async def test_sender_is_held_up_when_nobody_reads(connect: Connect) -> None:
    (_, writer), (far_reader, _), _ = await connect(bytes_per_second=MEBIBYTE)
    total = 64 * MEBIBYTE
    writer.write(bytes(total))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await writer.drain()
    assert writer.transport.get_write_buffer_size() > total / 2
    assert await far_reader.readexactly(1000) == bytes(1000)


@pytest.mark.parametrize("broken", ["near", "far"])
async def test_end_that_is_reset_resets_the_other(connect: Connect, broken: str) -> None:
    near, far, _ = await connect()
    near[1].write(b"x")
    await far[0].readexactly(1)
    (_, gone), (left, left_writer) = (near, far) if broken == "near" else (far, near)
    gone.transport.abort()
    left_writer.write(b"x")
    assert await ended(left)


async def test_reset_breaks_connections_at_both_ends_and_takes_new_ones(connect: Connect) -> None:
    near, far, line = await connect()
    near[1].write(b"x")
    await far[0].readexactly(1)
    line.reset()
    for reader, _ in (near, far):
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    _, again = await asyncio.open_connection("127.0.0.1", line.port)
    again.close()


async def test_target_that_is_not_there_resets() -> None:
    async with server() as (port, _):
        pass
    async with LineProxy(listen="127.0.0.1", target=("127.0.0.1", port)) as line:
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


async def test_line_that_is_cut_and_mended_listens_where_it_did() -> None:
    async with server() as (port, accepted):
        async with LineProxy(listen="127.0.0.1", target=("127.0.0.1", port)) as first:
            given = first.port
        line = LineProxy(listen="127.0.0.1", target=("127.0.0.1", port), port=given)
        for _ in range(2):
            async with line:
                reader, writer = await asyncio.open_connection("127.0.0.1", given)
                (await accepted.get())[1].write(b"x")
                assert await reader.readexactly(1) == b"x"
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", given)
            writer.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionResetError:
        return True
