"""Several replicas of device: what one began, another goes on with."""

from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from fedge_device.kinds.resources import DEVICE_MODELS, DEVICES
from fedge_devices import Stamp, read_stamps
from fedge_fabric import kinds
from fedge_objects import ObjectKey
from fedge_service import backoff
from tests.fixtures.servers import Broker
from tests.integration.device.world import ROOT, World, device

pytestmark = pytest.mark.broker

NAMES = [f"thermometer-{number}" for number in range(12)]


async def create_devices(world: World) -> None:
    """Create a device on each of many nodes."""
    folder = ROOT / "examples" / "thermometer"
    await world.kube.create(DEVICE_MODELS, yaml.safe_load((folder / "model.yaml").read_text()))
    example = yaml.safe_load((folder / "device.yaml").read_text())
    for name in NAMES:
        metadata = {**example["metadata"], "name": name}
        spec = {**example["spec"], "nodeName": f"gw-of-{name}"}
        await world.kube.create(DEVICES, {**example, "metadata": metadata, "spec": spec})


async def wish(world: World, name: str, interval: str) -> None:
    wished = [{"name": "temperature"}, {"name": "interval", "desired": {"value": interval}}]
    await world.kube.patch(DEVICES, "default", name, {"spec": {"properties": wished}})


async def given(world: World, names: Iterable[str], interval: str) -> dict[str, Stamp]:
    """Return the stamps of a wish as the nodes are given them next, once all have been."""
    waiting, stamps = set(names), dict[str, Stamp]()
    while waiting:
        told = await world.next_told()
        key = ObjectKey.parse(told.subject) if told.subject.count("/") else None
        if told.type != kinds.OBJECT_PUT or key is None or key.resource != DEVICES.name:
            continue
        properties = {each["name"]: each for each in told.data["spec"]["properties"]}
        if properties["interval"]["desired"]["value"] == interval:
            stamps[key.name] = read_stamps(told.data["metadata"]["annotations"])["interval"]
            waiting.discard(key.name)
    return stamps


async def are_kept(world: World, stamps: dict[str, Stamp]) -> None:
    """Wait until the API has the stamps."""
    async for _ in backoff(first_seconds=0.05, most_seconds=0.5):
        objects = (await world.kube.list(DEVICES)).items
        kept = {
            each["metadata"]["name"]: (each.get("status") or {}).get("desiredStamps") or {}
            for each in objects
        }
        if all(
            kept[name].get("interval", {}).get("at") == each.at for name, each in stamps.items()
        ):
            return


async def moved(world: World) -> dict[str, Stamp]:
    """Return the stamps with which another replica tells of devices, up to its first question."""
    stamps = dict[str, Stamp]()
    while True:
        told = await world.next_told()
        if told.type == kinds.STATUSES_ASKED and stamps:
            return stamps
        if told.type == kinds.OBJECT_PUT and told.subject.startswith(DEVICES.name):
            annotations = told.data["metadata"]["annotations"]
            stamps[ObjectKey.parse(told.subject).name] = read_stamps(annotations)["interval"]


async def test_wish_keeps_its_stamp_when_its_device_moves_to_another_replica(
    world: World, rabbitmq: Broker, tmp_path: Path
) -> None:
    await world.install_kinds()
    await create_devices(world)
    async with AsyncExitStack() as both:
        first = await both.enter_async_context(AsyncExitStack())
        await first.enter_async_context(device(rabbitmq, tmp_path))
        for name in NAMES:
            await wish(world, name, "30")
        stamps = await given(world, NAMES, "30")
        await are_kept(world, stamps)
        await both.enter_async_context(device(rabbitmq, tmp_path))
        for name, stamp in (await moved(world)).items():
            assert stamp == stamps[name]
        await first.aclose()
        for name, stamp in (await moved(world)).items():
            assert stamp == stamps[name]
        for name in NAMES:
            await wish(world, name, "60")
        later = await given(world, NAMES, "60")
        assert all(later[name].at > stamps[name].at for name in NAMES)
        await are_kept(world, later)
