"""Devices, as KubeEdge documents them and as fedge goes beyond (marked ``extension``).

https://kubeedge.io/docs/developer/device_crd, https://kubeedge.io/docs/developer/mqtt_message
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.blackbox.system import (
    NAMESPACE,
    SECONDS,
    Api,
    JsonObject,
    Mqtt,
    Target,
    conditions,
    observed,
    reported,
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

MODEL = [
    {"name": "temperature", "type": "INT", "accessMode": "ReadWrite", "minimum": "16",
     "maximum": "30", "unit": "C"},
    {"name": "room", "type": "FLOAT", "accessMode": "ReadOnly"},
    {"name": "mode", "type": "STRING", "accessMode": "ReadWrite"},
]  # fmt: skip

Declare = Callable[..., Awaitable["Device"]]
extension = pytest.mark.extension


def _update(**twin: Any) -> JsonObject:
    return {"event_id": "x", "timestamp": 1, "twin": twin}


class Device:
    """A device that the node knows, as its program sees it."""

    def __init__(self, name: str, api: Api, mqtt: Mqtt) -> None:
        self.name = name
        self._api = api
        self._mqtt = mqtt

    def topic(self, what: str) -> str:
        return f"$hw/events/device/{NAMESPACE}/{self.name}/{what}"

    async def listen(self, *what: str) -> None:
        await self._mqtt.subscribe(*(self.topic(each) for each in what))

    async def heard(self, what: str, so: Callable[[Any], object] = lambda _: True) -> Any:
        return await self._mqtt.heard(self.topic(what), so)

    def has_heard(self, what: str) -> bool:
        return self._mqtt.has_heard(self.topic(what))

    def forget(self) -> None:
        """Drop what was heard."""
        self._mqtt.messages.clear()

    async def say_raw(self, what: str, payload: bytes | str | JsonObject) -> None:
        await self._mqtt.publish(self.topic(what), payload)

    async def say(self, what: str, qos: int = 1, **more: Any) -> None:
        body = {"event_id": "e-1", "timestamp": int(time.time() * 1000), **more}
        await self._mqtt.publish(self.topic(what), body, qos)

    async def report(self, qos: int = 1, **values: Any) -> None:
        twin = {name: {"actual": {"value": value}} for name, value in values.items()}
        await self.say("twin/update", qos, twin=twin)

    async def wish(self, **values: Any) -> None:
        """Change what the manifest wishes."""
        properties = [{"name": name, "desired": {"value": value}} for name, value in values.items()]
        await self._api.patch("devices", self.name, {"spec": {"properties": properties}})

    async def status(self, so: Callable[[JsonObject | None], bool]) -> JsonObject | None:
        return await self._api.until("devicestatuses", self.name, so)


@pytest.fixture
async def declare(target: Target, api: Api, mqtt: Mqtt) -> AsyncIterator[Declare]:
    """Apply a Device, and wait until its node knows it; all are deleted at the end."""
    async with AsyncExitStack() as ends:
        updated = f"$hw/events/node/{target.node}/membership/updated"
        await mqtt.subscribe(updated)

        async def declared(
            name: str, *, model: list[JsonObject] | None = None, **desired: Any
        ) -> Device:
            if model is not None:
                await api.create("devicemodels", device_model(name, model))
                ends.push_async_callback(api.delete, "devicemodels", name)
            await api.create("devices", device(target, name, desired, model))
            ends.push_async_callback(api.delete, "devices", name)
            await mqtt.heard(updated, lambda body: name in names(body["added_devices"]))
            return Device(name, api, mqtt)

        yield declared


def device_model(name: str, properties: list[JsonObject]) -> JsonObject:
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "DeviceModel",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"protocol": "mqtt", "properties": properties},
    }


def device(
    target: Target, name: str, desired: dict[str, Any], model: list[JsonObject] | None = None
) -> JsonObject:
    """Return a Device; KubeEdge reads a property's type in its metadata."""
    types = {each["name"]: each["type"].lower() for each in model or ()}
    properties = [
        {
            "name": each,
            "desired": {"value": value}
            | ({"metadata": {"type": types[each]}} if each in types else {}),
        }
        for each, value in desired.items()
    ]
    spec: JsonObject = {"nodeName": target.node, "properties": properties}
    if model is not None:
        spec["deviceModelRef"] = {"name": name}
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def names(devices: list[JsonObject]) -> set[str]:
    return {each["name"] for each in devices}


async def test_a_device_is_told_when_it_comes_to_the_node_and_when_it_goes(
    target: Target, api: Api, mqtt: Mqtt, name: str
) -> None:
    topic = f"$hw/events/node/{target.node}/membership/updated"
    await mqtt.subscribe(topic)
    await api.create("devices", device(target, name, {"t": "20"}))
    body = await mqtt.heard(topic, lambda body: name in names(body["added_devices"]))
    [added] = [each for each in body["added_devices"] if each["name"] == name]
    assert added["id"] == f"{NAMESPACE}/{name}"
    assert added["twin"]["t"]["expected"]["value"] == "20"
    await api.delete("devices", name)
    body = await mqtt.heard(topic, lambda body: name in names(body["removed_devices"]))
    assert await api.until("devicestatuses", name, lambda status: status is None) is None


async def test_a_desired_value_becomes_a_delta(declare: Declare, name: str) -> None:
    it = await declare(name, t="20")
    await it.listen("twin/update/delta")
    await it.wish(t="21")
    body = await it.heard("twin/update/delta", lambda body: body["delta"] == {"t": "21"})
    assert body["twin"]["t"]["expected"]["value"] == "21"
    assert body["twin"]["t"]["metadata"]["type"] == "string"
    assert {"event_id", "timestamp"} <= body.keys()


async def test_a_device_that_obeys_hears_no_more_of_it_and_the_api_shows_it(
    declare: Declare, name: str
) -> None:
    it = await declare(name, t="20")
    await it.listen("twin/update/delta", "twin/update/result")
    await it.report(t="18")
    await it.heard("twin/update/delta", lambda body: body["delta"] == {"t": "20"})
    await it.report(t="20")
    await it.heard("twin/update/result", lambda body: body["twin"]["t"]["actual"]["value"] == "20")
    status = await it.status(lambda status: reported(status) == {"t": "20"})
    assert observed(status) == {"t": "20"}
    await it.report(other="1")
    await it.heard("twin/update/result", lambda body: "other" in body["twin"])
    await it.status(lambda status: reported(status) == {"t": "20", "other": "1"})
    assert not it.has_heard("twin/update/delta")


async def test_a_delta_is_given_again_with_each_report_that_differs(
    declare: Declare, name: str
) -> None:
    it = await declare(name, t="20")
    await it.listen("twin/update/delta")
    for value in ("18", "19"):
        await it.report(t=value)
        while True:  # what was there before the report may come first
            body = await it.heard("twin/update/delta")
            assert body["delta"] == {"t": "20"}
            if (body["twin"]["t"].get("actual") or {}).get("value") == value:
                break


@extension
async def test_a_device_that_comes_back_is_given_its_delta_until_it_obeys(
    declare: Declare, name: str
) -> None:
    it = await declare(name, t="20")
    await it.listen("twin/update/delta", "twin/update/result", "state/update/result")

    async def come_back() -> None:
        for state in ("offline", "online"):
            await it.say("state/update", state=state)
            await it.heard("state/update/result")

    for _ in range(2):
        await come_back()
        await it.heard("twin/update/delta", lambda body: body["delta"] == {"t": "20"})
    await it.report(t="20")
    await it.heard("twin/update/result")
    it.forget()
    await come_back()
    await it.report(t="20")  # answered after all that the return caused
    await it.heard("twin/update/result")
    assert not it.has_heard("twin/update/delta")


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_reported_value_is_shown_at_the_api(declare: Declare, name: str, qos: int) -> None:
    it = await declare(name)
    await it.report(qos, t="18.5")
    status = await it.status(lambda status: reported(status) == {"t": "18.5"})
    assert status is not None
    assert status["metadata"]["ownerReferences"][0]["kind"] == "Device"


async def test_a_twin_is_given_whole_with_its_versions(declare: Declare, name: str) -> None:
    it = await declare(name, t="20")
    await it.listen("twin/get/result", "twin/update/result")
    await it.report(t="18")
    await it.heard("twin/update/result")
    await it.say("twin/get")
    body = await it.heard("twin/get/result")
    assert body["event_id"] == "e-1"
    each = body["twin"]["t"]
    assert (each["expected"]["value"], each["actual"]["value"]) == ("20", "18")
    assert each["expected_version"]["cloud"] >= 1
    assert each["actual_version"]["edge"] >= 1


async def test_an_update_is_answered_and_documented(declare: Declare, name: str) -> None:
    it = await declare(name, t="20")
    await it.listen("twin/update/result", "twin/update/document")
    await it.report(t="18")
    body = await it.heard("twin/update/result")
    assert body["event_id"] == "e-1"
    assert body["twin"]["t"]["actual"]["value"] == "18"
    assert "actual_version" not in body["twin"]["t"]
    await it.report(t="19")
    body = await it.heard(
        "twin/update/document",
        lambda body: body["twin"]["t"]["current"].get("actual", {}).get("value") == "19",
    )
    assert body["twin"]["t"]["last"]["actual"]["value"] == "18"


async def test_an_optional_property_is_deleted_by_null(declare: Declare, name: str) -> None:
    it = await declare(name)
    await it.listen("twin/update/result", "twin/get/result")
    await it.report(extra="1")
    await it.heard("twin/update/result", lambda body: body["twin"]["extra"])
    await it.say("twin/update", twin={"extra": None})
    await it.heard("twin/update/result", lambda body: body["twin"]["extra"] is None)
    await it.say("twin/get")
    assert (await it.heard("twin/get/result"))["twin"] == {}


async def test_state_and_last_time_online(declare: Declare, name: str) -> None:
    it = await declare(name)
    await it.listen("state/update/result")
    await it.say("state/update", state="online")
    body = await it.heard("state/update/result")
    assert body["device"]["state"] == "online"
    assert body["device"]["lastOnlineTime"]
    status = await it.status(lambda status: _part(status, "state") == "online")
    assert _part(status, "lastOnlineTime") == body["device"]["lastOnlineTime"]
    await it.say("state/update", state="offline")
    await it.status(lambda status: _part(status, "state") == "offline")


async def test_the_node_tells_which_devices_it_has(
    target: Target, declare: Declare, mqtt: Mqtt, name: str
) -> None:
    await declare(name)
    topic = f"$hw/events/node/{target.node}/membership/get"
    await mqtt.subscribe(f"{topic}/result")
    await mqtt.publish(topic, {"event_id": "m", "timestamp": 1})
    body = await mqtt.heard(f"{topic}/result")
    assert body["event_id"] == "m"
    assert name in names(body["devices"])


@pytest.mark.parametrize(
    ("payload", "code", "word"),
    [
        pytest.param("{broken", 400, "", id="no JSON"),
        pytest.param({"event_id": "x", "timestamp": 1}, 400, "twin", id="no twin"),
        pytest.param(_update(temperature={"actual": {"value": "warm"}}), 400, "int", id="type"),
        pytest.param(
            _update(temperature={"actual": {"value": "31"}}),
            400, "30", id="above maximum", marks=extension,
        ),
        pytest.param(
            _update(temperature={"expected": {"value": "15"}}),
            400, "16", id="wish below minimum", marks=extension,
        ),
        pytest.param(
            _update(room={"expected": {"value": "20"}}),
            400, "read only", id="wish of what is read only", marks=extension,
        ),
        pytest.param(
            _update(**{"a b": {"actual": {"value": "1"}}}),
            400, "a b", id="name", marks=extension,
        ),
        pytest.param(
            _update(unknown={"actual": {"value": "1"}}),
            404, "unknown", id="not in the model", marks=extension,
        ),
        pytest.param('{"event_id": 7}', 400, "", id="event id is a number", marks=extension),
    ],
)  # fmt: skip
async def test_a_bad_update_is_refused_with_its_reason_and_the_next_is_taken(
    declare: Declare, name: str, payload: str | JsonObject, code: int, word: str
) -> None:
    it = await declare(name, model=MODEL, temperature="20")
    await it.listen("twin/update/result", "twin/get/result")
    await it.say_raw("twin/update", payload)
    body = await it.heard("twin/update/result")
    assert body["code"] == code, body
    assert word in body["reason"]
    await it.report(temperature="21")
    assert "code" not in await it.heard("twin/update/result")
    await it.say("twin/get")
    twin = (await it.heard("twin/get/result"))["twin"]
    assert twin["temperature"]["expected"]["value"] == "20"
    assert twin["temperature"]["actual"]["value"] == "21"
    assert "unknown" not in twin


async def test_an_unknown_device_is_answered_with_404(mqtt: Mqtt, name: str) -> None:
    topic = f"$hw/events/device/{NAMESPACE}/{name}/twin/update"
    await mqtt.subscribe(f"{topic}/result")
    twin = {"t": {"actual": {"value": "1"}}}
    await mqtt.publish(topic, {"event_id": "x", "timestamp": 1, "twin": twin})
    body = await mqtt.heard(f"{topic}/result")
    assert (body["code"], body["event_id"]) == (404, "x")


@extension
async def test_a_megabyte_is_refused_with_an_answer_and_disturbs_nobody(
    declare: Declare, name: str
) -> None:
    large, calm = await declare(f"{name}-a"), await declare(f"{name}-b")
    for each in (large, calm):
        await each.listen("twin/update/result")
    await large.report(t="x" * 1_000_000)
    await calm.report(t="1")
    assert (await large.heard("twin/update/result"))["code"] in {400, 413}
    await calm.report(t="2")
    await calm.heard("twin/update/result", lambda body: body["twin"]["t"]["actual"]["value"] == "2")
    await large.report(t="3")
    await large.status(lambda status: reported(status) == {"t": "3"})


@extension
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, {"b": None}]}, '{"a":[1,{"b":null}]}'),
        ([1.5, "x", True], '[1.5,"x",true]'),
        ("Grüße, 世界 \u0007", "Grüße, 世界 \u0007"),
        ("007", "007"),
        (7, "7"),
        (True, "true"),
        ('with spaces and "quotes"', 'with spaces and "quotes"'),
    ],
)
async def test_a_value_is_any_json(declare: Declare, name: str, value: Any, text: str) -> None:
    it = await declare(name)
    await it.listen("twin/get/result")
    await it.report(t=value)
    await it.status(lambda status: reported(status) == {"t": text})
    await it.say("twin/get")
    assert (await it.heard("twin/get/result"))["twin"]["t"]["actual"]["value"] == value


@extension
async def test_a_device_with_dots_in_its_name(declare: Declare, name: str) -> None:
    it = await declare(f"{name}.plant.example", t="20")
    await it.listen("twin/update/delta", "twin/get/result", "state/update/result")
    await it.report(t="18")
    await it.heard("twin/update/delta", lambda body: body["delta"] == {"t": "20"})
    await it.say("twin/get")
    assert (await it.heard("twin/get/result"))["twin"]["t"]["actual"]["value"] == "18"
    await it.say("state/update", state="online")
    assert (await it.heard("state/update/result"))["device"]["name"] == it.name
    await it.status(lambda status: reported(status) == {"t": "18"})


@extension
async def test_a_model_that_comes_after_its_device_holds_from_then_on(
    api: Api, declare: Declare, name: str
) -> None:
    it = await declare(name, t="20")
    await it.listen("twin/update/result", "twin/update/delta")
    await api.patch("devices", name, {"spec": {"deviceModelRef": {"name": name}}})
    await it.report(t="warm")
    assert "code" not in await it.heard("twin/update/result")
    model = [{"name": "t", "type": "INT", "accessMode": "ReadWrite", "maximum": "30"}]
    try:
        await api.create("devicemodels", device_model(name, model))
        async with asyncio.timeout(SECONDS):
            while True:
                await it.report(t="31")
                if "code" in (body := await it.heard("twin/update/result")):
                    break
        assert body["code"] == 400
        await it.report(t="21")
        assert "code" not in await it.heard("twin/update/result")
        await it.status(lambda status: reported(status) == {"t": "21"})
        await it.wish(t="22")
        await it.heard("twin/update/delta", lambda body: body["delta"] == {"t": "22"})
    finally:
        await api.delete("devicemodels", name)


@extension
async def test_a_wish_that_the_model_forbids_is_a_condition_and_no_delta(
    declare: Declare, api: Api, name: str
) -> None:
    it = await declare(name, model=MODEL, temperature="20")
    await it.listen("twin/update/delta", "twin/get/result")
    await it.wish(temperature="99")
    found = await api.until(
        "devices", name, lambda obj: conditions(obj).get("Valid", {}).get("status") == "False"
    )
    assert conditions(found)["Valid"]["reason"] == "AboveMaximum"
    assert "temperature" in conditions(found)["Valid"]["message"]
    await it.status(lambda status: observed(status) == {"temperature": "20"})
    await it.wish(temperature="22")
    await it.heard("twin/update/delta", lambda body: body["delta"] == {"temperature": "22"})
    await api.until(
        "devices", name, lambda obj: conditions(obj).get("Valid", {}).get("status") == "True"
    )


@extension
async def test_a_device_in_one_line(declare: Declare, api: Api, name: str) -> None:
    it = await declare(name, t="20")
    await it.say("state/update", state="online")
    await it.report(t="18")
    await api.until("devices", name, lambda obj: _part(obj, "sync") == "Pending")
    await it.report(t="20")
    found = await api.until("devices", name, lambda obj: _part(obj, "sync") == "Synced")
    assert (_part(found, "desired"), _part(found, "state")) == ("t=20", "online")
    await api.until("devices", name, lambda obj: _part(obj, "reported") == "t=20")


@extension
@pytest.mark.parametrize(
    ("rule", "kept", "lost"), [("cloud-wins", "25", "22"), ("edge-wins", "22", "25")]
)
async def test_two_wishes_are_merged_by_rule_and_none_is_lost_silently(
    target: Target, api: Api, declare: Declare, name: str, rule: str, kept: str, lost: str
) -> None:
    it = await declare(name, t="20")
    properties = [{"name": "t", "desired": {"value": "20"}, "mergeRule": rule}]
    await api.patch("devices", name, {"spec": {"properties": properties}})
    await it.status(lambda status: observed(status) == {"t": "20"})
    await it.say("twin/update", twin={"t": {"expected": {"value": "22"}}})
    await it.status(lambda status: observed(status) == {"t": "22"})
    await api.until("devices", name, lambda obj: _part(obj, "sync") == "SetAtEdge")
    properties[0]["desired"] = {"value": "25"}
    await api.patch("devices", name, {"spec": {"properties": properties}})
    if rule == "cloud-wins":  # whoever wrote it could see the edge's wish
        await it.status(lambda status: observed(status) == {"t": kept})
        return
    found = await api.until(
        "devices", name, lambda obj: conditions(obj).get("Conflict", {}).get("status") == "True"
    )
    message = conditions(found)["Conflict"]["message"]
    assert kept in message
    assert lost in message
    await it.say("twin/update", twin={"t": {"expected": {"value": None}}})
    await it.status(lambda status: observed(status) == {"t": "25"})
    await api.until(
        "devices", name, lambda obj: conditions(obj).get("Conflict", {}).get("status") == "False"
    )


@extension
async def test_who_begins_to_listen_is_shown_what_is_there(
    target: Target, declare: Declare, name: str
) -> None:
    it = await declare(name, t="20")
    await it.report(t="18")
    await it.status(lambda status: reported(status) == {"t": "18"})
    async with Mqtt.connected(target) as other:
        await other.subscribe("$hw/events/device/+/+/twin/update/document")
        body = await other.heard(it.topic("twin/update/document"))
        assert body["twin"]["t"]["current"]["actual"]["value"] == "18"
        await other.subscribe("$hw/events/device/+/+/twin/update/delta")
        await other.heard(it.topic("twin/update/delta"), lambda body: body["delta"] == {"t": "20"})


@asynccontextmanager
async def going_on(work: Awaitable[None]) -> AsyncIterator["asyncio.Future[None]"]:
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@extension
async def test_a_device_that_says_ten_thousand_words_keeps_no_other_waiting(
    target: Target, declare: Declare, name: str
) -> None:
    wild, calm = await declare(f"{name}-wild"), await declare(f"{name}-calm")
    await calm.listen("twin/update/result")
    async with Mqtt.connected(target) as other:
        loud = Device(wild.name, wild._api, other)

        async def flood() -> None:
            for number in range(0, 10_000, 200):
                await asyncio.gather(
                    *(loud.report(t=str(each)) for each in range(number, number + 200))
                )

        waits: list[float] = []
        async with going_on(flood()) as flooding:
            while not flooding.done():
                began = time.monotonic()
                await calm.report(t=str(len(waits)))
                assert "code" not in await calm.heard("twin/update/result")
                waits.append(time.monotonic() - began)
            await flooding
    assert len(waits) > 5
    assert statistics.median(waits) < 1
    await wild.status(lambda status: reported(status) == {"t": "9999"})


def _part(obj: JsonObject | None, name: str) -> Any:
    return ((obj or {}).get("status") or {}).get(name)
