"""Questions to nodes: answers in order, once, and no faster than they are read."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

import pytest

from fedge_fabric import Envelope, InvalidError, MalformedError, UnroutableError, kinds
from fedge_fabric.fabric import Delivery, Fabric
from fedge_fabric.topology import Queue
from fedge_hub.requests import (
    MAX_PENDING_INPUTS,
    MAX_PENDING_PIECES,
    TELL_PIECES,
    TELL_SECONDS,
    Requests,
)
from fedge_objects import NodeName

NODE = NodeName("edge-1")


def piece(subject: str, index: int, *, last: bool = False, **more: object) -> Envelope:
    data = {"status": 200, "body": str(index), "index": index, "last": last, **more}
    return Envelope(type=kinds.ANSWERED, source="/node/edge-1/edged", subject=subject, data=data)


class Line:
    """What hub publishes."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self._news = asyncio.Event()
        self.requests = Requests(cast("Fabric", self))

    async def publish(self, envelope: Envelope, **_: object) -> None:
        self.sent.append(envelope)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that shows in what was published."""
        async with asyncio.timeout(5):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def told(self) -> list[dict[str, Any]]:
        """Return what the node heard of an answer that goes on."""
        return [cast("Any", each.data) for each in self.sent if each.type == kinds.STREAM_HEARD]

    def answer(self, index: int, *, last: bool = False, **more: object) -> None:
        asked = self.sent[0]
        self.requests.answered(NODE, piece(asked.id, index, last=last, **more))


async def asked(line: Line) -> None:
    """Wait until the question is out."""
    await line.until(lambda: line.sent)


async def read(
    line: Line, *, goes_on: bool = False, inputs: AsyncIterator[bytes] | None = None
) -> list[str]:
    pieces = line.requests.ask(
        NODE, kinds.LOGS_ASKED, {}, deadline_seconds=5, goes_on=goes_on, inputs=inputs
    )
    return [str(piece["body"]) async for piece in pieces]


async def test_pieces_come_in_order_and_once() -> None:
    line = Line()
    reading = asyncio.create_task(read(line))
    await asked(line)
    for index in (1, 0, 0, 1):
        line.answer(index)
    line.answer(2, last=True)
    assert await reading == ["0", "1", "2"]
    assert line.told() == []


async def test_node_hears_how_far_its_answer_was_read() -> None:
    line = Line()
    reading = asyncio.create_task(read(line, goes_on=True))
    await asked(line)
    for index in range(TELL_PIECES * 2):
        line.answer(index)
    line.answer(TELL_PIECES * 2, last=True)
    assert len(await reading) == TELL_PIECES * 2 + 1
    assert [each["seen"] for each in line.told()] == [TELL_PIECES, TELL_PIECES * 2]
    assert not any(each["over"] for each in line.told())


@pytest.mark.looptime
async def test_node_hears_that_somebody_is_there_who_reads_slowly() -> None:
    line = Line()
    pieces = line.requests.ask(NODE, kinds.LOGS_ASKED, {}, deadline_seconds=5, goes_on=True)
    async with aclosing(pieces):
        first = asyncio.ensure_future(anext(pieces))
        await asked(line)
        line.answer(0)
        await first
        await asyncio.sleep(TELL_SECONDS * 3 + 1)  # nobody reads meanwhile
        assert [each["seen"] for each in line.told()] == [0, 0, 0]


async def test_node_hears_that_nobody_reads_any_more() -> None:
    line = Line()
    pieces = line.requests.ask(NODE, kinds.LOGS_ASKED, {}, deadline_seconds=5, goes_on=True)
    first = asyncio.ensure_future(anext(pieces))
    await asked(line)
    line.answer(0)
    await first
    await pieces.aclose()
    assert [each["over"] for each in line.told()] == [True]
    line.answer(1)  # nobody waits for it


async def test_node_that_falls_silent_is_given_up() -> None:
    line = Line()
    with pytest.raises(TimeoutError):
        async for _ in line.requests.ask(NODE, kinds.LOGS_ASKED, {}, deadline_seconds=0.01):
            pass


async def test_inputs_wait_until_the_node_has_used_earlier_ones() -> None:
    line = Line()

    async def inputs() -> AsyncIterator[bytes]:
        for number in range(MAX_PENDING_INPUTS + 2):
            yield b"%d" % number

    def given() -> list[bytes]:
        return [base64.b64decode(each["frame"]) for each in line.told() if "frame" in each]

    reading = asyncio.create_task(read(line, goes_on=True, inputs=inputs()))
    await asked(line)
    for _ in range(MAX_PENDING_INPUTS * 3):
        await asyncio.sleep(0)
    assert len(given()) == MAX_PENDING_INPUTS
    line.answer(0, taken=8)
    await line.until(lambda: len(given()) == MAX_PENDING_INPUTS + 2)
    line.answer(1, last=True)
    await reading
    assert given() == [b"%d" % number for number in range(MAX_PENDING_INPUTS + 2)]


async def test_answer_that_is_longer_than_it_is_read_is_refused() -> None:
    line = Line()
    pieces = line.requests.ask(NODE, kinds.LOGS_ASKED, {}, deadline_seconds=5)
    first = asyncio.ensure_future(anext(pieces))
    await asked(line)
    line.answer(0)
    await first
    for index in range(1, MAX_PENDING_PIECES + 1):
        line.answer(index)
    with pytest.raises(InvalidError, match="longer than it is read"):
        line.answer(MAX_PENDING_PIECES + 1)
    await pieces.aclose()


@pytest.mark.parametrize("data", [None, {}, {"last": True}, {"last": "no", "index": 1}])
async def test_piece_that_is_none_is_refused(data: object) -> None:
    envelope = Envelope(type=kinds.ANSWERED, source="/node/a/edged", subject="x", data=data)
    with pytest.raises(MalformedError):
        Line().requests.answered(NODE, envelope)


async def test_node_hears_how_long_it_is_waited_for() -> None:
    line = Line()
    reading = asyncio.create_task(read(line))
    await asked(line)
    assert cast("Any", line.sent[0].data)["deadline_seconds"] == 5
    line.answer(0, last=True)
    await reading


async def test_node_hears_that_it_may_begin_once_and_only_from_whoever_reads_on() -> None:
    line = Line()
    pieces = line.requests.ask(NODE, kinds.EXEC_ASKED, {}, deadline_seconds=5, goes_on=True)
    async with aclosing(pieces):
        first = asyncio.ensure_future(anext(pieces))
        await asked(line)
        line.answer(0, ready=True)
        assert (await first)["ready"]
        assert line.told() == []
        second = asyncio.ensure_future(anext(pieces))
        await line.until(line.told)
        line.answer(0, ready=True)  # the request was delivered twice
        line.answer(1)
        assert (await second)["body"] == "1"
        assert [each.get("begin") for each in line.told()] == [True]


async def test_answer_that_was_cut_ends_whatever_is_missing() -> None:
    line = Line()
    reading = asyncio.create_task(read(line, goes_on=True))
    await asked(line)
    line.answer(0)
    line.answer(2)  # one never came
    line.answer(0, cut=True, last=True, body="begun before")
    assert await reading == ["0", "begun before"]
    assert not any(each["over"] for each in line.told())


class Neighbours:
    """Replicas of hub by the queues in which they are handed answers."""

    def __init__(self) -> None:
        self.handed: list[tuple[str, Envelope]] = []
        self.there = {"hub.answers.aaaaaaaa"}

    async def hand_on(self, delivery: Delivery, queue: Queue) -> None:
        if queue.name not in self.there:
            raise UnroutableError(f"no queue {queue.name}")
        self.handed.append((queue.name, delivery.envelope))


async def test_answer_to_another_replica_is_handed_to_it() -> None:
    neighbours = Neighbours()
    requests = Requests(cast("Fabric", neighbours), "bbbbbbbb")
    theirs, ours = piece("aaaaaaaa-1", 0), piece("bbbbbbbb-1", 0)
    assert await requests.hand_on(Delivery("node.edge-1.request.answer", theirs))
    assert not await requests.hand_on(Delivery("node.edge-1.request.answer", ours))
    assert neighbours.handed == [("hub.answers.aaaaaaaa", theirs)]


async def test_answer_to_a_replica_that_is_gone_is_dropped() -> None:
    neighbours = Neighbours()
    requests = Requests(cast("Fabric", neighbours), "bbbbbbbb")
    assert await requests.hand_on(Delivery("key", piece("cccccccc-1", 0)))
    assert neighbours.handed == []


@pytest.mark.parametrize("subject", ["", "1", "aaaaaaaa", "../aaaa-1", "AAAAAAAA-1", "-"])
async def test_answer_to_what_no_replica_asked_stays_here(subject: str) -> None:
    neighbours = Neighbours()
    requests = Requests(cast("Fabric", neighbours), "bbbbbbbb")
    assert not await requests.hand_on(Delivery("key", piece(subject, 0)))
