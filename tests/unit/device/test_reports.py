"""Reports: a single one passes at once, a burst costs one write a second and ends in the newest."""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any, cast

import looptime
import pytest

from fedge_dispatch import Budget, Report, Reports
from fedge_fabric import UnavailableError
from fedge_kube import KubeClient, Resource, UnreachableError
from fedge_objects import JsonObject, NodeName, ObjectKey

DEVICES = Resource("devices.kubeedge.io", "v1beta1", "devices")
NO_KUBE = cast("KubeClient", None)


class Recording:
    """A kind whose reports are written down."""

    resource = DEVICES
    leads = True
    optional = False

    def __init__(self) -> None:
        self.written: list[tuple[float, str, Any]] = []
        self.failures: Iterator[Exception] = iter(())

    def node_of(self, obj: JsonObject) -> NodeName | None:  # noqa: ARG002 - the port's signature
        return None

    def needs_of(self, obj: JsonObject) -> frozenset[ObjectKey]:  # noqa: ARG002
        return frozenset()

    def for_node(self, obj: JsonObject) -> JsonObject:
        return obj

    async def report(self, kube: KubeClient, report: Report) -> None:  # noqa: ARG002
        await asyncio.sleep(0.01)
        if failure := next(self.failures, None):
            raise failure
        at = asyncio.get_running_loop().time()
        self.written.append((at, report.key.name, report.status["n"]))


def report(n: int, *, name: str = "d", node: str = "edge-1", uid: str = "u") -> Report:
    return Report(
        node=NodeName(node),
        key=ObjectKey(DEVICES.name, "default", name),
        uid=uid,
        status={"n": n},
        labels={},
        finished=False,
    )


@pytest.fixture
def kind() -> Recording:
    return Recording()


@pytest.fixture
def reports(kind: Recording) -> Reports:
    return Reports(NO_KUBE, {DEVICES.name: kind}, write_every_seconds=1.0)


@pytest.mark.looptime
async def test_a_single_report_passes_at_once(
    kind: Recording, reports: Reports, looptime: looptime.LoopTimeProxy
) -> None:
    await reports.status(report(1), (1, 1))
    assert looptime < 0.1
    assert [n for _, _, n in kind.written] == [1]


@pytest.mark.looptime
async def test_a_burst_costs_one_write_a_second_and_ends_in_the_newest(
    kind: Recording, reports: Reports
) -> None:
    async with asyncio.TaskGroup() as tasks:
        for n in range(300):
            for name in ("a", "b"):
                tasks.create_task(reports.status(report(n, name=name), (1, n)))
            await asyncio.sleep(0.01)
    for name in ("a", "b"):
        written = [(at, n) for at, each, n in kind.written if each == name]
        assert len(written) <= 5
        assert written[-1][1] == 299
        assert written[0][0] - kind.written[0][0] < 0.1


@pytest.mark.looptime
async def test_what_a_newer_report_replaces_is_done_before_the_newer_is_written(
    kind: Recording, reports: Reports
) -> None:
    await reports.status(report(1), (1, 1))
    second = asyncio.create_task(reports.status(report(2), (1, 2)))
    await asyncio.sleep(0.1)
    third = asyncio.create_task(reports.status(report(3), (1, 3)))
    await asyncio.wait_for(second, 0.1)
    assert not third.done()
    await third
    assert [n for _, _, n in kind.written] == [1, 3]


@pytest.mark.looptime
async def test_a_report_that_could_not_be_written_is_written_when_it_comes_again(
    kind: Recording, reports: Reports
) -> None:
    kind.failures = iter([UnreachableError("away")])
    with pytest.raises(UnavailableError):
        await reports.status(report(1), (1, 1))
    await reports.status(report(1), (1, 1))
    assert [n for _, _, n in kind.written] == [1]


@pytest.mark.looptime
async def test_repeats_and_older_reports_are_not_written(kind: Recording, reports: Reports) -> None:
    await reports.status(report(2), (1, 2))
    await reports.status(report(2), (1, 2))
    await reports.status(report(1), (1, 1))
    assert [n for _, _, n in kind.written] == [2]


@pytest.mark.looptime
async def test_counts_of_another_node_or_object_say_nothing(
    kind: Recording, reports: Reports
) -> None:
    await reports.status(report(1), (9, 9))
    await reports.status(report(2, node="edge-2"), (1, 1))
    await reports.status(report(3, node="edge-2", uid="v"), (1, 0))
    assert [n for _, _, n in kind.written] == [1, 2, 3]


@pytest.mark.looptime
async def test_what_another_node_says_does_not_take_the_place_of_what_waits(
    kind: Recording, reports: Reports
) -> None:
    await reports.status(report(1), (1, 1))
    waiting = asyncio.create_task(reports.status(report(2), (1, 2)))
    await asyncio.sleep(0.1)
    await reports.status(report(3, node="edge-2"), (7, 7))
    await reports.status(report(4, uid="v"), (1, 1))
    await waiting
    assert [n for _, _, n in kind.written] == [1, 3, 4, 2]


@pytest.mark.looptime
async def test_writes_that_wait_fall_due_together_and_none_is_late(
    kind: Recording, reports: Reports
) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(40):
            for n in (1, 2):
                tasks.create_task(reports.status(report(n, name=f"d{number}"), (1, n)))
                await asyncio.sleep(0.005)
    first = {name: at for at, name, n in kind.written if n == 1}
    second = {name: at for at, name, n in kind.written if n == 2}
    assert len(second) == 40
    assert len({round(at, 3) for at in second.values()}) <= 3
    for name, at in second.items():
        assert 0.7 <= at - first.get(name, at - 1) <= 1.02


@pytest.mark.looptime
async def test_over_the_budget_everybody_gets_a_turn_and_the_newest_is_written(
    kind: Recording,
) -> None:
    reports = Reports(NO_KUBE, {DEVICES.name: kind}, write_every_seconds=1.0, budget=Budget(10.0))
    async with asyncio.TaskGroup() as tasks:
        for n in range(400):
            for name in range(40):
                tasks.create_task(reports.status(report(n, name=f"d{name}"), (1, n)))
            await asyncio.sleep(0.05)
    took = kind.written[-1][0]
    assert len(kind.written) <= 10 * took + 11
    for name in range(40):
        mine = [(at, n) for at, each, n in kind.written if each == f"d{name}"]
        assert mine[-1][1] == 399
        gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(mine)]
        assert max(gaps) <= 5.5


@pytest.mark.looptime
async def test_reports_of_busy_objects_that_come_apart_are_written_together(
    kind: Recording,
) -> None:
    reports = Reports(NO_KUBE, {DEVICES.name: kind}, write_every_seconds=0.1)
    for n in range(1, 5):
        for number in range(20):
            await asyncio.sleep(0.001)
            asyncio.ensure_future(reports.status(report(n, name=f"d{number}"), (1, n)))  # noqa: RUF006 - awaited by time
        await asyncio.sleep(0.78)
    await asyncio.sleep(1)
    later = [round(at, 3) for at, _, n in kind.written if n > 1]
    assert len(later) == 60
    assert len(set(later)) <= 6  # not sixty: three rounds, of which one may span two moments


@pytest.mark.looptime
async def test_a_report_after_a_second_of_silence_passes_at_once(
    kind: Recording, looptime: looptime.LoopTimeProxy
) -> None:
    reports = Reports(NO_KUBE, {DEVICES.name: kind}, write_every_seconds=0.1)
    await reports.status(report(1), (1, 1))
    await asyncio.sleep(1.2)
    before = float(looptime)
    await reports.status(report(2), (1, 2))
    assert float(looptime) - before < 0.02


@pytest.mark.looptime
async def test_report_of_a_node_that_became_another_replicas_is_not_written(
    kind: Recording,
) -> None:
    own = {NodeName("edge-1")}
    reports = Reports(NO_KUBE, {DEVICES.name: kind}, write_every_seconds=1.0, owns=own.__contains__)
    await reports.status(report(1), (1, 1))
    waiting = asyncio.create_task(reports.status(report(2), (1, 2)))
    await asyncio.sleep(0.1)
    own.clear()
    with pytest.raises(UnavailableError):
        await waiting
    own.add(NodeName("edge-1"))
    await reports.status(report(2), (1, 2))
    assert [n for _, _, n in kind.written] == [1, 2]


@pytest.mark.looptime
async def test_node_is_asked_again_if_it_became_anothers_while_it_was_written(
    kind: Recording,
) -> None:
    own, late = {NodeName("edge-1")}, list[NodeName]()
    reports = Reports(
        NO_KUBE, {DEVICES.name: kind}, owns=own.__contains__, written_late=late.append
    )
    await reports.status(report(1), (1, 1))
    assert late == []
    writing = asyncio.create_task(reports.status(report(2), (1, 2)))
    await asyncio.sleep(0.005)
    own.clear()
    await reports.idle()
    await writing
    assert late == ["edge-1"]


@pytest.mark.looptime
async def test_replicas_share_the_budget(kind: Recording) -> None:
    replicas = 1
    budget = Budget(10, lambda: replicas)
    reports = Reports(NO_KUBE, {DEVICES.name: kind}, budget=budget)

    async def seconds_for_thirty() -> float:
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for name in map(str, range(30)):
                tasks.create_task(reports.status(report(int(began), name=name), (int(began), 1)))
        return asyncio.get_running_loop().time() - began

    await asyncio.sleep(10)
    alone = await seconds_for_thirty()
    await asyncio.sleep(10)
    replicas = 3
    assert await seconds_for_thirty() > 2.5 * alone
