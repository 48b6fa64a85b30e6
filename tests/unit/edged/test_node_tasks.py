"""What jobs ask of a node: done once, told until it is heard, carried on after a kill."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fedge_cri.fake import FakeRuntime
from fedge_edged.images import Images
from fedge_edged.node_pods import NodeObjects
from fedge_edged.node_tasks.checks import Checks
from fedge_edged.node_tasks.health import Health
from fedge_edged.node_tasks.image import OwnImage
from fedge_edged.node_tasks.installing import InstallError, Installing
from fedge_edged.node_tasks.pulling import Pulling
from fedge_edged.node_tasks.running import NodeTasks
from fedge_edged.node_tasks.updating import Updating
from fedge_edged.node_tasks.upgrading import Upgrading
from fedge_objects import Change, JsonObject, ObjectKey, Version
from fedge_operations import NODE_TASKS, CheckItem, Upgrade
from fedge_service import KeptSettings, Process, load_plugins
from fedge_slots import Installed, Slots, Was
from tests.unit.edged.kit import Ears, LoopClock, change, secret

pytestmark = pytest.mark.looptime

KEY = ObjectKey(NODE_TASKS, "", "t")
IMAGES = ("r.example/a:1", "r.example/b:1")


class Heard(Ears):
    """What is told of tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[JsonObject] = []
        self.of_tasks: list[tuple[str, str]] = []
        self.changed = asyncio.Event()

    def task_status(self, key: ObjectKey, uid: str, status: JsonObject) -> None:
        assert (key, uid) == (KEY, "uid-t")
        self.told.append(status)
        self.changed.set()

    def applied(self, key: ObjectKey, version: Version) -> None:  # noqa: ARG002
        self.of_tasks.append((str(key), ""))

    def failed(self, key: ObjectKey, version: Version, reason: str) -> None:  # noqa: ARG002
        self.of_tasks.append((str(key), reason))

    async def phase(self, phase: str) -> JsonObject:
        async with asyncio.timeout(300):
            while not self.told or self.told[-1]["phase"] != phase:
                self.changed.clear()
                await self.changed.wait()
        return self.told[-1]


class Unpacked(Installing):
    """Puts a version into a slot without an image."""

    def __init__(self, gateway: "Gateway") -> None:
        self.gateway = gateway

    async def image(self, upgrade: Upgrade, uid: str) -> Installed:  # noqa: ARG002
        if self.gateway.cannot:
            raise InstallError(self.gateway.cannot)
        with self.gateway.slots.installing(upgrade.version) as part:
            if part is not None:
                part.described = Installed(name=upgrade.version, version=upgrade.version)
        return Installed(name=upgrade.version, version=upgrade.version)


class Works(Health):
    """Says of the edge what the test says."""

    def __init__(self, gateway: "Gateway") -> None:
        self.gateway = gateway

    async def now(self) -> Was:
        return Was(linked=True)

    async def missing(self, was: Was) -> str:
        assert was.linked
        return self.gateway.missing


class Gateway:
    """What outlives edged: its disk, its runtime, its settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = FakeRuntime()
        self.heard = Heard()
        self.objects = NodeObjects()
        self.kept = KeptSettings(folder)
        self.services = ["meta", "edged", "twin"]
        self.restarts = 0
        self.restarted = asyncio.Event()
        self.slots = Slots(folder)
        self.own: OwnImage | None = None
        self.asked = asyncio.Event()
        self.cannot = ""
        self.missing = ""
        self.version = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[NodeTasks]:
        clock = LoopClock()
        process = Process(load_plugins(self.services), self.kept)
        process.begin_anew = self._begin_anew  # type: ignore[method-assign]  # ours ends nothing
        async with asyncio.TaskGroup() as tasks:
            images = Images(
                runtime=self.runtime, objects=self.objects, reporter=self.heard, clock=clock
            )
            checks = Checks(self.folder)
            node_tasks = NodeTasks(
                folder=self.folder / "tasks",
                node="a",
                clock=clock,
                reporter=self.heard,
                pulling=Pulling(
                    images=images, runtime=self.runtime, objects=self.objects, checks=checks
                ),
                updating=Updating(process),
                upgrading=Upgrading(
                    slots=self.slots,
                    own=self.own,
                    installing=Unpacked(self),
                    checks=checks,
                    health=Works(self),
                ),
                tasks=tasks,
            )
            yield node_tasks
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                if each.get_name() == "t":
                    each.cancel()

    def runs(self, slot: str, version: str) -> None:
        """Have a version run."""
        self.asked = asked = asyncio.Event()

        class Own(OwnImage, frozen=True):
            async def end(self) -> None:
                asked.set()

        self.own = Own(slot=slot, base="b", version=version, begin_anew=["/bin/false"])

    def _begin_anew(self) -> None:
        self.restarts += 1
        self.restarted.set()

    def wants(self, node_tasks: NodeTasks, spec: Mapping[str, Any], *, phase: str = "") -> None:
        self.version += 1
        whole = {
            "nodeName": "a",
            "job": {"kind": "J", "name": "j"},
            "timeoutSeconds": 300,
            **spec,
        }
        obj: JsonObject = {"metadata": {"name": "t", "uid": "uid-t"}, "spec": whole}
        if phase:
            obj["status"] = {"phase": phase}
        node_tasks.take(Change(key=KEY, version=Version(self.version, self.version), object=obj))

    def gone(self, node_tasks: NodeTasks) -> None:
        self.version += 1
        node_tasks.take(Change(key=KEY, version=Version(self.version, self.version), object=None))


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def pull(**fields: Any) -> JsonObject:
    return {"pull": {"images": list(IMAGES), **fields}}


async def test_images_are_fetched_and_told_one_by_one(gateway: Gateway) -> None:
    gateway.runtime.registry.update(IMAGES)
    async with gateway.running() as tasks:
        gateway.wants(tasks, {**pull(), "checkItems": ["disk"]})
        told = await gateway.heard.phase("Successful")
    assert [each["action"] for each in told["steps"]] == ["Check", "Pull"]
    assert {each["image"]: each["status"] for each in told["images"]} == dict.fromkeys(
        IMAGES, "True"
    )
    sequences = [each["sequence"] for each in gateway.heard.told]
    assert sequences == list(range(1, len(sequences) + 1))
    assert gateway.heard.of_tasks == [(str(KEY), "")]


async def test_image_that_is_not_had_fails_the_task_after_its_retries(gateway: Gateway) -> None:
    gateway.runtime.registry.add(IMAGES[0])
    async with gateway.running() as tasks:
        gateway.wants(tasks, pull(retryTimes=2))
        told = await gateway.heard.phase("Failure")
    assert told["reason"].startswith("1 of 2 images are not here: ")
    assert gateway.runtime.count("pull_image") == 1 + 3
    [failed] = [each for each in told["images"] if each["status"] == "False"]
    assert failed["image"] == IMAGES[1]


async def test_pull_secret_may_come_later_and_is_used(gateway: Gateway) -> None:
    gateway.runtime.registry.update(IMAGES)
    auths = {"auths": {"r.example": {"username": "u", "password": "p"}}}
    async with gateway.running() as tasks:
        gateway.wants(tasks, pull(secret="default/pull"))
        await gateway.heard.phase("InProgress")
        made = secret("pull", {".dockerconfigjson": json.dumps(auths)})
        gateway.objects.put(change("secrets", "pull", made))
        tasks.saw(ObjectKey("secrets", "default", "pull"))
        await gateway.heard.phase("Successful")
    assert {each.username for each in gateway.runtime.pulled_with if each} == {"u"}
    assert len(gateway.runtime.pulled_with) == 2


async def test_pull_secret_that_does_not_come_is_named(gateway: Gateway) -> None:
    async with gateway.running() as tasks:
        gateway.wants(tasks, pull(secret="team/none"))
        told = await gateway.heard.phase("Failure")
    assert "the pull secret 'team/none' did not come" in told["reason"]
    assert gateway.runtime.count("pull_image") == 0


async def test_time_that_is_up_ends_it(gateway: Gateway) -> None:
    async with gateway.running() as tasks:
        gateway.wants(tasks, {**pull(retryTimes=100), "timeoutSeconds": 20})
        told = await gateway.heard.phase("Failure")
    assert told["reason"] == "it took more than 20 s (timeoutSeconds)"


async def test_after_a_kill_it_goes_on_and_repeats_nothing(gateway: Gateway) -> None:
    gateway.runtime.registry.add(IMAGES[0])
    async with gateway.running() as tasks:
        gateway.wants(tasks, pull(retryTimes=100))
        while not any(each.get("images") for each in gateway.heard.told):
            gateway.heard.changed.clear()
            await gateway.heard.changed.wait()
    last = gateway.heard.told[-1]["sequence"]
    gateway.runtime.registry.update(IMAGES)
    before = gateway.runtime.count("pull_image")
    async with gateway.running() as tasks:
        gateway.wants(tasks, pull(retryTimes=100))
        told = await gateway.heard.phase("Successful")
    assert gateway.runtime.count("pull_image") == before + 1
    assert told["sequence"] > last
    # once it is over it is told until the cloud says that it knows, and never begun again
    heard = len(gateway.heard.told)
    async with gateway.running() as tasks:
        gateway.wants(tasks, pull())
        assert gateway.heard.told[heard:] == [told]
        gateway.wants(tasks, pull(), phase="Unknown")
        assert gateway.heard.told[heard:] == [told, told]
        gateway.wants(tasks, pull(), phase="Successful")
        assert gateway.heard.told[heard:] == [told, told]
        tasks.report_all()
        assert gateway.heard.told[-1] == told
        gateway.gone(tasks)
    assert list((gateway.folder / "tasks").iterdir()) == []
    assert gateway.runtime.count("pull_image") == before + 1


@pytest.mark.parametrize("phase", ["Successful", "Failure", "Unknown"])
async def test_what_the_cloud_awaits_no_more_is_not_begun(gateway: Gateway, phase: str) -> None:
    async with gateway.running() as tasks:
        gateway.wants(tasks, pull(), phase=phase)
        await asyncio.sleep(60)
        tasks.report_all()
    assert gateway.heard.told == []
    assert gateway.runtime.count("pull_image") == 0


async def test_task_that_is_gone_stops_and_leaves_nothing(gateway: Gateway) -> None:
    async with gateway.running() as tasks:
        gateway.wants(tasks, pull(retryTimes=100))
        await gateway.heard.phase("InProgress")
        gateway.gone(tasks)
        await asyncio.sleep(1)
        pulls = gateway.runtime.count("pull_image")
        await asyncio.sleep(100)
    assert gateway.runtime.count("pull_image") == pulls
    assert list((gateway.folder / "tasks").iterdir()) == []


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({}, "exactly one of pull, update and upgrade"),
        ({**pull(), "nodeName": "b"}, "a task of node 'b'"),
        ({**pull(), "timeoutSeconds": 0}, "spec.timeoutSeconds is 0"),
        ({"pull": {"images": 5}}, "$.spec.pull.images"),
    ],
)
async def test_task_that_cannot_be_read_is_told(
    gateway: Gateway, spec: JsonObject, says: str
) -> None:
    async with gateway.running() as tasks:
        gateway.wants(tasks, spec)
    [(key, reason)] = gateway.heard.of_tasks
    assert key == str(KEY)
    assert says in reason


async def test_node_without_room_does_not_begin(gateway: Gateway, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 1024 kB\n")
    (proc / "stat").write_text("cpu 10 0 10 0 0 0 0 0\n")
    found = await Checks(tmp_path, proc=proc).look([CheckItem.MEM, CheckItem.CPU])
    assert found == [
        "mem: 1 MiB are free, 128 MiB are wanted",
        "cpu: 0% of it is idle, 20% are wanted",
    ]


def update(**fields: str) -> JsonObject:
    return {"update": {"fields": fields}}


@pytest.fixture(autouse=True)
def edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDGE_EDGE_NODE_NAME", "a")


async def test_settings_are_tried_out_and_the_outcome_is_told_by_the_next_process(
    gateway: Gateway,
) -> None:
    async with gateway.running() as tasks:
        gateway.wants(tasks, update(FEDGE_EDGED_MAX_PODS="7"))
        await gateway.heard.phase("InProgress")
        await gateway.restarted.wait()
    assert gateway.kept.begin() == {"FEDGE_EDGED_MAX_PODS": "7"}
    async with gateway.running() as tasks:
        gateway.wants(tasks, update(FEDGE_EDGED_MAX_PODS="7"))
        await asyncio.sleep(1)
        assert gateway.heard.told[-1]["phase"] == "InProgress"
        gateway.kept.keep()
        told = await gateway.heard.phase("Successful")
    assert [each["action"] for each in told["steps"]] == ["Check", "BackUp", "Update"]
    assert gateway.restarts == 1


async def test_settings_that_were_taken_back_are_told_with_the_reason(gateway: Gateway) -> None:
    async with gateway.running() as tasks:
        gateway.wants(tasks, update(FEDGE_EDGED_MAX_PODS="7"))
        await gateway.restarted.wait()
    gateway.kept.begin()
    gateway.kept.take_back("edged not ready within 90 s")
    async with gateway.running() as tasks:
        gateway.wants(tasks, update(FEDGE_EDGED_MAX_PODS="7"))
        told = await gateway.heard.phase("Failure")
    steps = [(each["action"], each["status"]) for each in told["steps"]]
    assert steps[-2:] == [("Update", "False"), ("RollBack", "True")]
    assert told["reason"].endswith("hold again: edged not ready within 90 s")
    assert gateway.kept.values == {}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"FEDGE_EDGED_MAX_PODS": "many"}, "max_pods"),
        ({"FEDGE_EDGE_HEARTBEAT_SECONDS": "99999"}, "heartbeat_seconds"),
        ({"FEDGE_LOG_LEVEL": "loud"}, "use debug, info, warning or error"),
        ({"FEDGE_EDGE_AMQP_URL": "amqp://x"}, "it is for the gateway"),
    ],
)
async def test_settings_that_the_services_would_not_take_change_nothing(
    gateway: Gateway, fields: dict[str, str], says: str
) -> None:
    async with gateway.running() as tasks:
        gateway.wants(tasks, update(**fields))
        told = await gateway.heard.phase("Failure")
    assert says in told["reason"]
    assert (gateway.restarts, gateway.kept.values) == (0, {})


async def test_settings_that_are_so_already_need_no_restart(gateway: Gateway) -> None:
    gateway.kept.try_out({"FEDGE_EDGED_MAX_PODS": "7"}, id="before")
    gateway.kept.keep()
    async with gateway.running() as tasks:
        gateway.wants(tasks, update(FEDGE_EDGED_MAX_PODS="7"))
        await gateway.heard.phase("Successful")
    assert gateway.restarts == 0
    assert gateway.kept.values == {"FEDGE_EDGED_MAX_PODS": "7"}


async def test_services_of_another_process_are_named(gateway: Gateway) -> None:
    gateway.services = ["edged"]
    async with gateway.running() as tasks:
        gateway.wants(tasks, update(FEDGE_EDGED_MAX_PODS="7"))
        told = await gateway.heard.phase("Failure")
    assert told["reason"].startswith("meta, twin run in another process than edged")


def upgrade(version: str = "v2", **more: Any) -> JsonObject:
    return {"upgrade": {"version": version, "image": "fedge/edge", **more}}


async def test_version_that_proves_itself_is_kept_and_told(gateway: Gateway) -> None:
    gateway.runs("", "v1")
    async with gateway.running() as tasks:
        gateway.wants(tasks, upgrade())
        await gateway.asked.wait()
    assert gateway.slots.state().trial is not None
    gateway.runs("v2", "v2")
    gateway.missing = "2 pods do not run"
    async with gateway.running() as tasks:
        keeping = asyncio.create_task(tasks._upgrading.keep_what_works())
        gateway.wants(tasks, upgrade())
        await asyncio.sleep(100)
        assert gateway.heard.told[-1]["phase"] == "InProgress"
        gateway.missing = ""
        told = await gateway.heard.phase("Successful")
        await keeping
    assert [each["action"] for each in told["steps"]] == ["Check", "BackUp", "Upgrade"]
    assert (told["currentVersion"], told["historicVersion"]) == ("v2", "v1")
    assert gateway.slots.state().current == "v2"


async def test_version_that_is_taken_back_is_told_by_the_one_before(gateway: Gateway) -> None:
    gateway.runs("", "v1")
    async with gateway.running() as tasks:
        gateway.wants(tasks, upgrade())
        await gateway.asked.wait()
    gateway.slots.take_back("no link within 60 s")
    async with gateway.running() as tasks:
        gateway.wants(tasks, upgrade())
        told = await gateway.heard.phase("Failure")
    steps = [(each["action"], each["status"]) for each in told["steps"]]
    assert steps[-2:] == [("Upgrade", "False"), ("RollBack", "True")]
    assert told["reason"] == "v1 runs again: no link within 60 s"
    assert told["currentVersion"] == "v1"


async def test_killed_before_the_switch_it_is_switched_by_the_next(gateway: Gateway) -> None:
    gateway.runs("", "v1")
    async with gateway.running() as tasks:
        gateway.wants(tasks, upgrade())
        await gateway.asked.wait()
    gateway.runs("", "v1")
    async with gateway.running() as tasks:
        gateway.wants(tasks, upgrade())
        await gateway.asked.wait()
    assert gateway.heard.told[-1]["phase"] == "InProgress"


async def test_somebody_has_to_agree_before_anything_is_fetched(gateway: Gateway) -> None:
    gateway.runs("", "v1")
    async with gateway.running() as tasks:
        gateway.wants(tasks, upgrade(requireConfirmation=True))
        await asyncio.sleep(1000)
        told = gateway.heard.told[-1]
        assert told["steps"][-1]["action"] == "WaitingConfirmation"
        assert told["steps"][-1]["status"] == "Unknown"
        assert "fedge node upgrade a --confirm" in told["reason"]
        assert not gateway.slots.folder.exists()
    async with gateway.running() as tasks:  # a restart does not agree for anybody
        gateway.wants(tasks, upgrade(requireConfirmation=True))
        await asyncio.sleep(100)
        assert not gateway.slots.folder.exists()
        gateway.wants(tasks, upgrade(requireConfirmation=True, confirmed=True))
        await gateway.asked.wait()
    steps = [(each["action"], each["status"]) for each in gateway.heard.told[-1]["steps"]]
    assert steps == [("Check", "True"), ("WaitingConfirmation", "True"), ("BackUp", "True")]


async def test_version_that_cannot_be_had_changes_nothing(gateway: Gateway) -> None:
    gateway.runs("", "v1")
    gateway.cannot = "fedge/edge:v2 cannot be had: not found"
    async with gateway.running() as tasks:
        gateway.wants(tasks, upgrade())
        told = await gateway.heard.phase("Failure")
    assert told["reason"] == gateway.cannot
    assert not gateway.asked.is_set()


async def test_version_that_runs_already_is_no_switch(gateway: Gateway) -> None:
    gateway.runs("v2", "v2")
    async with gateway.running() as tasks:
        gateway.wants(tasks, upgrade())
        await gateway.heard.phase("Successful")
    assert not gateway.asked.is_set()


async def test_edge_that_does_not_run_from_the_image_says_so(gateway: Gateway) -> None:
    async with gateway.running() as tasks:
        gateway.wants(tasks, upgrade())
        told = await gateway.heard.phase("Failure")
    assert "does not run from the image" in told["reason"]
