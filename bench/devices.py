"""Devices as a benchmark plays them: their objects at the API, what they say, what is heard."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import yaml

from bench.pods import EDGE
from fedge_kube import CUSTOM_RESOURCE_DEFINITIONS, KubeClient, NotFoundError, Resource
from fedge_objects import JsonObject

DEADLINE_SECONDS = 60.0
NAMESPACE = "default"
DEVICES = Resource("devices.kubeedge.io", "v1beta1", "devices")
DEVICE_STATUSES = Resource("devices.kubeedge.io", "v1beta1", "devicestatuses")
CRDS = Path(__file__).parents[1] / "deploy/k8s/base/crds"
ALL_TOPICS = "$hw/events/device"
TOPIC = f"{ALL_TOPICS}/{NAMESPACE}"
PROPERTY = "temperature"


class Watched:
    """What a watch tells, to be waited for."""

    def __init__(self, kube: KubeClient, resource: Resource) -> None:
        self._kube = kube
        self._resource = resource
        self._heard = asyncio.Condition()
        self._newest: dict[str, JsonObject] = {}
        self.events = 0
        self.listed = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        revision = (await self._kube.list(self._resource)).revision
        self.listed.set()
        while True:
            async for kind, obj in self._kube.watch(self._resource, revision):
                revision = int(obj["metadata"]["resourceVersion"])
                if kind == "BOOKMARK":
                    continue
                async with self._heard:
                    self.events += 1
                    self._newest[obj["metadata"]["name"]] = obj
                    self._heard.notify_all()

    async def until(self, name: str, so: Callable[[JsonObject], bool]) -> float:
        """Return when an object is as wished."""
        async with asyncio.timeout(DEADLINE_SECONDS), self._heard:
            await self._heard.wait_for(lambda: name in self._newest and so(self._newest[name]))
            return time.perf_counter()

    def objects(self) -> Mapping[str, JsonObject]:
        """Return the newest of each."""
        return self._newest


class Mqtt:
    """A device's client."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self._heard: asyncio.Queue[tuple[float, str, Any]] = asyncio.Queue()

    async def run(self) -> None:
        """Hear until cancelled."""
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            body = json.loads(message.payload)
            self._heard.put_nowait((time.perf_counter(), str(message.topic), body))

    async def until(
        self, so: Callable[[str, Any], bool], *, seconds: float = DEADLINE_SECONDS
    ) -> float:
        """Return when a message came that is as wished; what came before it is dropped."""
        async with asyncio.timeout(seconds):
            while True:
                at, topic, body = await self._heard.get()
                if so(topic, body):
                    return at


@asynccontextmanager
async def beside(*work: Awaitable[None]) -> AsyncIterator[None]:
    """Have work done meanwhile."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def device(name: str, value: str | None = "0", *, namespace: str = NAMESPACE) -> JsonObject:
    """Return a Device, with what it should be."""
    desired = {} if value is None else {"desired": {"value": value}}
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": EDGE, "properties": [{"name": PROPERTY, **desired}]},
    }


def report(value: str) -> str:
    """Return the payload of an update."""
    twin = {PROPERTY: {"actual": {"value": value}}}
    return json.dumps({"event_id": "", "timestamp": 1, "twin": twin})


def reported(status: JsonObject) -> str | None:
    """Return what a DeviceStatus has."""
    twins = (status.get("status") or {}).get("twins") or ()
    value: str | None = next(
        (
            (each.get("reported") or {}).get("value")
            for each in twins
            if each["propertyName"] == PROPERTY
        ),
        None,
    )
    return value


async def serve_kinds(kube: KubeClient) -> None:
    """Have the API serve the kinds of devices."""
    for path in sorted(CRDS.glob("devices.*.yaml")):
        await kube.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await kube.list(DEVICES)
            except NotFoundError:
                await asyncio.sleep(0.2)
            else:
                return
