"""Device against the embedded Kubernetes API and a real broker."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fedge_device.credentials import ACCOUNT
from fedge_device.kinds.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES
from fedge_device.summaries import Summaries
from fedge_devices import (
    DEVICE_CREDENTIALS,
    SECRET_ANNOTATION,
    SECRET_KEY,
    SECRET_TYPE,
    read_stamps,
)
from fedge_fabric import kinds
from fedge_kube import SECRETS
from tests.fixtures.servers import Broker
from tests.integration.device.world import (
    DEADLINE_SECONDS,
    KEY,
    NODE,
    World,
    condition,
    device,
    value_of,
)

pytestmark = pytest.mark.broker

WRITE_EVERY_SECONDS = 0.1
"""Of one device's status, where no setting says otherwise."""


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

        now = asyncio.get_running_loop().time
        began = now()
        watching = asyncio.create_task(world.status(lambda status: value_of(status) == "199"))
        for value in range(100, 200):
            await world.report(uid, str(value))
        _, changes = await watching
        assert changes <= (now() - began) / WRITE_EVERY_SECONDS + 2

        await world.report("another-uid", "0")
        await world.kube.delete(DEVICES, "default", KEY.name)
        await world.told(kinds.OBJECT_GONE, str(KEY))


async def test_a_device_is_given_the_account_that_its_secret_says(
    world: World, rabbitmq: Broker, tmp_path: Path
) -> None:
    await world.install_kinds()
    await world.create_example()
    account = f"{DEVICE_CREDENTIALS}/default/{KEY.name}"
    async with device(rabbitmq, tmp_path):
        patch = {"metadata": {"annotations": {SECRET_ANNOTATION: "thermometer-login"}}}
        await world.kube.patch(DEVICES, "default", KEY.name, patch)
        missing = await world.device(
            lambda status: any(each["type"] == ACCOUNT for each in status["conditions"])
        )
        assert condition(missing, ACCOUNT)["reason"] == "SecretNotFound"
        metadata = {"name": "thermometer-login", "namespace": "default"}
        secret = {"metadata": metadata, "type": SECRET_TYPE, "stringData": {SECRET_KEY: "sesame"}}
        await world.kube.create(SECRETS, {"apiVersion": "v1", "kind": "Secret"} | secret)
        put = await world.told(kinds.OBJECT_PUT, account)
        assert put.data["spec"]["user"] == f"default/{KEY.name}"
        await world.device(lambda status: condition(status, ACCOUNT)["status"] == "True")
        await world.kube.delete(SECRETS, "default", "thermometer-login")
        await world.told(kinds.OBJECT_GONE, account)


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


async def test_a_line_says_what_a_device_should_be_and_is(
    world: World, rabbitmq: Broker, tmp_path: Path
) -> None:
    await world.install_kinds()
    uid = await world.create_example()
    async with device(rabbitmq, tmp_path):
        await world.becomes("Unknown")
        await world.report(uid, "20", interval="60")
        pending = condition(await world.becomes("Pending"), "Synced")
        assert pending["message"] == "interval should be 10 and is 60"
        await world.report(uid, "20", interval="10")
        await world.becomes("Synced")
        line = await world.line()
        assert line.pop("Age")
        line.pop("Last Online")
        assert line == {
            "Name": "thermometer-1",
            "Node": "edge-1",
            "Model": "thermometer",
            "State": "online",
            "Desired": "interval=10",
            "Reported": "temperature=20,interval=10",
            "Sync": "Synced",
            "Protocol": "mqtt",
        }
        await world.wish("0")
        valid = condition(await world.becomes("Invalid"), "Valid")
        assert valid["reason"] == "BelowMinimum"
        assert "'interval'" in valid["message"]
        assert valid["observedGeneration"] == 2
        conflict = {
            "kept": "30",
            "keptBy": "edge",
            "lost": "20",
            "lostBy": "cloud",
            "rule": "edge-wins",
        }
        said = {"desiredBy": "edge", "stamp": 1 << 56, "conflict": conflict}
        extensions = {"devices.fedge.io": {"properties": {"interval": said}}}
        await world.wish("20")
        await world.report(uid, "20", interval="30", more={"extensions": extensions})
        assert condition(await world.becomes("Conflict"), "Conflict")["reason"] == "EdgeWins"
        await world.report(uid, "21", interval="20")
        await world.becomes("Synced")
        found, _ = await world.status(lambda status: value_of(status) == "21")
        assert "extensions" not in found["status"]


async def test_a_model_that_comes_after_its_device_is_looked_at(
    world: World, rabbitmq: Broker, tmp_path: Path
) -> None:
    await world.install_kinds()
    uid = await world.create_example()
    model = await world.kube.get(DEVICE_MODELS, "default", "thermometer")
    await world.kube.delete(DEVICE_MODELS, "default", "thermometer")
    async with device(rabbitmq, tmp_path):
        missed = condition(await world.becomes("Invalid"), "Valid")
        assert missed["reason"] == "ModelNotFound"
        await world.report(uid, "20")
        again = {"name": "thermometer", "namespace": "default"}
        await world.kube.create(DEVICE_MODELS, {**model, "metadata": again})
        await world.becomes("Synced")
        await world.kube.delete(DEVICE_MODELS, "default", "thermometer")
        await world.becomes("Invalid")


async def test_the_node_is_given_stamps_and_the_clouds_own_writes_are_not_told(
    world: World, rabbitmq: Broker, tmp_path: Path
) -> None:
    await world.install_kinds()
    uid = await world.create_example()
    async with device(rabbitmq, tmp_path):
        first = await world.put()
        stamp = read_stamps(first["metadata"]["annotations"])["interval"]
        assert stamp.at > 0
        assert stamp.seen == 0
        await world.report(uid, "20")
        kept = (await world.becomes("Synced"))["desiredStamps"]
        assert kept == {"interval": {"value": "10", "at": stamp.at, "seen": 0}}
        said = {"desiredBy": "edge", "stamp": stamp.at + 5}
        extensions = {"devices.fedge.io": {"properties": {"interval": said}}}
        await world.report(uid, "20", interval="30", more={"extensions": extensions})
        await world.becomes("SetAtEdge")
        await asyncio.sleep(0.3)
        # a repeat of what it was given may come, nothing else
        assert all(each.data == first for each in world.puts_since())
    async with device(rabbitmq, tmp_path):  # another one; the value is the same
        again = await world.put()
        assert read_stamps(again["metadata"]["annotations"])["interval"] == stamp
        await world.wish("20")
        after = await world.put(lambda obj: "20" in str(obj["spec"]["properties"]))
        later = read_stamps(after["metadata"]["annotations"])["interval"]
        assert later.at > later.seen == stamp.at + 5


async def test_the_old_nodes_late_words_about_a_moved_device_are_not_heard(
    world: World, rabbitmq: Broker, tmp_path: Path
) -> None:
    await world.install_kinds()
    uid = await world.create_example()
    async with device(rabbitmq, tmp_path):
        await world.report(uid, "20")
        await world.becomes("Synced")
        await world.kube.patch(DEVICES, "default", KEY.name, {"spec": {"nodeName": "edge-2"}})
        await world.becomes("Unknown")
        for late in range(5):
            await world.report(uid, f"9{late}")
        await world.report(uid, "21", node="edge-2")
        for late in range(5):
            await world.report(uid, f"8{late}")
        found = await world.becomes("Synced")
        assert found["reported"].startswith("temperature=21")
        await asyncio.sleep(1.5)
        status = await world.kube.get(DEVICE_STATUSES, "default", KEY.name)
        assert value_of(status) == "21"
        assert (await world.line())["Node"] == "edge-2"


async def test_a_status_that_somebody_deleted_is_made_again_without_another_report(
    world: World, rabbitmq: Broker, tmp_path: Path
) -> None:
    await world.install_kinds()
    uid = await world.create_example()
    async with device(rabbitmq, tmp_path):
        await world.report(uid, "7")
        await world.becomes("Synced")
        before = await world.kube.get(DEVICE_STATUSES, "default", KEY.name)
        await world.kube.delete(DEVICE_STATUSES, "default", KEY.name)
        await world.status(
            lambda status: (
                value_of(status) == "7" and status["metadata"]["uid"] != before["metadata"]["uid"]
            )
        )
        await world.becomes("Synced")
        await world.kube.delete(DEVICES, "default", KEY.name)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await world.kube.list(DEVICE_STATUSES)).items:  # noqa: ASYNC110 - an API
                await asyncio.sleep(0.1)
        await asyncio.sleep(1.5)
        assert not (await world.kube.list(DEVICE_STATUSES)).items


async def test_device_killed_between_status_and_summary_writes_the_summary_later(
    world: World, rabbitmq: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.install_kinds()
    uid = await world.create_example()
    with monkeypatch.context() as patched:

        async def never(*_: Any) -> None:
            await asyncio.get_running_loop().create_future()

        patched.setattr(Summaries, "_write", never)
        async with device(rabbitmq, tmp_path):
            await world.report(uid, "20")
            await world.status(lambda status: value_of(status) == "20")
    assert "status" not in await world.kube.get(DEVICES, "default", KEY.name)
    async with device(rabbitmq, tmp_path):
        await world.becomes("Synced")
