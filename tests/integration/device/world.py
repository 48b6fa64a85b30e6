"""The API, a broker, and hub and the nodes as messages."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

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

ROOT = Path(__file__).parents[3]
NODE = NodeName("edge-1")
KEY = ObjectKey(DEVICES.name, "default", "thermometer-1")
DEADLINE_SECONDS = 30.0
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


class World:
    """The API, and hub and the nodes as messages."""

    def __init__(self, kube: KubeClient, fabric: Fabric, kubeconfig: Path) -> None:
        self.kube = kube
        self._kubeconfig = yaml.safe_load(kubeconfig.read_text())
        self._fabric = fabric
        self._wanted: asyncio.Queue[Envelope] = asyncio.Queue()
        self._seen: list[Envelope] = []
        self._sequence = 0

    async def on_wanted(self, delivery: Delivery) -> None:
        await self._wanted.put(delivery.envelope)

    async def next_told(self) -> Envelope:
        """Return what hub is told next."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._wanted.get()

    async def told(self, kind: str, subject: str) -> Envelope:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                for envelope in self._seen:
                    if (envelope.type, envelope.subject) == (kind, subject):
                        return envelope
                self._seen.append(await self._wanted.get())

    async def put(self, matches: Callable[[JsonObject], bool] = lambda _: True) -> JsonObject:
        """Return the device as the node is given it next."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                given = await self._wanted.get()
                if (given.type, given.subject) == (kinds.OBJECT_PUT, str(KEY)) and matches(
                    given.data
                ):
                    return dict(given.data)

    def puts_since(self) -> list[Envelope]:
        """Return how the node was given the device since it was last asked for."""
        since = [self._wanted.get_nowait() for _ in range(self._wanted.qsize())]
        return [each for each in since if (each.type, each.subject) == (kinds.OBJECT_PUT, str(KEY))]

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

    async def report(
        self,
        uid: str,
        value: str,
        *,
        interval: str = "10",
        node: str = NODE,
        name: str = KEY.name,
        more: JsonObject | None = None,
    ) -> None:
        self._sequence += 1
        key = ObjectKey(DEVICES.name, "default", name)
        twins = [
            {"propertyName": "interval", "reported": {"value": interval}},
            {"propertyName": "temperature", "reported": {"value": value}},
        ]
        data = {
            "uid": uid,
            "status": {"twins": twins, "state": "online"} | (more or {}),
            "observed": [1, self._sequence],
            "finished": False,
        }
        await self._fabric.publish(
            Envelope(
                type=kinds.STATUS_REPORTED,
                source=f"/node/{node}/twin",
                subject=str(key),
                data=data,
            ),
            exchange=t.REPORTED,
            routing_key=str(Address.of_object(NodeName(node), key)),
            mandatory=True,
        )

    async def device(self, matches: Callable[[JsonObject], bool]) -> JsonObject:
        """Return the status of the Device once it matches."""
        found: JsonObject = {}
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    found = (await self.kube.get(DEVICES, "default", KEY.name)).get("status") or {}
                    if found and matches(found):
                        return found
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"the device's status stays {found}") from None

    async def becomes(self, sync: str) -> JsonObject:
        return await self.device(lambda status: status["sync"] == sync)

    async def wish(self, interval: str) -> None:
        properties = [
            {"name": "temperature"},
            {"name": "interval", "desired": {"value": interval}},
        ]
        patch = {"spec": {"properties": properties}}
        await self.kube.patch(DEVICES, "default", KEY.name, patch)

    async def line(self) -> dict[str, str]:
        """Return the device's line as kubectl shows it."""
        [cluster] = self._kubeconfig["clusters"]
        [user] = self._kubeconfig["users"]
        server, token = cluster["cluster"]["server"], user["user"].get("token", "")
        trust = ssl.create_default_context()
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
        headers = {"accept": TABLE, "authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                server + DEVICES.path("default", KEY.name), headers=headers, ssl=trust
            ) as answer,
        ):
            table = await answer.json()
        names = [column["name"] for column in table["columnDefinitions"]]
        return dict(zip(names, table["rows"][0]["cells"], strict=True))

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
    value: str | None = twins[-1]["reported"]["value"] if twins else None
    return value


def condition(status: JsonObject, kind: str) -> JsonObject:
    [found] = [each for each in status["conditions"] if each["type"] == kind]
    return dict(found)


@asynccontextmanager
async def device(broker: Broker, tmp_path: Path, **more: Any) -> AsyncIterator[None]:
    """Run device."""
    ready = asyncio.Event()
    settings = DeviceSettings(
        amqp_url=broker.url, kubeconfig=tmp_path / "api" / "kubeconfig", **more
    )
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
