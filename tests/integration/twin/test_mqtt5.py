"""Trace contexts in MQTT 5: a wish goes out with its own, a word is in the trace that it names."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import fedge_tracing as tracing
from fedge_fabric import Envelope, MessageClass, envelope_of
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_local.rabbitmq_home import installed
from fedge_objects import Change, NodeName, ObjectKey, Version
from fedge_service import EdgeSettings
from fedge_twin import plugin as twin_plugin
from fedge_twin.device import DEVICES
from fedge_twin.mqtt import _context_of
from fedge_twin.settings import TwinSettings
from tests.fixtures.servers import EdgeBroker

VERSION = tuple(map(int, installed().folder.name.rpartition("-")[2].split(".")[:2]))
pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(
        VERSION < (3, 13),
        reason="RabbitMQ speaks MQTT 5 from 3.13 on: `make test-rabbitmq4` runs this",
    ),
]

NODE = NodeName("edge-1")
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CONTEXT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
TOPIC = "$hw/events/device/plant/pump/twin/update"
SECONDS = 20.0


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracing.configure(node=NODE)
    yield
    tracing.stop()


@asynccontextmanager
async def twin(broker: EdgeBroker, data_dir: Path) -> AsyncIterator[None]:
    ready = asyncio.Event()
    settings = TwinSettings(
        mqtt_url=broker.mqtt_url,
        mqtt_version="5",
        report_every_seconds=0,
        edge=EdgeSettings(node_name=NODE, amqp_url=broker.edge_url, data_dir=data_dir),
    )
    running = asyncio.ensure_future(twin_plugin.run(settings, ready.set))
    try:
        await ready.wait()
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})


@asynccontextmanager
async def device(broker: EdgeBroker) -> AsyncIterator[aiomqtt.Client]:
    mqtt = urlsplit(broker.mqtt_url)
    async with aiomqtt.Client(
        "127.0.0.1",
        mqtt.port or 0,
        username=mqtt.username,
        password=mqtt.password,
        protocol=aiomqtt.ProtocolVersion.V5,
    ) as client:
        await client.subscribe(f"{TOPIC}/delta", qos=1)
        yield client


def declared() -> Change:
    obj = {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": "pump", "namespace": "plant", "uid": "u-1"},
        "spec": {
            "nodeName": NODE,
            "properties": [{"name": "power", "desired": {"value": "on"}}],
        },
    }
    key = ObjectKey(DEVICES, "plant", "pump")
    return Change(key=key, version=Version(1, 1), object=obj, traceparent=CONTEXT)


async def test_context_goes_to_the_device_and_comes_back_from_it(
    edge_broker: EdgeBroker, tmp_path: Path
) -> None:
    reports: asyncio.Queue[Envelope] = asyncio.Queue()

    async def take(delivery: Delivery) -> None:
        reports.put_nowait(delivery.envelope)

    fabric = Fabric(edge_broker.edge_url, service="test", exchanges=t.EDGE_EXCHANGES)
    binding = t.Binding(t.UP, f"node.{NODE}.{MessageClass.STATE}.devices_devices_kubeedge_io.#")
    fabric.subscribe(t.Queue("test.up", (binding,), exclusive=True), take)
    async with (
        asyncio.timeout(SECONDS),
        fabric.running(),
        twin(edge_broker, tmp_path),
        device(edge_broker) as client,
    ):
        await fabric.publish(
            envelope_of(declared(), source=f"/node/{NODE}/meta"),
            exchange=t.LOCAL,
            routing_key=t.local_key(DEVICES, "plant", "pump"),
        )
        delta = await anext(client.messages)
        assert str(delta.topic) == f"{TOPIC}/delta"
        assert tracing.trace_id_of(_context_of(delta.properties)) == TRACE_ID
        assert tracing.trace_id_of((await reports.get()).traceparent) == TRACE_ID

        own = CONTEXT.replace(TRACE_ID, TRACE_ID[::-1])
        named = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # the library's
        named.UserProperty = ("traceparent", own)
        word = {"event_id": "7", "timestamp": 1, "twin": {"power": {"actual": {"value": "off"}}}}
        await client.publish(TOPIC, json.dumps(word), qos=1, properties=named)
        assert tracing.trace_id_of((await reports.get()).traceparent) == TRACE_ID[::-1]
