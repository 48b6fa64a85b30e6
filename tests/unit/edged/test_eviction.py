"""Who goes when the node runs short of something, in virtual time."""

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import looptime
import pytest
from structlog.testing import capture_logs

from fedge_cri import ContainerStats, UnavailableError
from fedge_edged.eviction import Usage, over_storage_limit, rank, shortage_message
from fedge_edged.evictor import LOOK_SECONDS, Evictor, observing
from fedge_edged.importance import SOURCE
from fedge_edged.pods import Pod
from fedge_edged.pressure import (
    DEFAULT_HARD,
    Observation,
    Pressure,
    Shortage,
    Signal,
    parse_thresholds,
)
from fedge_edged.verdicts import Record, Records
from fedge_objects import JsonObject
from tests.unit.edged.kit import container_object, phase, pod, pod_object
from tests.unit.edged.node import Node

MIB = 2**20
LOW_MEMORY = Shortage(Signal.MEMORY, 100 * MIB, 50 * MIB)


def asking(name: str, memory: str = "", **spec: Any) -> Pod:
    requests = {"memory": memory} if memory else {}
    return pod(name, containers=[container_object(resources={"requests": requests})], **spec)


def using(pod: Pod, mebibytes: int) -> Usage:
    return Usage(pod=pod, containers={"main": mebibytes * MIB})


class TestOrder:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/."""

    def order(self, *usages: Usage, resource: str = "memory") -> list[str]:
        return [each.pod.metadata.name for each in rank(usages, resource)]

    def test_who_uses_more_than_asked_goes_first(self) -> None:
        modest = using(asking("modest", "200Mi", priority=-10), 199)
        greedy = using(asking("greedy", "10Mi", priority=10), 11)
        assert self.order(modest, greedy) == ["greedy", "modest"]

    def test_then_who_matters_less(self) -> None:
        low = using(asking("low", priority=1), 1)
        high = using(asking("high", priority=2), 100)
        assert self.order(high, low) == ["low", "high"]

    def test_then_who_is_most_above_its_request(self) -> None:
        large = using(asking("large", "90Mi"), 100)
        small = using(asking("small", "1Mi"), 20)
        assert self.order(large, small) == ["small", "large"]

    def test_critical_pods_stay(self) -> None:
        static = pod("static", meta={"annotations": {SOURCE: "file"}})
        system = pod("system", priority=2_000_000_001)
        assert self.order(using(static, 100), using(system, 100), using(pod("b"), 1)) == ["b"]

    def test_by_files_all_are_above_their_request(self) -> None:
        few, many = Usage(pod=pod("few"), volumes=3), Usage(pod=pod("many"), volumes=9)
        assert self.order(few, many, resource="inodes") == ["many", "few"]


class TestWords:
    """The kubelet's messages."""

    def test_of_a_shortage(self) -> None:
        assert shortage_message(using(pod(), 10), LOW_MEMORY) == (
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
            "Container main was using 10Mi, request is 0, has larger consumption of memory. "
        )

    def test_who_stayed_below_its_request_is_not_blamed(self) -> None:
        assert shortage_message(using(asking("a", "64Mi"), 10), LOW_MEMORY) == (
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        )

    def test_of_a_containers_limit(self) -> None:
        limited = container_object(resources={"limits": {"ephemeral-storage": "10Mi"}})
        a = pod(containers=[limited])
        assert over_storage_limit(using(a, 10)) is None
        assert over_storage_limit(using(a, 11)) == (
            'Container main exceeded its local ephemeral storage limit "10Mi". '
        )

    def test_of_all_limits_together(self) -> None:
        limited = [
            container_object(name, resources={"limits": {"ephemeral-storage": "10Mi"}})
            for name in ("main", "other")
        ]
        usage = Usage(pod=pod(containers=limited), containers={"main": MIB}, volumes=20 * MIB)
        assert over_storage_limit(usage) == (
            "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. "
        )

    def test_without_a_limit_nothing_is_over_it(self) -> None:
        assert over_storage_limit(Usage(pod=pod(), volumes=2**40)) is None


@dataclass(slots=True)
class Machine:
    """What is left of a machine, as the tests say."""

    node: Node
    memory: int = 500 * MIB
    disk: int = 50
    freed: list[int] = field(default_factory=list)
    image_disk: int = 0
    looks: int = 0
    changes: int = 0

    async def observe(self) -> dict[Signal, Observation]:
        self.looks += 1
        return {
            Signal.MEMORY: Observation(self.memory, 1024 * MIB),
            Signal.NODEFS: Observation(self.disk, 100),
        }

    async def free_images(self, wanted_bytes: int) -> int:
        self.freed.append(wanted_bytes)
        self.disk += self.image_disk
        return self.image_disk

    def changed(self) -> None:
        self.changes += 1

    def uses(self, name: str, mebibytes: int, *, layer: int = 0) -> None:
        """Have the pod called ``name`` use memory, and its layer some."""
        assert self.node.pods is not None
        worker = self.node.pods.find("default", name)
        assert worker is not None
        for each in worker.observed.running():
            self.node.runtime.stats[each.id] = ContainerStats(
                id=each.id,
                cpu_core_nanoseconds=0,
                memory_working_set_bytes=mebibytes * MIB,
                writable_layer_bytes=layer,
                writable_layer_inodes=1,
            )


@pytest.fixture
async def machine(node: Node) -> AsyncIterator[Machine]:
    machine = Machine(node)
    assert node.tools is not None
    evictor = Evictor(
        workers=lambda: node.pods.workers if node.pods is not None else [],
        tools=node.tools,
        pressure=Pressure(parse_thresholds(DEFAULT_HARD), transition_seconds=300),
        observe=machine.observe,
        free_images=machine.free_images,
        pods_dir=node.folder / "disk",
        changed=machine.changed,
    )
    with looptime.enabled(strict=True):  # as in the tests
        serving = asyncio.create_task(evictor.run())
        await asyncio.sleep(0)
    yield machine
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def running(node: Node, *names: str, **spec: Any) -> None:
    for name in names:
        node.put("pods", pod_object(name, **spec))
        await _runs(node, name)


async def _runs(node: Node, name: str) -> None:
    await node.shows(lambda: phase(node.ears.newest(name)) == "Running")


def ended(node: Node) -> list[str]:
    return sorted(
        {name for name, status, _ in node.ears.statuses if status.get("reason") == "Evicted"}
    )


async def looks(count: int = 1) -> None:
    await asyncio.sleep(count * LOOK_SECONDS)


def disruption(told: JsonObject) -> JsonObject:
    found = [each for each in told["conditions"] if each["type"] == "DisruptionTarget"]
    return found[0] if found else {}


@pytest.mark.looptime
class TestOnTheNode:
    """Pods on a machine that runs short."""

    async def test_the_greediest_goes_and_is_told_why(self, node: Node, machine: Machine) -> None:
        await running(node, "a", "b", "c")
        machine.uses("a", 1)
        machine.uses("b", 10)
        machine.uses("c", 5)
        machine.memory = 50 * MIB
        await node.shows(lambda: phase(node.ears.newest("b")) == "Failed")
        told = node.ears.newest("b")
        assert told["reason"] == "Evicted"
        assert told["message"] == (
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
            "Container main was using 10Mi, request is 0, has larger consumption of memory. "
        )
        assert disruption(told)["reason"] == "TerminationByKubelet"
        assert "Evicted" in node.ears.reasons("b")
        machine.memory = 500 * MIB
        await looks(3)
        assert ended(node) == ["b"]
        assert machine.changes == 1

    async def test_one_goes_at_a_time_until_there_is_enough(
        self, node: Node, machine: Machine
    ) -> None:
        await running(node, "a", "b", "c")
        machine.uses("a", 1)
        machine.uses("b", 10)
        machine.uses("c", 5)
        machine.memory = 50 * MIB
        await node.shows(lambda: ended(node) == ["b"])
        await node.shows(lambda: ended(node) == ["b", "c"])
        machine.memory = 500 * MIB
        await looks(5)
        assert ended(node) == ["b", "c"]
        assert len(node.runtime.running("main")) == 1

    async def test_an_evicted_pod_stays_ended_when_edged_restarts(
        self, node: Node, machine: Machine
    ) -> None:
        await running(node, "a")
        machine.memory = 0
        await node.shows(lambda: phase(node.ears.newest()) == "Failed")
        await node.restart()
        await looks()
        assert node.ears.newest()["reason"] == "Evicted"
        assert not node.runtime.running("main")

    async def test_as_long_as_all_is_well_nobody_is_asked(
        self, node: Node, machine: Machine
    ) -> None:
        await running(node, "a")
        before = machine.looks
        await looks(60)
        assert before + 59 <= machine.looks <= before + 61
        assert node.runtime.count("list_container_stats") == 0
        assert machine.freed == []

    async def test_a_full_disk_is_cleared_before_anybody_goes(
        self, node: Node, machine: Machine
    ) -> None:
        await running(node, "a")
        machine.image_disk = 40
        machine.disk = 4
        await looks(2)
        assert machine.freed == [6]
        assert ended(node) == []
        assert machine.changes == 1

    async def test_when_nothing_can_be_cleared_the_largest_on_disk_goes(
        self, node: Node, machine: Machine
    ) -> None:
        await running(node, "a", "b")
        machine.uses("a", 100, layer=10_000)
        folder = node.folder / "disk" / "uid-b" / "empty-dir"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * 100_000)
        machine.disk = 4
        await node.shows(lambda: ended(node) == ["b"])
        assert node.ears.newest("b")["message"].startswith(
            "The node was low on resource: ephemeral-storage. Threshold quantity: 10, available: 4"
        )

    async def test_ended_attempts_are_removed_but_the_newest(
        self, node: Node, machine: Machine
    ) -> None:
        node.put("pods", pod_object(restartPolicy="OnFailure"))
        await _runs(node, "a")
        log = node.log_dir / "default_a_uid-a" / "main" / "0.log"
        log.parent.mkdir(parents=True)
        log.write_text("x")
        node.runtime.exit_container(node.runtime.running("main")[0], 1)
        await node.shows(lambda: len(node.runtime.containers) == 2)
        await _runs(node, "a")
        machine.image_disk = 40
        machine.disk = 4
        await looks(2)
        assert len(node.runtime.containers) == 1
        assert len(node.runtime.running("main")) == 1
        assert not log.exists()
        assert node.ears.newest()["containerStatuses"][0]["restartCount"] == 1

    async def test_what_an_evicted_pod_wrote_is_removed(self, node: Node, machine: Machine) -> None:
        await running(node, "a", volumes=[{"name": "work", "emptyDir": {}}])
        [folder] = (node.folder / "disk" / "uid-a").glob("**/work")
        (folder / "file").write_bytes(b"x" * 100_000)
        machine.disk = 4
        await node.shows(lambda: ended(node) == ["a"])
        assert not folder.exists()
        await looks(2)
        assert not node.runtime.containers
        machine.disk = 50
        await node.restart()
        await looks(12)
        assert node.ears.newest("a")["reason"] == "Evicted"
        assert not node.runtime.running("main")

    async def test_a_disk_that_takes_nothing_does_not_keep_a_pod_from_being_ended(
        self, node: Node, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write, tries = Records.write, []

        def full(records: Records, uid: str, record: Record) -> None:
            tries.append(uid)
            if len(tries) == 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            write(records, uid, record)

        monkeypatch.setattr(Records, "write", full)
        await running(node, "a")
        machine.disk = 4
        with capture_logs() as logs:
            await node.shows(lambda: ended(node) == ["a"])
        told = [each for each in logs if each["event"] == "verdict_not_kept"]
        assert told[0]["reason"] == "[Errno 28] No space left on device"
        machine.disk = 50
        await node.restart()
        await looks(2)
        assert not node.runtime.running("main")

    async def test_an_empty_dir_that_outgrows_its_limit_ends_its_pod(
        self, node: Node, machine: Machine
    ) -> None:
        volume = {"name": "work", "emptyDir": {"sizeLimit": "10Ki"}}
        await running(node, "a", volumes=[volume])
        await running(node, "b", volumes=[{"name": "work", "emptyDir": {}}])
        [folder] = (node.folder / "disk" / "uid-a").glob("**/work")
        (folder / "file").write_bytes(b"x" * 100_000)
        await node.shows(lambda: ended(node) == ["a"], seconds=61)
        assert node.ears.newest("a")["message"] == (
            'Usage of EmptyDir volume "work" exceeds the limit "10Ki". '
        )
        assert machine.changes == 0

    async def test_a_container_that_outgrows_its_limit_ends_its_pod(
        self, node: Node, machine: Machine
    ) -> None:
        limited = container_object(resources={"limits": {"ephemeral-storage": "10Ki"}})
        await running(node, "a", containers=[limited])
        machine.uses("a", 1, layer=20_000)
        await node.shows(lambda: ended(node) == ["a"], seconds=61)
        assert "local ephemeral storage limit" in node.ears.newest("a")["message"]

    async def test_a_runtime_that_does_not_answer_is_asked_again(
        self, node: Node, machine: Machine
    ) -> None:
        await running(node, "a")
        machine.memory = 0
        node.runtime.fail_next("list_container_stats", UnavailableError("away"))
        await node.shows(lambda: ended(node) == ["a"])

    async def test_the_file_system_of_the_images_is_found(self, node: Node) -> None:
        look = observing(node.runtime, node.folder)
        assert Signal.NODEFS in await look()
        await look()
        assert node.runtime.count("image_filesystems") >= 1
