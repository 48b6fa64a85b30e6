"""Thirty devices that report a hundred times a second each, by nodes that gather nothing."""

import asyncio
import time
from pathlib import Path

import pytest
import yaml

from fedge_device.kinds.resources import DEVICE_STATUSES, DEVICES
from fedge_kube import Changed, KubeClient, Resource, observe
from tests.fixtures.servers import Broker
from tests.integration.device.world import DEADLINE_SECONDS, ROOT, World, device, value_of

pytestmark = pytest.mark.broker

NAMES = [f"d-{number}" for number in range(30)]
REPORTS = 100
PER_SECOND = 100
LAST = str(REPORTS - 1)
SUMMARY_SECONDS = 5.0


class Writes:
    """How often the objects of a resource were written, by name."""

    def __init__(self) -> None:
        self.by_name = dict.fromkeys(NAMES, 0)

    async def count(self, kube: KubeClient, resource: Resource) -> None:
        async for observation in observe(kube, resource):
            if isinstance(observation, Changed):
                self.by_name[observation.object["metadata"]["name"]] += 1


async def play(world: World, name: str, uid: str) -> None:
    began = time.monotonic()
    for number in range(REPORTS):
        await world.report(uid, str(number), name=name)
        ahead = began + (number + 1) / PER_SECOND - time.monotonic()
        await asyncio.sleep(max(0.0, ahead))


async def until_all_show_the_newest(kube: KubeClient) -> None:
    """Wait as long as what they show moves: how long the whole takes is the machine's affair."""
    shown: list[object] = []
    while shown != [LAST] * len(NAMES):
        before = shown
        async with asyncio.timeout(DEADLINE_SECONDS):
            while shown == before:
                await asyncio.sleep(0.1)
                shown = [value_of(each) for each in (await kube.list(DEVICE_STATUSES)).items]


@pytest.mark.parametrize("write_every", [1.0, 0.1])
async def test_writes_are_few_and_end_in_the_newest(
    world: World, rabbitmq: Broker, tmp_path: Path, write_every: float
) -> None:
    await world.install_kinds()
    example = yaml.safe_load((ROOT / "examples" / "thermometer" / "device.yaml").read_text())
    uids: dict[str, str] = {}
    for name in NAMES:
        metadata = {"name": name, "namespace": "default"}
        made = await world.kube.create(DEVICES, {**example, "metadata": metadata})
        uids[name] = made["metadata"]["uid"]
    statuses, summaries = Writes(), Writes()
    budget = 100.0
    more = {"write_every_seconds": write_every, "writes_per_second": budget}
    async with device(rabbitmq, tmp_path, summary_every_seconds=SUMMARY_SECONDS, **more):
        watching = [
            asyncio.create_task(writes.count(world.kube, resource))
            for writes, resource in ((statuses, DEVICE_STATUSES), (summaries, DEVICES))
        ]
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for name, uid in uids.items():
                tasks.create_task(play(world, name, uid))
        await until_all_show_the_newest(world.kube)
        took = time.monotonic() - began
        await asyncio.sleep(SUMMARY_SECONDS + 1.0)
        for each in watching:
            each.cancel()
        await asyncio.wait(watching)
        # nothing older came after it
        await until_all_show_the_newest(world.kube)
        shown = {each["status"]["reported"] for each in (await world.kube.list(DEVICES)).items}
    assert shown == {f"temperature={LAST},interval=10"}
    # made, given its first values, and then once in the least time
    assert max(statuses.by_name.values()) <= took / write_every + 3
    assert sum(statuses.by_name.values()) <= budget * (took + 1) + len(NAMES)
    assert max(summaries.by_name.values()) <= (took + SUMMARY_SECONDS) / SUMMARY_SECONDS + 4
