"""Jobs on a real API and a real broker: controllers are killed, several run, none does twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedge_apiserver.server import running_server
from fedge_apiserver.settings import ApiServerSettings
from fedge_controller import plugin
from fedge_controller.jobs.kinds import ImagePrePullJobs
from fedge_controller.jobs.rounds import ROLE
from fedge_controller.kinds.node_tasks import NODE_TASKS
from fedge_controller.settings import ControllerSettings
from fedge_fabric import Address, Envelope, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_kube import CUSTOM_RESOURCE_DEFINITIONS, NODES, KubeClient
from fedge_objects import JsonObject, NodeName, ObjectKey
from tests.fixtures.servers import Broker

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[3]
JOBS = ImagePrePullJobs.resource
DEADLINE_SECONDS = 60.0
NAMES = ("edge-1", "edge-2", "gw-3.plant.example")


class World:
    """The API, and hub and the nodes as messages."""

    def __init__(self, kube: KubeClient, fabric: Fabric, folder: Path, broker: Broker) -> None:
        self.kube = kube
        self.fabric = fabric
        self.settings = ControllerSettings(
            amqp_url=broker.url, kubeconfig=folder / "api" / "kubeconfig"
        )
        self.given: dict[str, list[Envelope]] = {}
        self.lists: set[tuple[str, str]] = set()
        self.news = asyncio.Event()

    async def on_wanted(self, delivery: Delivery) -> None:
        envelope, node = delivery.envelope, Address.parse(delivery.routing_key).node
        if envelope.type == kinds.OBJECTS_LISTED:
            self.lists.add((node, envelope.subject))
        elif envelope.subject.startswith(NODE_TASKS.name):
            self.given.setdefault(node, []).append(envelope)
        self.news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self.news.clear()
                await self.news.wait()

    async def tells(self, node: str, phase: str, sequence: int) -> None:
        envelope = self.given[node][-1]
        data = {
            "uid": envelope.data["metadata"]["uid"],
            "status": {"phase": phase, "sequence": sequence},
            "observed": [1, sequence],
            "finished": False,
        }
        address = Address.of_object(NodeName(node), ObjectKey.parse(envelope.subject))
        await self.fabric.publish(
            Envelope(
                type=kinds.STATUS_REPORTED,
                source=f"/node/{node}/edged",
                subject=envelope.subject,
                data=data,
            ),
            exchange=t.REPORTED,
            routing_key=str(address),
            mandatory=True,
        )

    async def job(self, matches: Callable[[JsonObject], bool]) -> JsonObject:
        found: JsonObject = {}
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not (found and matches(found)):
                    await asyncio.sleep(0.02)
                    found = (await self.kube.get(JOBS, "", "j")).get("status") or {}
        except TimeoutError:
            raise AssertionError(f"the job's status stays {found}") from None
        return found

    @asynccontextmanager
    async def controller(self) -> AsyncIterator[None]:
        ready = asyncio.Event()
        running = asyncio.ensure_future(plugin.run(self.settings, ready.set))
        waiting = asyncio.create_task(ready.wait())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            yield
        finally:
            waiting.cancel()
            running.cancel()
            await asyncio.wait({running})

    async def install_kinds(self) -> None:
        for path in sorted((ROOT / "deploy/k8s/base/crds").glob("operations.*.yaml")):
            await self.kube.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()))

    async def make_nodes(self) -> None:
        for name in NAMES:
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
            node["metadata"] = {"name": name, "labels": {ROLE: ""}}
            await self.kube.create(NODES, node)
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            await self.kube.patch(NODES, "", name, {"status": ready}, subresource="status")

    async def make_job(self, **more: Any) -> None:
        template = {"images": ["a:1"], "nodeNames": list(NAMES), **more}
        job = {
            "apiVersion": "operations.kubeedge.io/v1alpha2",
            "kind": "ImagePrePullJob",
            "metadata": {"name": "j"},
            "spec": {"imagePrePullTemplate": template},
        }
        await self.kube.create(JOBS, job)


@pytest.fixture
async def world(rabbitmq: Broker, tmp_path: Path) -> AsyncIterator[World]:
    # nobody renews the nodes' leases here
    settings = ApiServerSettings(data_dir=tmp_path / "api", port=0, node_grace_seconds=3600)
    async with (
        running_server(settings),
        KubeClient.connected(tmp_path / "api" / "kubeconfig") as kube,
    ):
        fabric = Fabric(rabbitmq.url, service="test", exchanges=t.CLOUD_EXCHANGES)
        world = World(kube, fabric, tmp_path, rabbitmq)
        queue = t.Queue("test.wanted", (t.Binding(t.WANTED, "#"),), exclusive=True)
        fabric.subscribe(queue, world.on_wanted)
        async with fabric.running():
            yield world


async def test_three_controllers_and_one_after_a_kill_give_each_node_one_turn(world: World) -> None:
    await world.install_kinds()
    await world.make_nodes()
    await world.make_job()
    async with AsyncExitStack() as all_three:
        for _ in range(3):
            await all_three.enter_async_context(world.controller())
        await world.until(lambda: world.given)
        assert list(world.given) == [NAMES[0]]
    # all of them are killed; what the node says meanwhile waits
    await world.tells(NAMES[0], "Successful", 1)
    async with world.controller():
        await world.until(lambda: NAMES[1] in world.given)
        assert NAMES[2] not in world.given
        shown = await world.job(lambda status: status["succeeded"] == 1)
        assert [each["phase"] for each in shown["nodeStatus"]] == [
            "Successful",
            "InProgress",
            "Pending",
        ]
    async with world.controller():
        await world.tells(NAMES[1], "Successful", 1)
        await world.until(lambda: NAMES[2] in world.given)
        await world.tells(NAMES[2], "Failure", 1)
        shown = await world.job(lambda status: bool(status.get("conditions")))
        assert (shown["phase"], shown["failed"]) == ("Failure", 1)
    uids = {
        (node, each.data["metadata"]["uid"])
        for node, told in world.given.items()
        for each in told
        if each.data
    }
    assert len(uids) == len(NAMES)


async def test_job_that_is_deleted_takes_its_tasks_along(world: World) -> None:
    await world.install_kinds()
    await world.make_nodes()
    await world.make_job()
    async with world.controller():
        await world.until(lambda: world.given)
        await world.kube.delete(JOBS, "", "j")
        await world.until(
            lambda: any(each.type == kinds.OBJECT_GONE for each in world.given[NAMES[0]])
        )
        # another of its name is another job, with tasks of its own
        await world.make_job(images=["b:1"])
        await world.until(
            lambda: (
                (world.given[NAMES[0]][-1].data or {}).get("spec", {}).get("pull")
                == {"images": ["b:1"]}
            )
        )


async def test_without_the_kinds_pods_lists_are_complete_and_jobs_begin_when_they_come(
    world: World,
) -> None:
    await world.make_nodes()
    async with world.controller():
        await world.until(lambda: (NAMES[0], "pods") in world.lists)
        assert (NAMES[0], NODE_TASKS.name) not in world.lists
        await world.install_kinds()
        await world.make_job()
        await world.until(lambda: world.given)
        await world.until(lambda: (NAMES[0], NODE_TASKS.name) in world.lists)
