"""Bad messages at every queue that any service consumes: refused with a reason, and no harm done.

Whatever a message holds, its handler takes it or raises one of the fabric's errors; anything else
is a defect. What was refused has changed nothing, and a good message that comes after it has its
full effect. ``FEDGE_BAD_INPUT_EXAMPLES=1000`` makes a long run of it.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_fabric import Envelope, InvalidError, MalformedError, UnavailableError, kinds
from fedge_fabric.fabric import Delivery
from tests.unit.bad_input import discovery
from tests.unit.bad_input.mutations import Raw, Sample, bounded, raw_of, rows
from tests.unit.bad_input.subjects import SUBJECTS, Meta, Subject, queues_of

DEADLINE_SECONDS = 20.0
MOST_REASON = 4096
NEVER_CONSUMED = {kinds.OBJECT_CHANGED}


def _read_samples() -> dict[str, tuple[str, list[Sample]]]:
    async def read(service: str) -> Mapping[str, list[Sample]]:
        async with SUBJECTS[service]() as subject:
            return dict(subject.samples())

    with asyncio.Runner() as runner:
        return {
            queue: (service, samples)
            for service in SUBJECTS
            for queue, samples in runner.run(read(service)).items()
        }


SAMPLES = _read_samples()


async def feed(subject: Subject, queue: str, raw: Raw) -> None:
    """Have a message handled as the fabric does, and see that it is taken or refused."""
    _, handler = queues_of(subject)[queue]
    before = await state_of(subject)
    try:
        envelope = Envelope.read(headers=raw.headers, body=raw.body, content_encoding=raw.encoding)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await handler(Delivery(raw.routing_key, envelope))
    except (MalformedError, InvalidError) as exc:
        reason = str(exc)
        unchanged = await state_of(subject) == before
    except UnavailableError as exc:
        reason, unchanged = str(exc), True
    else:
        return
    assert 0 < len(reason) < MOST_REASON
    assert unchanged, reason


async def state_of(subject: Subject) -> object:
    if isinstance(subject, Meta):
        await subject.look()
    return subject.state()


async def test_every_queue_of_every_service_is_tried() -> None:
    handlers: Counter[str] = Counter()
    queues: set[str] = set()
    for opened in SUBJECTS.values():
        async with opened() as subject:
            names = Counter(
                f"{handler.__module__}.{handler.__name__}" for _, handler in subject.line.subscribed
            )
            handlers |= names
            queues |= set(queues_of(subject))
    assert handlers == discovery.subscriptions()
    assert queues == set(SAMPLES)


def test_every_kind_of_message_is_tried() -> None:
    known = {
        value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, str)
    }
    tried = {each.envelope.type for _, samples in SAMPLES.values() for each in samples}
    assert tried == known - NEVER_CONSUMED


@pytest.mark.parametrize("service", SUBJECTS)
async def test_good_messages_are_taken_in_any_number(service: str) -> None:
    async with SUBJECTS[service]() as subject:
        for queue, samples in subject.samples().items():
            for sample in [*samples, *samples]:
                await feed(subject, queue, raw_of(sample))
        await subject.check()
        await subject.check()


@pytest.mark.parametrize("queue", SAMPLES)
@bounded
@given(data=st.data())
async def test_bad_messages_neither_crash_nor_wedge_a_consumer(
    queue: str, data: st.DataObject
) -> None:
    service, samples = SAMPLES[queue]
    async with SUBJECTS[service]() as subject:
        for raw in data.draw(rows(samples)):
            await feed(subject, queue, raw)
        await subject.check()
