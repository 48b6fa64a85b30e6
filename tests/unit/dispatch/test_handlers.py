"""Reports go to the replica whose node they are of, and nobody else writes them."""

from typing import Any, cast

import pytest

from fedge_dispatch import Placement, Replicas, Reports
from fedge_dispatch.handlers import Handlers
from fedge_dispatch.membership import owner_of
from fedge_dispatch.telling import Telling
from fedge_fabric import Address, Envelope, UnavailableError, UnroutableError, kinds
from fedge_fabric.fabric import Delivery, Fabric
from fedge_fabric.topology import Queue
from fedge_objects import NodeName, ObjectKey

ONE, OTHER = "a" * 8, "b" * 8
NODES = [NodeName(f"gw-{number}") for number in range(20)]
MINE = next(node for node in NODES if owner_of(node, [ONE, OTHER]) == ONE)
THEIRS = next(node for node in NODES if owner_of(node, [ONE, OTHER]) == OTHER)


class Written:
    """Takes what is to be written."""

    def __init__(self) -> None:
        self.nodes: list[NodeName] = []

    async def status(self, report: Any, _: object) -> None:
        self.nodes.append(report.node)


class Line:
    """Takes what is handed on."""

    def __init__(self) -> None:
        self.handed: list[str] = []
        self.queues = {f"controller.owned.{OTHER}"}

    async def hand_on(self, _: Delivery, queue: Queue) -> None:
        if queue.name not in self.queues:
            raise UnroutableError(queue.name)
        self.handed.append(queue.name)


class World:
    def __init__(self) -> None:
        self.written, self.line, self.replicas = Written(), Line(), Replicas("controller", ONE)
        self.replicas.settled.set()
        fabric = cast("Fabric", self.line)
        self.handlers = Handlers(
            fabric,
            service="controller",
            placement=Placement((), ()),
            telling=Telling(fabric, service="controller"),
            reports=cast("Reports", self.written),
            replicas=self.replicas,
        )

    async def hear(self, replica: str) -> None:
        self.replicas.go_live()
        data = {"replica": replica, "state": "live", "asks": False, "gone": []}
        envelope = Envelope(type=kinds.REPLICA_HEARD, source="/cloud/controller", data=data)
        await self.handlers.on_control(Delivery("replicas.controller", envelope))


def report(node: NodeName) -> Delivery:
    key = ObjectKey("pods", "default", "a")
    envelope = Envelope(
        type=kinds.STATUS_REPORTED,
        source=f"/node/{node}/edged",
        subject=str(key),
        data={"uid": "u", "status": {}, "observed": [1, 1]},
    )
    return Delivery(str(Address.of_object(node, key)), envelope)


async def test_who_is_alone_writes_all() -> None:
    world = World()
    for node in (MINE, THEIRS):
        await world.handlers.on_state(report(node))
    assert world.written.nodes == [MINE, THEIRS]
    assert not world.line.handed


async def test_report_of_anothers_node_is_handed_to_it() -> None:
    world = World()
    await world.hear(OTHER)
    for node in (MINE, THEIRS):
        await world.handlers.on_state(report(node))
    assert world.written.nodes == [MINE]
    assert world.line.handed == [f"controller.owned.{OTHER}"]


async def test_report_for_one_that_is_gone_comes_again_later() -> None:
    world = World()
    await world.hear(OTHER)
    world.line.queues.clear()
    with pytest.raises(UnavailableError):
        await world.handlers.on_state(report(THEIRS))
    assert not world.written.nodes


async def test_report_that_is_handed_to_the_wrong_one_comes_again_later() -> None:
    world = World()
    await world.hear(OTHER)
    await world.handlers.on_owned(report(MINE))
    with pytest.raises(UnavailableError):
        await world.handlers.on_owned(report(THEIRS))
    assert world.written.nodes == [MINE]
    assert not world.line.handed
