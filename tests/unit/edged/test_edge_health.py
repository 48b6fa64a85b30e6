"""What a version of the edge that is tried out has to show."""

import asyncio
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from fedge_edged.node_tasks.health import QUEUES, Health
from fedge_edged.reporting import ANSWER_SECONDS, Reporting
from fedge_fabric import Envelope, MessageClass, UnavailableError, kinds
from fedge_fabric.depths import Depth
from fedge_fabric.topology import up_queue
from fedge_objects import NodeName
from tests.unit.edged.kit import LoopClock

pytestmark = pytest.mark.looptime

ALL = [*QUEUES.values(), *map(up_queue, MessageClass)]


class Line:
    """The edge's broker, and a cloud behind it."""

    def __init__(self) -> None:
        self.queues = {name: Depth(messages=0, consumers=1) for name in ALL}
        self.is_away = False
        self.said: list[Envelope] = []
        self.answers_after: float | None = 0.1
        self.reporting = Reporting(node=NodeName("a"), incarnation=1, clock=LoopClock())

    async def depths(self, queues: Collection[str]) -> Mapping[str, Depth]:
        if self.is_away:
            raise UnavailableError("the broker is away")
        return {name: self.queues[name] for name in queues if name in self.queues}

    async def publish(self, envelope: Envelope, **_: Any) -> None:
        self.said.append(envelope)
        if self.answers_after is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.answers_after, self.reporting.heard, envelope.id)

    async def is_answered(self) -> bool:
        return await self.reporting.is_answered(self, 10.0)  # type: ignore[arg-type]  # as much as is needed


def pod(uid: str, *, runs: bool = True) -> Any:
    observed = SimpleNamespace(running=lambda: ["main"] if runs else [])
    return SimpleNamespace(uid=uid, observed=observed, is_over=False, pod=object())


class World:
    def __init__(self) -> None:
        self.line = Line()
        self.pods = [pod("1"), pod("2")]
        self.health = Health(
            broker=lambda: self.line,
            is_answered=self.line.is_answered,
            workers=lambda: self.pods,
        )


@pytest.fixture
def world() -> World:
    return World()


async def test_what_works_is_seen_and_nothing_of_it_is_missing(world: World) -> None:
    was = await world.health.now()
    assert (was.linked, was.answered, was.pods) == (True, True, ("1", "2"))
    assert await world.health.missing(was) == ""
    assert [each.type for each in world.line.said] == [kinds.NODE_ALIVE] * 2
    assert all(each.data["answer"] for each in world.line.said)


async def test_an_edge_that_nothing_reaches_any_more_is_missing_the_answer(world: World) -> None:
    was = await world.health.now()
    world.line.answers_after = None
    assert await world.health.missing(was) == "the cloud's answer does not come down"


async def test_an_answer_to_an_older_question_is_none(world: World) -> None:
    world.line.answers_after = ANSWER_SECONDS + 1
    assert not await world.line.is_answered()
    again = asyncio.create_task(world.line.is_answered())
    await asyncio.sleep(2)  # the answer to the first has come
    assert not again.done()
    assert not await again


async def test_what_did_not_work_before_is_not_missed(world: World) -> None:
    world.line.answers_after = None
    was = await world.health.now()
    assert (was.linked, was.answered) == (True, False)
    assert await world.health.missing(was) == ""
    world.line.queues[up_queue(MessageClass.EVENT)] = Depth(messages=3, consumers=0)
    said = len(world.line.said)
    was = await world.health.now()
    assert (was.linked, was.answered) == (False, False)
    assert len(world.line.said) == said  # nothing is asked where nothing goes up


@pytest.mark.parametrize(
    ("breaks", "missing"),
    [
        (lambda w: w.line.queues.pop("twin.request"), "twin take no messages"),
        (lambda w: w.pods.pop(), "1 pods are not known"),
        (lambda w: w.pods.__setitem__(0, pod("1", runs=False)), "1 pods do not run"),
        (
            lambda w: setattr(w.line, "is_away", True),
            "the broker does not answer: the broker is away",
        ),
        (
            lambda w: w.line.queues.update({up_queue(MessageClass.STATE): Depth(2, 1)}),
            "2 messages wait for the link to the cloud",
        ),
    ],
)
async def test_what_is_missing_is_named(world: World, breaks: Any, missing: str) -> None:
    was = await world.health.now()
    breaks(world)
    assert await world.health.missing(was) == missing


async def test_a_pod_that_is_no_longer_wanted_is_not_missed(world: World) -> None:
    was = await world.health.now()
    gone = pod("1", runs=False)
    gone.is_over = True
    world.pods[0] = gone
    assert await world.health.missing(was) == ""
