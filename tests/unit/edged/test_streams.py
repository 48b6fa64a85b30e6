"""Answers that go on: never more on the way than the reader bears, and never for nobody."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import pytest

from fedge_edged.streams import SILENCE_SECONDS, WINDOW, Stream, Streams
from fedge_fabric import UnavailableError

pytestmark = pytest.mark.looptime


class Reader:
    """Takes pieces."""

    def __init__(self) -> None:
        self.pieces: list[Mapping[str, Any]] = []

    async def publish(self, request_id: str, piece: Mapping[str, Any]) -> None:
        assert request_id == "r"
        self.pieces.append(piece)

    def bodies(self) -> list[str]:
        return [str(each["body"]) for each in self.pieces if each["body"]]


async def count_for_ever(stream: Stream) -> None:
    number = 0
    while True:
        await stream.send({"body": str(number)})
        number += 1


async def test_pieces_are_numbered_and_the_last_is_marked() -> None:
    reader = Reader()

    async def work(stream: Stream) -> None:
        await stream.send({"body": "one"})
        await stream.send({"body": "two"}, last=True)

    async with asyncio.TaskGroup() as tasks:
        Streams(reader.publish, tasks).open("r", work)
    assert reader.pieces == [
        {"status": 200, "body": "one", "index": 0, "taken": 0, "last": False},
        {"status": 200, "body": "two", "index": 1, "taken": 0, "last": True},
    ]


async def test_slow_reader_holds_the_writer_up() -> None:
    reader = Reader()
    async with asyncio.TaskGroup() as tasks:
        streams = Streams(reader.publish, tasks)
        streams.open("r", count_for_ever)
        await asyncio.sleep(1)
        assert len(reader.pieces) == WINDOW
        streams.hear("r", {"seen": 10, "over": False})
        await asyncio.sleep(1)
        assert len(reader.pieces) == WINDOW + 10
        streams.hear("r", {"seen": 10, "over": True})
    assert len(reader.pieces) == WINDOW + 10


async def test_work_for_a_reader_that_fell_silent_ends() -> None:
    reader = Reader()

    async def work(_: Stream) -> None:
        await asyncio.Event().wait()

    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as tasks:
        Streams(reader.publish, tasks).open("r", work)
    took = asyncio.get_running_loop().time() - began
    assert SILENCE_SECONDS < took < SILENCE_SECONDS * 2
    assert reader.bodies() == []
    assert len(reader.pieces) >= 3  # it was told that the node is there


async def test_request_that_is_delivered_twice_is_answered_once() -> None:
    reader = Reader()

    async def work(stream: Stream) -> None:
        await asyncio.sleep(1)
        await stream.send({"body": "x"}, last=True)

    async with asyncio.TaskGroup() as tasks:
        streams = Streams(reader.publish, tasks)
        streams.open("r", work)
        streams.open("r", work)
        streams.hear("other", {"seen": 1})
    assert reader.bodies() == ["x"]


async def test_work_that_fails_disturbs_no_other() -> None:
    reader = Reader()

    async def fail(_: Stream) -> None:
        raise OSError("disk")

    async with asyncio.TaskGroup() as tasks:
        Streams(reader.publish, tasks).open("r", fail)
    (piece,) = reader.pieces
    assert (piece["status"], piece["body"], piece["last"]) == (500, "disk\n", True)


async def test_inputs_come_in_order_and_once() -> None:
    reader = Reader()
    heard: list[bytes] = []

    async def work(stream: Stream) -> None:
        async for each in stream.inputs():
            heard.append(each)
            if each == b"4":
                return

    async with asyncio.TaskGroup() as tasks:
        streams = Streams(reader.publish, tasks)
        streams.open("r", work)
        for number in (1, 0, 0, 3, 2, 3, 4):
            frame = base64.b64encode(str(number).encode()).decode()
            streams.hear("r", {"seen": 0, "number": number, "frame": frame})
            await asyncio.sleep(0.1)
    assert heard == [b"0", b"1", b"2", b"3", b"4"]


async def test_work_for_a_reader_that_says_it_is_gone_ends_at_once() -> None:
    reader = Reader()

    async def work(_: Stream) -> None:
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as tasks:
        streams = Streams(reader.publish, tasks)
        streams.open("r", work)
        await asyncio.sleep(1)
        streams.hear("r", {"seen": 0, "over": True})
    assert loop.time() - began == pytest.approx(1)


async def test_broker_that_is_away_ends_the_answer_and_nothing_else() -> None:
    async def publish(_: str, __: Mapping[str, Any]) -> None:
        raise UnavailableError("the broker is away")

    async with asyncio.TaskGroup() as tasks:
        Streams(publish, tasks).open("r", count_for_ever)
