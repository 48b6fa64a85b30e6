"""Device against the embedded Kubernetes API and a real broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from fedge_apiserver.server import running_server
from fedge_apiserver.settings import ApiServerSettings
from fedge_device import plugin as device_plugin
from fedge_device.kinds.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES
from fedge_device.settings import DeviceSettings
from fedge_fabric import Address, Envelope, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_kube import CUSTOM_RESOURCE_DEFINITIONS, KubeClient, observe
from fedge_kube.watching import Changed, Listed
from fedge_objects import JsonObject, NodeName, ObjectKey
from tests.fixtures.servers import Broker

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[3]
NODE = NodeName("edge-1")
KEY = ObjectKey(DEVICES.name, "default", "thermometer-1")
DEADLINE_SECONDS = 30.0


class World:
    """The API, and hub and the nodes as messages."""

    def __init__(self, kube: KubeClient, fabric: Fabric) -> None:
        self.kube = kube
        self._fabric = fabric
        self._wanted: asyncio.Queue[Envelope] = asyncio.Queue()
        self._seen: list[Envelope] = []
        self._sequence = 0

    async def on_wanted(self, delivery: Delivery) -> None:
        await self._wanted.put(delivery.envelope)

    async def told(self, kind: str, subject: str) -> Envelope:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                for envelope in self._seen:
                    if (envelope.type, envelope.subject) == (kind, subject):
                        return envelope
                self._seen.append(await self._wanted.get())

    async def install_kinds(self) -> None:
        for path in sorted((ROOT / "deploy/k8s/base/crds").glob("devices.*.yaml")):
            await self.kube.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()))

    async def create_example(self) -> str:
        folder = ROOT / "examples" / "thermometer"
        await self.kube.create(DEVICE_MODELS, yaml.safe_load((folder / "model.yaml").read_text()))
        created = await self.kube.create(
            DEVICES, yaml.safe_load((folder / "device.yaml").read_text())
        )
        uid: str = created["metadata"]["uid"]
        return uid

    async def report(self, uid: str, value: str) -> None:
        self._sequence += 1
        twin = {"propertyName": "temperature", "reported": {"value": value}}
        data = {
            "uid": uid,
            "status": {"twins": [twin], "state": "online"},
            "observed": [1, self._sequence],
            "finished": False,
        }
        await self._fabric.publish(
            Envelope(
                type=kinds.STATUS_REPORTED, source="/node/edge-1/twin", subject=str(KEY), data=data
            ),
            exchange=t.REPORTED,
            routing_key=str(Address.of_object(NODE, KEY)),
            mandatory=True,
        )

    async def status(self, matches: Callable[[JsonObject], bool]) -> tuple[JsonObject, int]:
        """Return the DeviceStatus once it matches, and how often it changed until then."""
        seen = 0
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for observation in observe(self.kube, DEVICE_STATUSES):
                match observation:
                    case Listed(items, _):
                        found = items
                    case Changed(obj):
                        found = [obj]
                        seen += 1
                    case _:
                        continue
                for each in found:
                    if matches(each):
                        return each, seen
        raise AssertionError("observing has no end")


def value_of(status: JsonObject) -> str | None:
    twins = (status.get("status") or {}).get("twins")
    value: str | None = twins[0]["reported"]["value"] if twins else None
    return value


@pytest.fixture
async def world(rabbitmq: Broker, tmp_path: Path) -> AsyncIterator[World]:
    settings = ApiServerSettings(data_dir=tmp_path / "api", port=0)
    async with running_server(settings):
        kubeconfig = tmp_path / "api" / "kubeconfig"
        async with KubeClient.connected(kubeconfig) as kube:
            fabric = Fabric(rabbitmq.url, service="test", exchanges=t.CLOUD_EXCHANGES)
            world = World(kube, fabric)
            queue = t.Queue("test.wanted", (t.Binding(t.WANTED, "#"),), exclusive=True)
            fabric.subscribe(queue, world.on_wanted)
            async with fabric.running():
                yield world


@asynccontextmanager
async def device(broker: Broker, tmp_path: Path) -> AsyncIterator[None]:
    ready = asyncio.Event()
    settings = DeviceSettings(amqp_url=broker.url, kubeconfig=tmp_path / "api" / "kubeconfig")
    running = asyncio.ensure_future(device_plugin.run(settings, ready.set))
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
        if not running.cancelled():
            running.result()


async def test_devices_go_down_once_their_kinds_are_served_and_statuses_come_up(
    world: World, rabbitmq: Broker, tmp_path: Path
) -> None:
    async with device(rabbitmq, tmp_path):
        # ready, though the API knows no devices yet
        await world.install_kinds()
        uid = await world.create_example()
        put = await world.told(kinds.OBJECT_PUT, str(KEY))
        assert put.data["spec"]["nodeName"] == NODE
        model = f"{DEVICE_MODELS.name}/default/thermometer"
        assert (await world.told(kinds.OBJECT_PUT, model)).data["kind"] == "DeviceModel"

        await world.report(uid, "20")
        found, _ = await world.status(lambda status: value_of(status) == "20")
        assert found["metadata"]["name"] == KEY.name
        assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [uid]
        assert found["status"]["state"] == "online"

        watching = asyncio.create_task(world.status(lambda status: value_of(status) == "199"))
        for value in range(100, 200):
            await world.report(uid, str(value))
        _, changes = await watching
        assert changes <= 5

        await world.report("another-uid", "0")
        await world.kube.delete(DEVICES, "default", KEY.name)
        await world.told(kinds.OBJECT_GONE, str(KEY))


async def test_a_status_is_made_again_after_somebody_deleted_it(
    world: World, rabbitmq: Broker, tmp_path: Path
) -> None:
    await world.install_kinds()
    uid = await world.create_example()
    async with device(rabbitmq, tmp_path):
        await world.report(uid, "1")
        await world.status(lambda status: value_of(status) == "1")
        await world.kube.delete(DEVICE_STATUSES, "default", KEY.name)
        await world.report(uid, "2")
        await world.status(lambda status: value_of(status) == "2")
