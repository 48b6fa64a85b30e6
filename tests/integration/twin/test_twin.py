"""Twin as its neighbours see it: meta's messages in, MQTT to devices, reports to the cloud."""

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import pytest

from fedge_fabric import Envelope, envelope_of, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_local.rabbitmq_home import installed
from fedge_objects import Change, NodeName, ObjectKey, Version
from fedge_service import EdgeSettings
from fedge_twin import plugin as twin_plugin
from fedge_twin.device import DEVICES
from fedge_twin.settings import TwinSettings
from tests.fixtures.servers import EdgeBroker

pytestmark = pytest.mark.broker

NODE = NodeName("gw-1.plant.example")
DEADLINE_SECONDS = 20.0


class Inbox:
    """Messages as they came, to be waited for."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Any]] = []
        self._came = asyncio.Condition()

    async def put(self, topic: str, payload: Any) -> None:
        async with self._came:
            self.messages.append((topic, payload))
            self._came.notify_all()

    async def take(self, matches: Callable[[str, Any], bool]) -> Any:
        """Return the first message that matches, and drop it and what came before it."""
        return (await self.take_any(matches))[1]

    async def take_any(self, matches: Callable[[str, Any], bool]) -> tuple[str, Any]:
        """Return the first message that matches and its topic."""
        async with asyncio.timeout(DEADLINE_SECONDS), self._came:
            while True:
                for index, (topic, payload) in enumerate(self.messages):
                    if matches(topic, payload):
                        del self.messages[: index + 1]
                        return topic, payload
                await self._came.wait()

    async def on(self, suffix: str) -> Any:
        return await self.take(lambda topic, _: topic.endswith(suffix))


class Player:
    """A device's program, and everything else beside twin on the edge."""

    def __init__(self, client: aiomqtt.Client, fabric: Fabric, inbox: Inbox, up: Inbox) -> None:
        self._client = client
        self._fabric = fabric
        self.inbox = inbox
        self.up = up
        self._revision = 0

    async def say(self, device: str, what: str, **more: Any) -> None:
        payload = json.dumps({"event_id": "7", "timestamp": 1, **more})
        await self.publish(f"$hw/events/device/{device}/{what}", payload)

    async def publish(self, topic: str, payload: str) -> None:
        await self._client.publish(topic, payload, qos=1)

    async def subscribe(self, *filters: str) -> None:
        for each in filters:
            await self._client.subscribe(each, qos=1)

    async def declare(self, name: str, *, uid: str = "u-1", **desired: str) -> None:
        await self.change(name, {
            "apiVersion": "devices.kubeedge.io/v1beta1",
            "kind": "Device",
            "metadata": {"name": name, "namespace": "plant", "uid": uid},
            "spec": {
                "nodeName": NODE,
                "properties": [
                    {"name": key, "desired": {"value": value}} for key, value in desired.items()
                ],
            },
        })  # fmt: skip

    async def change(self, name: str, obj: dict[str, Any] | None) -> None:
        self._revision += 1
        key = ObjectKey(DEVICES, "plant", name)
        change = Change(key=key, version=Version(self._revision, self._revision), object=obj)
        await self._fabric.publish(
            envelope_of(change, source=f"/node/{NODE}/meta"),
            exchange=t.LOCAL,
            routing_key=t.local_key(DEVICES, "plant", name),
        )

    async def ask_statuses(self) -> None:
        await self._fabric.publish(
            Envelope(type=kinds.STATUSES_ASKED, source="/cloud/hub"),
            exchange=t.DOWN,
            routing_key="node.gw-1_plant_example.request.statuses",
        )

    async def ask_history(self, name: str, **more: Any) -> Any:
        """Ask as hub does; return the one piece of the answer."""
        asked = Envelope(
            type=kinds.HISTORY_ASKED,
            source="/cloud/hub",
            data={"namespace": "plant", "device": name, "deadline_seconds": 15.0, **more},
        )
        await self._fabric.publish(
            asked, exchange=t.DOWN, routing_key="node.gw-1_plant_example.request.history"
        )
        return await self.up.take(lambda subject, _: subject == asked.id)

    async def reported(self, name: str, matches: Callable[[dict[str, Any]], bool]) -> Any:
        return await self.up.take(
            lambda subject, data: subject == f"{DEVICES}/plant/{name}" and matches(data["status"])
        )


@pytest.fixture
async def player(edge_broker: EdgeBroker) -> AsyncIterator[Player]:
    inbox, up = Inbox(), Inbox()

    async def on_up(delivery: Delivery) -> None:
        assert delivery.envelope.source == f"/node/{NODE}/twin"
        await up.put(delivery.envelope.subject, delivery.envelope.data)

    async def hear(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            await inbox.put(str(message.topic), json.loads(message.payload))

    fabric = Fabric(edge_broker.edge_url, service="test", exchanges=t.EDGE_EXCHANGES)
    fabric.subscribe(
        t.Queue("test.up", (t.Binding(t.UP, "node.gw-1_plant_example.#"),), exclusive=True), on_up
    )
    mqtt = urlsplit(edge_broker.mqtt_url)
    async with (
        fabric.running(),
        aiomqtt.Client(
            "127.0.0.1", mqtt.port or 0, username=mqtt.username, password=mqtt.password
        ) as client,
    ):
        hearing = asyncio.create_task(hear(client))
        yield Player(client, fabric, inbox, up)
        hearing.cancel()


@asynccontextmanager
async def twin(broker: EdgeBroker, data_dir: Path) -> AsyncIterator[None]:
    ready = asyncio.Event()
    settings = TwinSettings(
        mqtt_url=broker.mqtt_url,
        edge=EdgeSettings(node_name=NODE, amqp_url=broker.edge_url, data_dir=data_dir),
    )
    running = asyncio.ensure_future(twin_plugin.run(settings, ready.set))
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
        await asyncio.wait({running}, timeout=DEADLINE_SECONDS)
        assert running.done(), "twin does not stop"
        if not running.cancelled():
            running.result()


class Proxy:
    """A line that can be cut."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        self._writers |= {writer, broker_writer}
        await asyncio.gather(self._pump(reader, broker_writer), self._pump(broker_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


def has_mqtt_5() -> bool:
    version = installed().folder.name.rpartition("-")[2]
    return tuple(int(each) for each in version.split(".")[:2]) >= (3, 13)


def desired_of(status: dict[str, Any], name: str) -> str | None:
    twins = {each["propertyName"]: each for each in status["twins"]}
    value: str | None = twins.get(name, {}).get("observedDesired", {}).get("value")
    return value


def says(status: dict[str, Any], **values: str) -> bool:
    return all(reported_of(status, name) == value for name, value in values.items())


def reported_of(status: dict[str, Any], name: str) -> str | None:
    twins = {each["propertyName"]: each for each in status["twins"]}
    value: str | None = twins.get(name, {}).get("reported", {}).get("value")
    return value


async def test_a_desired_value_reaches_the_device_and_the_reported_one_the_cloud(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    await player.subscribe(
        "$hw/events/device/plant/ac/twin/#", f"$hw/events/node/{NODE}/membership/#"
    )
    async with twin(edge_broker, tmp_path):
        await player.declare("ac", temp="25")
        delta = await player.inbox.on("ac/twin/update/delta")
        assert delta["delta"] == {"temp": "25"}
        assert delta["twin"]["temp"]["expected"] == {"value": "25"}
        added = await player.inbox.on("membership/updated")
        assert added["added_devices"][0]["id"] == "plant/ac"
        await player.reported("ac", lambda status: desired_of(status, "temp") == "25")

        await player.say(
            "plant/ac",
            "twin/update",
            twin={"temp": {"actual": {"value": "18", "metadata": {"timestamp": 5}}}},
        )
        result = await player.inbox.on("ac/twin/update/result")
        assert result["event_id"] == "7"
        assert result["twin"]["temp"]["actual"] == {"value": "18", "metadata": {"timestamp": 5}}
        document = await player.inbox.on("ac/twin/update/document")
        assert "actual" not in document["twin"]["temp"]["last"]
        assert document["twin"]["temp"]["current"]["actual_version"] == {"cloud": 0, "edge": 1}
        assert (await player.inbox.on("ac/twin/update/delta"))["delta"] == {"temp": "25"}
        data = await player.reported("ac", lambda status: reported_of(status, "temp") == "18")
        assert data["uid"] == "u-1"
        assert data["status"]["twins"][0]["reported"]["metadata"] == {"timestamp": "5"}

        await player.say("plant/ac", "twin/get")
        got = await player.inbox.on("ac/twin/get/result")
        assert got["twin"]["temp"]["expected_version"] == {"cloud": 1, "edge": 0}

        await player.publish(f"$hw/events/node/{NODE}/membership/get", '{"event_id": "m"}')
        membership = await player.inbox.take(
            lambda _, payload: payload.get("event_id") == "m" and "devices" in payload
        )
        assert [each["id"] for each in membership["devices"]] == ["plant/ac"]

        await player.change("ac", None)
        removed = await player.inbox.take(lambda _, payload: payload.get("removed_devices"))
        assert removed["removed_devices"] == [{"id": "plant/ac", "name": "ac"}]
        await player.say("plant/ac", "twin/get")
        assert (await player.inbox.on("ac/twin/get/result"))["code"] == 404


async def test_a_delta_is_given_again_to_a_device_that_comes_back_until_it_obeys(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    async with twin(edge_broker, tmp_path):
        await player.declare("lamp", power="on")
        await player.reported("lamp", lambda status: desired_of(status, "power") == "on")
        await player.subscribe("$hw/events/device/plant/lamp/#")
        await player.say("plant/lamp", "state/update", state="online")
        answer = await player.inbox.on("lamp/state/update/result")
        assert answer["device"]["state"] == "online"
        assert answer["device"]["lastOnlineTime"].endswith("Z")
        assert (await player.inbox.on("lamp/twin/update/delta"))["delta"] == {"power": "on"}
        data = await player.reported("lamp", lambda status: status.get("state") == "online")
        assert data["status"]["lastOnlineTime"]
        await player.say("plant/lamp", "twin/update", twin={"power": {"actual": {"value": "on"}}})
        await player.inbox.on("lamp/twin/update/document")
        await player.say("plant/lamp", "twin/get")
        await player.inbox.on("lamp/twin/get/result")
        await player.say("plant/lamp", "state/update", state="offline")
        await player.inbox.on("lamp/state/update/result")
        assert not player.inbox.messages
        await player.change("lamp", None)


async def test_who_begins_to_listen_is_shown_what_is_there(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    async with twin(edge_broker, tmp_path):
        await player.declare("pump.1", speed="3")
        await player.declare("pump.2", uid="u-2")
        await player.reported("pump.2", lambda _: True)
        await player.say("plant/pump.2", "twin/update", twin={"speed": {"actual": {"value": "1"}}})
        await player.reported("pump.2", lambda status: reported_of(status, "speed") == "1")
        await player.subscribe("$hw/events/device/plant/#")
        heard = {}
        for _ in range(2):
            topic, payload = await player.inbox.take_any(
                lambda topic, _: topic.endswith("document")
            )
            heard[topic.removeprefix("$hw/events/device/")] = payload["twin"]["speed"]["current"]
        assert heard["plant/pump/1/twin/update/document"]["expected"]["value"] == "3"
        assert heard["plant/pump/2/twin/update/document"]["actual"]["value"] == "1"
        delta = await player.inbox.on("plant/pump/1/twin/update/delta")
        assert delta["delta"] == {"speed": "3"}
        for name in ("pump.1", "pump.2"):
            await player.change(name, None)


async def test_a_device_that_runs_wild_keeps_no_other_waiting_and_ends_in_its_last_value(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    async with twin(edge_broker, tmp_path):
        await player.declare("wild", speed="0")
        await player.declare("calm", uid="u-2", speed="0")
        await player.reported("calm", lambda _: True)
        await player.subscribe("$hw/events/device/plant/+/twin/update/result")

        async def run_wild() -> None:
            for number in range(0, 5000, 100):
                await asyncio.gather(
                    *(report("plant/wild", str(each)) for each in range(number, number + 100))
                )

        async def report(name: str, value: str) -> None:
            await player.say(name, "twin/update", twin={"speed": {"actual": {"value": value}}})

        running = asyncio.create_task(run_wild())
        answered = 0
        while not running.done():
            await report("plant/calm", str(answered))
            answer = await player.inbox.on("calm/twin/update/result")
            assert "code" not in answer
            answered += 1
        await running
        assert answered > 10
        data = await player.reported("wild", lambda status: reported_of(status, "speed") == "4999")
        assert data["status"]["extensions"]["devices.fedge.io"]["droppedWords"] > 0
        for name in ("wild", "calm"):
            await player.change(name, None)


async def test_a_device_may_speak_mqtt_5_where_the_broker_does(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    if not has_mqtt_5():
        pytest.skip("this RabbitMQ has no MQTT 5, which came with 3.13")
    async with twin(edge_broker, tmp_path):
        await player.declare("fan", speed="3")
        await player.reported("fan", lambda status: desired_of(status, "speed") == "3")
        mqtt = urlsplit(edge_broker.mqtt_url)
        async with aiomqtt.Client(
            "127.0.0.1",
            mqtt.port or 0,
            username=mqtt.username,
            password=mqtt.password,
            protocol=aiomqtt.ProtocolVersion.V5,
        ) as device:
            await device.subscribe("$hw/events/device/plant/fan/twin/update/delta", qos=1)
            twin_of = {"speed": {"actual": {"value": "1"}}}
            body = json.dumps({"event_id": "5", "timestamp": 1, "twin": twin_of})
            await device.publish("$hw/events/device/plant/fan/twin/update", body, qos=1)
            async with asyncio.timeout(DEADLINE_SECONDS):
                message = await anext(device.messages)
            assert isinstance(message.payload, bytes)
            assert json.loads(message.payload)["delta"] == {"speed": "3"}
            await player.reported("fan", lambda status: reported_of(status, "speed") == "1")
        await player.change("fan", None)


async def test_a_device_with_dots_in_its_name_is_served(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    async with twin(edge_broker, tmp_path):
        await player.declare("pump.1.a", speed="3")
        await player.reported("pump.1.a", lambda status: desired_of(status, "speed") == "3")
        await player.subscribe("$hw/events/device/plant/pump.1.a/twin/update/result")
        answering = asyncio.create_task(player.inbox.on("twin/update/result"))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not answering.done():  # the subscription for the name follows the report
                await player.say(
                    "plant/pump.1.a", "twin/update", twin={"speed": {"actual": {"value": "2"}}}
                )
                await asyncio.wait({answering}, timeout=0.2)
        assert answering.result()["twin"]["speed"]["actual"] == {"value": "2"}
        await player.reported("pump.1.a", lambda status: reported_of(status, "speed") == "2")
        await player.change("pump.1.a", None)


async def test_bad_input_is_answered_with_its_reason_and_disturbs_nobody(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    await player.subscribe("$hw/events/device/+/+/twin/update/result")
    await player.subscribe("$hw/events/device/+/+/state/update/result")
    async with twin(edge_broker, tmp_path):
        await player.declare("meter", level="1")
        await player.reported("meter", lambda status: desired_of(status, "level") == "1")
        update = "$hw/events/device/plant/meter/twin/update"
        for payload, reason in [
            ("{", "not as documented"),
            ('{"event_id": "7"}', "twin"),
            ('{"event_id": "7", "twin": {}}', "no property"),
            ('{"twin": {"a b": {"actual": {"value": "1"}}}}', "'a b'"),
            ('{"twin": {"x": {"actual": {"value": "1.5"}, "metadata": {"type": "int"}}}}', "'x'"),
            (json.dumps({"twin": {"x": {"actual": {"value": "v" * 1_000_000}}}}), "bytes"),
        ]:
            await player.publish(update, payload)
            answer = await player.inbox.on("meter/twin/update/result")
            assert answer["code"] == 400
            assert reason in answer["reason"]
        await player.say("plant/meter", "state/update", state="asleep")
        assert (await player.inbox.on("meter/state/update/result"))["code"] == 400
        await player.say("plant/nobody", "twin/update", twin={"x": {"actual": {"value": "1"}}})
        answer = await player.inbox.on("nobody/twin/update/result")
        assert (answer["code"], answer["event_id"]) == (404, "7")
        await player.say("plant/meter", "twin/update", twin={"level": {"actual": {"value": "1"}}})
        assert "code" not in await player.inbox.on("meter/twin/update/result")
        await player.change("meter", None)


def is_desired(value: str, status: dict[str, Any]) -> bool:
    return desired_of(status, "open") == value


def is_reported(value: str, status: dict[str, Any]) -> bool:
    return reported_of(status, "open") == value


def is_delta(value: str, _: str, payload: Any) -> bool:
    return bool(payload["delta"] == {"open": value})


async def test_a_link_that_breaks_is_made_again_and_loses_nothing(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    proxy = Proxy(urlsplit(edge_broker.mqtt_url).port or 0)
    await proxy.open()
    await player.subscribe("$hw/events/device/plant/gate/twin/update/delta")
    mqtt = urlsplit(edge_broker.mqtt_url)
    through_proxy = replace(
        edge_broker,
        mqtt_url=f"mqtt://{mqtt.username}:{mqtt.password}@127.0.0.1:{proxy.port}",
    )
    async with twin(through_proxy, tmp_path):
        for number in range(3):
            proxy.cut()
            await player.declare("gate", open=str(number))
            await player.reported("gate", functools.partial(is_desired, str(number)))
            report = {"open": {"actual": {"value": f"{number}-said"}}}
            await player.say("plant/gate", "twin/update", twin=report)
            await proxy.open()
            await player.inbox.take(functools.partial(is_delta, str(number)))
            await player.reported("gate", functools.partial(is_reported, f"{number}-said"))
        await player.change("gate", None)
    proxy.cut()


async def test_what_was_said_while_twin_was_down_is_taken_and_told_when_it_is_back(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    async with twin(edge_broker, tmp_path):
        await player.declare("valve", open="yes")
        await player.reported("valve", lambda status: desired_of(status, "open") == "yes")
    await player.say("plant/valve", "twin/update", twin={"open": {"actual": {"value": "no"}}})
    await player.declare("valve", open="half")
    await player.subscribe("$hw/events/device/plant/valve/twin/update/delta")
    async with twin(edge_broker, tmp_path):
        await player.inbox.take(lambda _, payload: payload["delta"] == {"open": "half"})
        data = await player.reported(
            "valve",
            lambda status: (
                reported_of(status, "open") == "no" and desired_of(status, "open") == "half"
            ),
        )
        await player.ask_statuses()
        again = await player.reported("valve", lambda _: True)
        assert again | {"observed": 0} == data | {"observed": 0}
        assert again["observed"] > data["observed"]
    async with twin(edge_broker, tmp_path):
        again = await player.reported("valve", lambda _: True)
        assert again | {"observed": 0} == data | {"observed": 0}
        assert again["observed"] > data["observed"]
        await player.inbox.take(lambda _, payload: payload["delta"] == {"open": "half"})
        await player.change("valve", None)


async def test_history_is_told_to_whoever_asks_from_the_cloud(
    edge_broker: EdgeBroker, player: Player, tmp_path: Path
) -> None:
    async with twin(edge_broker, tmp_path):
        await player.declare("kiln", temp="900")
        await player.reported("kiln", lambda status: desired_of(status, "temp") == "900")
        for value in ("20", "450"):
            update = {"temp": {"actual": {"value": value}}}
            await player.say("plant/kiln", "twin/update", twin=update)
            await player.reported("kiln", functools.partial(says, temp=value))
        piece = await player.ask_history("kiln", property="temp", limit=2)
        assert (piece["status"], piece["index"], piece["last"]) == (200, 0, True)
        items = json.loads(piece["body"])["items"]
        assert [(each["side"], each["by"], each["value"]) for each in items] == [
            ("reported", "device", "450"),
            ("reported", "device", "20"),
        ]
        every = json.loads((await player.ask_history("kiln"))["body"])["items"]
        assert every[-1]["side"] == "desired"
        assert every[-1]["by"] == "cloud"
        nothing = await player.ask_history("none")
        assert (nothing["status"], nothing["last"]) == (404, True)
        assert "device plant/none is not on node" in nothing["body"]
        await player.change("kiln", None)
