"""Publishing and acknowledging many at once: nothing is promised that did not happen."""

import asyncio
import struct
from typing import Any, cast

import aiormq
import pytest
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from aiormq import spec
from aiormq.abc import ChannelFrame
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame as frames

from fedge_fabric.channels import MAX_BATCH_BYTES, Acknowledging, Publishing


class Wire:
    """A channel that keeps what is written; frames leave when ``leave`` is called."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.number = 1
        self.is_closed = False
        self.max_content_size = 1000
        self.delivery_tag = 0
        self.confirmations: dict[int, asyncio.Future[object]] = {}
        self.message_id_delivery_tag: dict[str, int] = {}
        self.write_queue: asyncio.Queue[ChannelFrame] = asyncio.Queue(maxsize=2)
        self.acks: list[tuple[int, bool]] = []

    def create_future(self) -> asyncio.Future[object]:
        return self.loop.create_future()

    async def basic_ack(self, tag: int, *, multiple: bool = False, wait: bool = True) -> None:
        assert not wait
        self.acks.append((tag, multiple))
        await asyncio.sleep(0)

    def leave(self) -> list[object]:
        """Have what is written first leave; return its frames, bodies as bytes."""
        written = self.write_queue.get_nowait()
        data, found = written.payload, list[object]()
        while data:
            used, number, frame = frames.unmarshal(data)
            assert number == self.number
            found.append(getattr(frame, "value", frame))
            data = data[used:]
        written.drain()
        return found


def channel_of(wire: Wire) -> aiormq.Channel:
    return cast("aiormq.Channel", wire)


def publish(publishing: Publishing, body: bytes, *, mandatory: bool = False) -> asyncio.Task[None]:
    return asyncio.create_task(
        publishing.publish(
            body,
            spec.Basic.Properties(message_id=body[:9].decode() if mandatory else None),
            exchange="e",
            routing_key="k",
            mandatory=mandatory,
        )
    )


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def bodies(written: list[object]) -> list[bytes]:
    return [each for each in written if isinstance(each, bytes)]


async def test_messages_published_together_are_written_together_in_order() -> None:
    wire = Wire()
    publishing = Publishing(channel_of(wire))
    tasks = [publish(publishing, b"%d" % number) for number in range(5)]
    await settle()
    assert bodies(wire.leave()) == [b"0", b"1", b"2", b"3", b"4"]
    assert wire.write_queue.empty()
    for number, confirmation in wire.confirmations.items():
        assert not tasks[number - 1].done()
        confirmation.set_result(None)
    await asyncio.gather(*tasks)


async def test_next_messages_wait_until_the_last_have_left() -> None:
    wire = Wire()
    publishing = Publishing(channel_of(wire))
    tasks = [publish(publishing, b"a")]
    await settle()
    tasks += [publish(publishing, b"b"), publish(publishing, b"c")]
    await settle()
    assert wire.write_queue.qsize() == 1
    assert bodies(wire.leave()) == [b"a"]
    await settle()
    assert bodies(wire.leave()) == [b"b", b"c"]
    await settle()
    tasks.append(publish(publishing, b"d"))
    await settle()
    assert bodies(wire.leave()) == [b"d"]
    for confirmation in wire.confirmations.values():
        confirmation.set_result(None)
    await asyncio.gather(*tasks)


async def test_message_that_is_given_up_before_it_is_written_is_not_written() -> None:
    wire = Wire()
    publishing = Publishing(channel_of(wire))
    first, second, third = (publish(publishing, each) for each in (b"a", b"b", b"c"))
    await asyncio.sleep(0)
    second.cancel()
    await settle()
    assert bodies(wire.leave()) == [b"a", b"c"]
    assert list(wire.confirmations) == [1, 2]
    wire.confirmations[2].set_result(None)
    await third
    assert not first.done()
    first.cancel()
    await asyncio.wait([first, second])


async def test_much_is_written_in_parts_and_a_long_body_in_frames() -> None:
    wire = Wire()
    publishing = Publishing(channel_of(wire))
    large = bytes(MAX_BATCH_BYTES)
    tasks = [publish(publishing, each) for each in (large, b"", b"after")]
    await settle()
    assert b"".join(bodies(wire.leave())) == large
    await settle()
    assert bodies(wire.leave()) == [b"after"]
    for confirmation in wire.confirmations.values():
        confirmation.set_result(None)
    await asyncio.gather(*tasks)


async def test_writer_that_is_behind_is_waited_for() -> None:
    wire = Wire()
    other = ChannelFrame(payload=b"", should_close=False)
    wire.write_queue.put_nowait(other)
    wire.write_queue.put_nowait(other)
    task = publish(Publishing(channel_of(wire)), b"a")
    await settle()
    assert not wire.confirmations
    wire.leave()
    wire.leave()
    async with asyncio.timeout(10):
        written = await wire.write_queue.get()
    assert b"a" in written.payload
    wire.confirmations[1].set_result(None)
    await task


async def test_returned_message_is_found_by_its_id_until_it_is_settled() -> None:
    wire = Wire()
    publishing = Publishing(channel_of(wire))
    tasks = [publish(publishing, b"lost", mandatory=True), publish(publishing, b"kept")]
    await settle()
    assert wire.message_id_delivery_tag == {"lost": 1}
    wire.confirmations[1].set_exception(AMQPError("nothing takes it"))
    wire.confirmations[2].set_result(None)
    with pytest.raises(AMQPError, match="nothing takes it"):
        await tasks[0]
    await tasks[1]
    assert not wire.message_id_delivery_tag


async def test_closed_channel_is_an_error_and_no_cancellation() -> None:
    wire = Wire()
    publishing = Publishing(channel_of(wire))
    task = publish(publishing, b"a")
    await settle()
    wire.is_closed = True
    wire.confirmations[1].set_exception(asyncio.CancelledError())
    with pytest.raises(ChannelInvalidStateError):
        await task
    with pytest.raises(ChannelInvalidStateError):
        await publish(publishing, b"b")


async def test_caller_who_is_cancelled_stays_cancelled() -> None:
    wire = Wire()
    task = publish(Publishing(channel_of(wire)), b"a")
    await settle()
    wire.is_closed = True
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_message_that_cannot_be_written_costs_the_others_nothing() -> None:
    wire = Wire()
    publishing = Publishing(channel_of(wire))
    alien: Any = {"a": object()}
    bad = [
        publishing.publish(
            b"",
            spec.Basic.Properties(headers=headers),
            exchange="",
            routing_key=key,
            mandatory=True,
        )
        for headers, key in ((alien, "k"), (None, "k" * 256))
    ]
    good = publish(publishing, b"good")
    for each in bad:
        with pytest.raises((TypeError, ValueError, struct.error)):
            await each
    await settle()
    assert bodies(wire.leave()) == [b"good"]
    wire.confirmations[1].set_result(None)
    await good


async def test_messages_done_together_are_acknowledged_with_one_frame() -> None:
    wire = Wire()
    acknowledging = Acknowledging(channel_of(wire))
    for tag in range(1, 6):
        acknowledging.begin(tag)
    await asyncio.gather(*(acknowledging.acknowledge(tag) for tag in (2, 1, 3)))
    assert wire.acks == [(3, True)]


async def test_message_in_hand_is_never_acknowledged_with_others() -> None:
    wire = Wire()
    acknowledging = Acknowledging(channel_of(wire))
    for tag in range(1, 6):
        acknowledging.begin(tag)
    await asyncio.gather(*(acknowledging.acknowledge(tag) for tag in (1, 3, 4)))
    assert wire.acks == [(1, True), (3, False), (4, False)]
    acknowledging.settled(2)
    await acknowledging.acknowledge(5)
    assert wire.acks[3:] == [(5, True)]


async def test_message_that_was_never_handed_on_is_never_acknowledged() -> None:
    wire = Wire()
    acknowledging = Acknowledging(channel_of(wire))
    acknowledging.begin(1)
    acknowledging.begin(3)
    await asyncio.gather(*(acknowledging.acknowledge(tag) for tag in (1, 3)))
    assert wire.acks == [(1, True), (3, False)]


@given(st.permutations(range(1, 13)), st.lists(st.integers(0, 3), max_size=12), st.data())
def test_exactly_what_is_done_is_acknowledged_once(
    order: list[int], pauses: list[int], data: st.DataObject
) -> None:
    async def scenario() -> None:
        wire = Wire()
        acknowledging = Acknowledging(channel_of(wire))
        for tag in order:
            acknowledging.begin(tag)
        done = order[: data.draw(st.integers(0, len(order)))]
        async with asyncio.TaskGroup() as group:
            for index, tag in enumerate(done):
                group.create_task(acknowledging.acknowledge(tag))
                for _ in range(pauses[index] if index < len(pauses) else 0):
                    await asyncio.sleep(0)
        outstanding = set(range(1, 13))
        for tag, multiple in wire.acks:
            assert tag in outstanding, "the broker closes the channel over an unknown tag"
            outstanding -= {each for each in outstanding if each <= tag} if multiple else {tag}
        assert outstanding == set(order) - set(done)

    asyncio.run(scenario())
