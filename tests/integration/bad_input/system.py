"""All services of both sides in one process, on one real broker, with a runtime in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import yaml
from redis.asyncio import Redis
from yarl import URL

from fedge_apiserver.server import running_server
from fedge_apiserver.settings import ApiServerSettings
from fedge_controller import plugin as controller
from fedge_controller.settings import ControllerSettings
from fedge_cri.fake import FakeRuntime
from fedge_device import plugin as device
from fedge_device.kinds.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES
from fedge_device.settings import DeviceSettings
from fedge_edged import plugin as edged
from fedge_edged.settings import EdgedSettings
from fedge_fabric.fabric import Fabric, Handler
from fedge_fabric.topology import Queue
from fedge_hub import plugin as hub
from fedge_hub.settings import HubSettings
from fedge_kube import (
    CUSTOM_RESOURCE_DEFINITIONS,
    EVENTS,
    NODES,
    PODS,
    KubeClient,
    NotFoundError,
    Resource,
)
from fedge_meta import plugin as meta
from fedge_meta.settings import MetaSettings
from fedge_objects import JsonObject, NodeName
from fedge_service import EdgeSettings, backoff
from fedge_twin import plugin as twin
from fedge_twin.settings import TwinSettings
from tests.fixtures.servers import SharedBroker, free_ports
from tests.unit.edged.kit import IMAGE

ROOT = Path(__file__).parents[3]
NODE = NodeName("edge-1")
DEADLINE_SECONDS = 30.0

Plugin = Callable[[Any, Callable[[], None]], Awaitable[None]]


@dataclass
class System:
    """What runs, and how its users see it."""

    kube: KubeClient
    url: str
    mqtt_url: str
    kubeconfig: Path
    edge_api: Path
    """Folder of the edge's API."""
    services: "dict[str, tuple[Plugin, Any]]" = field(default_factory=dict)
    running: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    fabrics: list[Fabric] = field(default_factory=list)
    _made: int = 0

    def check_running(self) -> None:
        """Make sure that no service has ended."""
        for name, each in self.running.items():
            if each.done():
                each.result()
                raise AssertionError(f"{name} has ended")

    async def becomes(self, condition: Callable[[], Awaitable[object]]) -> None:
        """Wait for something that only the API or the broker tells."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for _ in backoff(first_seconds=0.05, most_seconds=0.3):
                self.check_running()
                if await condition():
                    return

    async def start(self, name: str) -> None:
        """Start a service, and wait until it serves."""
        run, settings = self.services[name]
        ready = asyncio.Event()
        running = self.running[name] = asyncio.ensure_future(run(settings, ready.set))
        waiting = asyncio.create_task(ready.wait())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
            self.check_running()
        finally:
            waiting.cancel()

    async def stop(self, *names: str) -> None:
        """Stop services, the last first."""
        for name in reversed(names):
            running = self.running.pop(name, None)
            if running is None:
                continue
            running.cancel()
            await asyncio.wait({running}, timeout=DEADLINE_SECONDS)
            assert running.done(), f"{name} does not stop"
            if not running.cancelled():
                running.result()

    async def check(self) -> None:
        """See that what people and devices do has its full effect, on both sides."""
        self._made += 1
        name = f"good-{self._made}"
        await asyncio.gather(self._check_pod(name), self._check_device(name))

    async def _check_pod(self, name: str) -> None:
        await self.kube.create(PODS, {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": NODE,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": IMAGE}],
                "tolerations": [{"operator": "Exists"}],
            },
        })  # fmt: skip

        async def runs() -> bool:
            pod = await self.kube.get(PODS, "default", name)
            return bool((pod.get("status") or {}).get("phase") == "Running")

        async def is_told() -> bool:
            events = (await self.kube.list(EVENTS)).items
            return any(each["involvedObject"]["name"] == name for each in events)

        await self.becomes(runs)
        await self.becomes(is_told)
        await self.kube.delete(PODS, "default", name, grace_seconds=0)
        await self.becomes(lambda: self._is_gone(PODS, "default", name))

    async def _check_device(self, name: str) -> None:
        folder = ROOT / "examples" / "thermometer"
        obj = yaml.safe_load((folder / "device.yaml").read_text())
        obj["metadata"]["name"] = name
        obj["spec"]["nodeName"] = NODE
        await self.kube.create(DEVICES, obj)
        parts = URL(self.mqtt_url)
        async with aiomqtt.Client(
            parts.host or "", parts.port or 0, username=parts.user, password=parts.password
        ) as client:
            topic = f"$hw/events/device/default/{name}/twin/update"
            payload = json.dumps({"twin": {"temperature": {"actual": {"value": "21"}}}})

            async def shows() -> bool:
                # until the device is there it is refused, as documented
                await client.publish(topic, payload, qos=1)
                try:
                    status = await self.kube.get(DEVICE_STATUSES, "default", name)
                except NotFoundError:
                    return False
                twins = (status.get("status") or {}).get("twins") or []
                return any((each.get("reported") or {}).get("value") == "21" for each in twins)

            await self.becomes(shows)

    async def _is_gone(self, resource: Resource, namespace: str, name: str) -> bool:
        try:
            await self.kube.get(resource, namespace, name)
        except NotFoundError:
            return True
        return False

    async def is_registered(self) -> bool:
        return not await self._is_gone(NODES, "", NODE)


@asynccontextmanager
async def system(
    broker: SharedBroker, redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[System]:
    """Run everything."""
    http_port, edge_api_port = free_ports(2)
    edge = EdgeSettings(
        node_name=NODE, amqp_url=broker.url, data_dir=folder / "edge", heartbeat_seconds=1.0
    )
    runtime = FakeRuntime()
    runtime.add_image(IMAGE)

    @asynccontextmanager
    async def in_memory(_: EdgedSettings) -> AsyncIterator[FakeRuntime]:
        yield runtime

    monkeypatch.setattr(edged, "load_runtime", lambda _: in_memory)
    async with Redis.from_url(redis_url) as redis:
        await redis.flushdb()  # another cluster's versions would be newer than those of this one
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            running_server(ApiServerSettings(data_dir=folder / "api", port=0))
        )
        kubeconfig = folder / "api" / "kubeconfig"
        kube = await stack.enter_async_context(KubeClient.connected(kubeconfig))
        for path in sorted((ROOT / "deploy/k8s/base/crds").glob("devices.*.yaml")):
            await kube.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()))
        model = ROOT / "examples" / "thermometer" / "model.yaml"
        await kube.create(DEVICE_MODELS, yaml.safe_load(model.read_text()))
        made = System(
            kube=kube,
            url=broker.url,
            mqtt_url=broker.mqtt_url,
            kubeconfig=kubeconfig,
            edge_api=folder / "edge" / "api",
        )
        _record(made, monkeypatch)
        services: dict[str, tuple[Plugin, Any]] = {
            "hub": (hub.run, HubSettings(
                amqp_url=broker.url, redis_url=redis_url, http_port=http_port
            )),
            "controller": (
                controller.run, ControllerSettings(amqp_url=broker.url, kubeconfig=kubeconfig)
            ),
            "device": (device.run, DeviceSettings(
                amqp_url=broker.url, kubeconfig=kubeconfig, write_every_seconds=0.0
            )),
            "meta": (
                meta.run, MetaSettings(edge=edge, api_port=edge_api_port, api_address="",
                api_edged_socket=folder / "run" / "edged.sock")
            ),
            "twin": (twin.run, TwinSettings(mqtt_url=broker.mqtt_url, edge=edge)),
            "edged": (edged.run, EdgedSettings(
                pod_log_dir=folder / "logs", run_dir=folder / "run", eviction_hard={}, edge=edge
            )),
        }  # fmt: skip
        made.services = services
        stack.push_async_callback(made.stop, *services)
        for name in services:
            await made.start(name)
        await made.becomes(made.is_registered)
        yield made


def _record(made: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep which queues are consumed, and by whom."""
    subscribe = Fabric.subscribe

    def recording(self: Fabric, queue: Queue, handler: Handler) -> None:
        made.queues[queue.name] = queue
        if self not in made.fabrics:
            made.fabrics.append(self)
        subscribe(self, queue, handler)

    monkeypatch.setattr(Fabric, "subscribe", recording)


def reason_of(letter: JsonObject) -> str:
    """Return why a message was put aside."""
    return str(letter.get("fedge-reason", ""))
