"""Summaries: soon where it matters, seldom otherwise, and never forgotten."""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from fedge_device.kinds.devices import Devices
from fedge_device.kinds.resources import DEVICE_MODELS, DEVICE_STATUSES, DEVICES
from fedge_device.summaries import Summaries
from fedge_dispatch import Budget, Report
from fedge_kube import ConflictError, KubeClient, Listing, NotFoundError, Resource, UnreachableError
from fedge_objects import JsonObject, NodeName, ObjectKey

KEY = ObjectKey(DEVICES.name, "default", "ac")
MODEL_KEY = ObjectKey(DEVICE_MODELS.name, "default", "ac")
MODEL = {"spec": {"properties": [{"name": "temperature", "type": "INT"}]}}


class Kube:
    """An API in memory that writes down who writes when."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], JsonObject] = {}
        self.writes: list[tuple[float, str, JsonObject]] = []
        self.is_away = False
        self.gets = 0
        self._revision = 100
        self._events: list[tuple[str, JsonObject]] = []
        self._changed = asyncio.Event()

    def of(self, resource: Resource, name: str = "ac") -> JsonObject:
        return self.objects[resource.plural, name]

    def summaries(self) -> list[tuple[float, JsonObject]]:
        return [(at, obj["status"]) for at, plural, obj in self.writes if plural == "devices"]

    def put(self, resource: Resource, obj: JsonObject, kind: str = "MODIFIED") -> JsonObject:
        self._revision += 1
        stored = copy.deepcopy(obj)
        stored["metadata"]["resourceVersion"] = str(self._revision)
        self.objects[resource.plural, stored["metadata"]["name"]] = stored
        if resource == DEVICE_STATUSES:
            self._tell(kind, stored)
        return copy.deepcopy(stored)

    def drop(self, resource: Resource, name: str = "ac") -> None:
        gone = self.objects.pop((resource.plural, name))
        self._revision += 1
        gone["metadata"]["resourceVersion"] = str(self._revision)
        self._tell("DELETED", gone)

    def _tell(self, kind: str, obj: JsonObject) -> None:
        self._events.append((kind, copy.deepcopy(obj)))
        self._changed.set()

    async def _write(self, resource: Resource, obj: JsonObject) -> JsonObject:
        await asyncio.sleep(0.005)
        if self.is_away:
            raise UnreachableError("away")
        stored = self.put(resource, obj)
        self.writes.append((asyncio.get_running_loop().time(), resource.plural, stored))
        return stored

    async def list(self, resource: Resource, **_: str) -> Listing:
        found = [copy.deepcopy(obj) for (p, _), obj in self.objects.items() if p == resource.plural]
        return Listing(items=found, revision=self._revision)

    async def watch(self, _: Resource, revision: int, **__: str) -> AsyncIterator[tuple[str, Any]]:
        seen = 0
        while True:
            for event in self._events[seen:]:
                if int(event[1]["metadata"]["resourceVersion"]) > revision:
                    yield event
            seen = len(self._events)
            self._changed.clear()
            await self._changed.wait()

    async def get(self, resource: Resource, _: str, name: str) -> JsonObject:
        self.gets += 1
        await asyncio.sleep(0.005)
        if (resource.plural, name) not in self.objects:
            raise NotFoundError(name)
        return copy.deepcopy(self.of(resource, name))

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        if (resource.plural, obj["metadata"]["name"]) in self.objects:
            raise ConflictError("there already")
        return await self._write(resource, obj)

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: JsonObject
    ) -> JsonObject:
        old = await self.get(resource, namespace, name)
        old["metadata"] |= patch["metadata"]
        return await self._write(resource, old)

    async def replace_status(
        self,
        resource: Resource,
        _: str,
        name: str,
        status: JsonObject,
        *,
        uid: str | None = None,
    ) -> JsonObject:
        if (resource.plural, name) not in self.objects:
            raise NotFoundError(name)
        assert uid in {None, self.of(resource, name)["metadata"].get("uid")}
        old = copy.deepcopy(self.of(resource, name))
        return await self._write(resource, old | {"status": copy.deepcopy(status)})


class World:
    def __init__(self, kube: Kube, every_seconds: float = 5.0) -> None:
        self.kube = kube
        self.devices = Devices()
        self.summaries = Summaries(self.devices, Budget(200.0), every_seconds=every_seconds)
        self.client = cast("KubeClient", kube)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        listed = asyncio.Event()
        task = asyncio.create_task(self.summaries.run(self.client, listed))
        await self.summaries.prepared.wait()
        for resource, key in ((DEVICE_MODELS, MODEL_KEY), (DEVICES, KEY)):
            if (resource.plural, key.name) in self.kube.objects:
                self.saw(key, self.kube.of(resource))
        listed.set()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()

    def saw(self, key: ObjectKey, obj: JsonObject | None) -> None:
        self.summaries.saw(key, copy.deepcopy(obj))
        if obj is not None and key.resource == DEVICES.name:
            self.devices.for_node(copy.deepcopy(obj))

    def declare(self, value: str = "25", node: str = "edge-1", uid: str = "u") -> None:
        properties = [{"name": "temperature", "desired": {"value": value}}]
        spec = {"nodeName": node, "deviceModelRef": {"name": "ac"}, "properties": properties}
        metadata = {"name": "ac", "namespace": "default", "uid": uid, "generation": 1}
        old = self.kube.objects.get(("devices", "ac"), {})
        obj = {"metadata": metadata, "spec": spec, "status": old.get("status", {})}
        self.saw(KEY, self.kube.put(DEVICES, obj))

    def model(self) -> None:
        self.saw(MODEL_KEY, self.kube.put(DEVICE_MODELS, {"metadata": {"name": "ac"}} | MODEL))

    async def report(self, value: str, *, node: str = "edge-1", state: str = "online") -> None:
        twin = {"propertyName": "temperature", "reported": {"value": value}}
        await self.devices.report(
            self.client,
            Report(
                node=NodeName(node),
                key=KEY,
                uid="u",
                status={"twins": [twin], "state": state},
                labels={},
                finished=False,
            ),
        )

    async def until(self, holds: Callable[[JsonObject], bool], seconds: float) -> JsonObject:
        async with asyncio.timeout(seconds):
            while True:
                status: JsonObject = self.kube.of(DEVICES).get("status") or {}
                if status and holds(status):
                    return status
                await asyncio.sleep(0.01)


@pytest.fixture
def world() -> World:
    return World(Kube())


def is_sync(*words: str) -> Callable[[JsonObject], bool]:
    return lambda status: status["sync"] in words


@pytest.mark.looptime
async def test_the_first_is_written_at_once_and_what_matters_within_a_second(world: World) -> None:
    async with world.running():
        world.model()
        world.declare()
        await world.until(is_sync("Unknown"), 0.1)
        await world.report("22")
        await world.until(is_sync("Pending"), 1.1)
        await world.report("25")
        found = await world.until(is_sync("Synced"), 1.1)
        assert found["desiredStamps"]["temperature"]["value"] == "25"
        await world.report("25", state="offline")
        await world.until(lambda status: status["state"] == "offline", 1.1)
        gaps = [at for at, _ in world.kube.summaries()]
        assert len(gaps) == 4
        assert world.kube.gets == 0


@pytest.mark.looptime
async def test_what_does_not_matter_is_written_seldom_and_not_left_out(world: World) -> None:
    async with world.running():
        world.model()
        world.declare()
        for n in range(3000):
            await world.report(f"{n}")
            await asyncio.sleep(0.005)
        await world.until(lambda status: status["reported"] == "temperature=2999", 5.1)
        took = asyncio.get_running_loop().time()
        assert len(world.kube.summaries()) <= took / 5 + 4
        settled = len(world.kube.writes)
        await asyncio.sleep(60)
        assert len(world.kube.writes) == settled


@pytest.mark.looptime
async def test_the_same_report_is_not_written_again(world: World) -> None:
    async with world.running():
        world.declare()
        await world.report("22")
        before = [plural for _, plural, _ in world.kube.writes].count("devicestatuses")
        await world.report("22")
        after = [plural for _, plural, _ in world.kube.writes].count("devicestatuses")
        assert before == after


@pytest.mark.looptime
async def test_a_model_that_comes_late_is_looked_at(world: World) -> None:
    async with world.running():
        world.declare()
        await world.until(is_sync("Invalid"), 0.1)
        world.model()
        await world.until(is_sync("Unknown"), 1.1)
        world.saw(MODEL_KEY, None)
        await world.until(is_sync("Invalid"), 1.1)


@pytest.mark.looptime
async def test_a_moved_device_is_unknown_until_its_new_node_reports(world: World) -> None:
    async with world.running():
        world.model()
        world.declare()
        await world.report("25")
        await world.until(is_sync("Synced"), 1.1)
        world.declare(node="edge-2")
        await world.until(is_sync("Unknown"), 1.1)
        await world.report("22")  # of the old node, late
        assert world.kube.gets == 1
        await world.report("24", node="edge-2")
        await world.until(is_sync("Pending"), 1.1)
        statuses = [obj for _, plural, obj in world.kube.writes if plural == "devicestatuses"]
        values = [obj["status"]["twins"][0]["reported"]["value"] for obj in statuses[1:]]
        assert values == ["25", "24", "24"]


@pytest.mark.looptime
async def test_what_a_crash_kept_from_being_written_is_written_later(world: World) -> None:
    async with world.running():
        world.model()
        world.declare()
        await world.until(is_sync("Unknown"), 0.1)
        await world.report("25")  # and is killed before the summary
    stamps = world.kube.of(DEVICES)["status"]["desiredStamps"]
    after = World(world.kube)
    async with after.running():
        found = await after.until(is_sync("Synced"), 0.1)
        assert found["desiredStamps"] == stamps


@pytest.mark.looptime
async def test_nothing_is_lost_while_the_api_is_away(world: World) -> None:
    async with world.running():
        world.model()
        world.declare()
        await world.report("25")
        world.kube.is_away = True
        with pytest.raises(UnreachableError):
            await world.report("22")
        world.declare("26")
        await asyncio.sleep(30)
        world.kube.is_away = False
        await world.until(lambda status: status["desired"] == "temperature=26", 2.1)


@pytest.mark.looptime
async def test_a_status_that_somebody_deleted_or_wrote_is_made_good(world: World) -> None:
    async with world.running():
        world.model()
        world.declare()
        await world.report("25")
        await world.until(is_sync("Synced"), 1.1)
        world.kube.drop(DEVICE_STATUSES)
        await asyncio.sleep(1.1)
        made_again = world.kube.of(DEVICE_STATUSES)
        assert made_again["status"]["twins"][0]["reported"]["value"] == "25"
        await world.until(is_sync("Synced"), 1.1)
        device = world.kube.of(DEVICES)
        world.saw(KEY, world.kube.put(DEVICES, device | {"status": {"sync": "Conflict"}}))
        await world.until(is_sync("Synced"), 1.1)


@pytest.mark.looptime
async def test_nothing_is_written_of_a_device_that_is_gone(world: World) -> None:
    async with world.running():
        world.model()
        world.declare()
        await world.report("25")
        await world.until(is_sync("Synced"), 1.1)
        writes = len(world.kube.writes)
        del world.kube.objects["devices", "ac"]
        world.saw(KEY, None)
        world.kube.drop(DEVICE_STATUSES)
        await world.report("26")
        await asyncio.sleep(90)
        assert len(world.kube.writes) == writes


@pytest.mark.looptime
async def test_a_status_of_a_namesake_of_old_is_taken_over(world: World) -> None:
    owners = [{"uid": "old"}]
    metadata = {"name": "ac", "namespace": "default", "ownerReferences": owners}
    old = {"twins": [{"propertyName": "temperature", "reported": {"value": "99"}}]}
    world.kube.put(DEVICE_STATUSES, {"metadata": metadata, "status": old})
    async with world.running():
        world.model()
        world.declare()
        await world.until(is_sync("Unknown"), 0.1)
        await world.report("25")
        await world.until(is_sync("Synced"), 1.1)
        made = world.kube.of(DEVICE_STATUSES)["metadata"]
        assert [owner["uid"] for owner in made["ownerReferences"]] == ["u"]
