"""A node that refuses, runs short and has pods of its own, on a real containerd."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fedge_cri.client import CriRuntime
from fedge_edged.admission import NodeView
from fedge_edged.evictor import Evictor, observing
from fedge_edged.pressure import Pressure, Signal, Threshold
from fedge_edged.static_pods import StaticPods
from fedge_fabric import UnavailableError
from fedge_objects import Change, JsonObject, NodeName, ObjectKey, Version
from fedge_store import ObjectReader, ObjectStore
from tests.fixtures.servers import Runtime as Server
from tests.integration.edged.node import RealNode, eventually
from tests.unit.edged.kit import phase

pytestmark = pytest.mark.containerd

MIB = 2**20
SMALL = NodeView(
    name="gw-1",
    labels={"kubernetes.io/os": "linux"},
    allocatable={"cpu": 1000, "memory": 512 * MIB, "ephemeral-storage": 10**9, "pods": 10},
)


async def refused(node: RealNode, name: str = "b") -> JsonObject:
    await node.shows(lambda: phase(node.ears.newest(name)) == "Failed")
    return node.ears.newest(name)


def asking(node: RealNode, name: str, **requests: str) -> JsonObject:
    return node.pod(name, containers=[node.container(resources={"requests": requests})])


async def test_pods_that_do_not_fit_are_refused_and_make_no_sandbox(node: RealNode) -> None:
    node.view = SMALL
    node.put("pods", asking(node, "a", cpu="600m"))
    await node.runs("a")
    node.put("pods", asking(node, "b", cpu="600m"))
    told = await refused(node)
    assert told["reason"] == "OutOfcpu"
    assert told["message"] == (
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 600, "
        "capacity: 1000"
    )
    node.put("pods", node.pod("c", nodeSelector={"zone": "plant"}))
    assert (await refused(node, "c"))["reason"] == "NodeAffinity"
    made = {each.name for each in await node.runtime.list_sandboxes()}
    assert "a" in made
    assert not made & {"b", "c"}


async def test_a_restart_of_edged_asks_no_pod_again(node: RealNode) -> None:
    node.put("pods", asking(node, "a", cpu="600m"))
    before = (await node.runs("a"))["containerStatuses"][0]["containerID"]
    node.view = replace(SMALL, allocatable={"pods": 0}, pressures=["DiskPressure"])
    await node.restart()
    told = len(node.ears.statuses)
    await node.shows(lambda: len(node.ears.statuses) > told)
    assert (await node.runs("a"))["containerStatuses"][0]["containerID"] == before


async def test_a_pod_from_a_file_runs_until_its_file_goes(node: RealNode, tmp_path: Path) -> None:
    assert node.pods is not None
    folder = tmp_path / "manifests"
    folder.mkdir()
    manifest: JsonObject = {"apiVersion": "v1", "kind": "Pod", **node.pod("web")}
    path = folder / "web.json"
    path.write_text(json.dumps(manifest))
    (folder / "bad.yaml").write_text("kind: [")
    statics = StaticPods(folder, node=NodeName("gw-1"), pods=node.pods)
    with capture_logs() as logs:
        await statics.scan()
        await node.runs("web-gw-1")
    assert [each["file"] for each in logs if each["log_level"] == "error"] == [
        str(folder / "bad.yaml")
    ]
    [container] = await node.containers("web")
    node.take("pods", "web-gw-1", None)
    await statics.scan()
    assert (await node.containers("web"))[0].state is container.state
    path.unlink()
    await statics.scan()
    pods, uid = node.pods, manifest["metadata"]["uid"]
    await eventually(lambda: not pods.has(uid))
    assert await node.containers("web") == []


def evictor(node: RealNode, *thresholds: Threshold) -> tuple[Evictor, Pressure]:
    assert node.tools is not None
    pressure = Pressure(thresholds, transition_seconds=0)
    made = Evictor(
        workers=lambda: node.pods.workers if node.pods is not None else [],
        tools=node.tools,
        pressure=pressure,
        observe=observing(node.runtime, node.folder),
        free_images=None,
        pods_dir=node.folder / "disk",
        changed=lambda: None,
    )
    return made, pressure


async def test_the_pod_that_uses_most_memory_is_evicted(node: RealNode) -> None:
    box = "/bin/busybox"
    hungry = f"x=$({box} head -c 40000000 /dev/zero | {box} tr '\\0' x)"
    hungry += f" && test ${{#x}} = 40000000 && echo full; {box} sleep 1000; echo $x"
    node.put("pods", node.pod("modest"))
    node.put("pods", node.pod("hungry", containers=[node.container(script=hungry)]))
    await node.runs("modest")
    await node.runs("hungry")
    await eventually(lambda: "full" in node.log("hungry"), seconds=30)
    # more than any machine has: the node is short of memory for as long as it is looked at
    evicting, pressure = evictor(node, Threshold(Signal.MEMORY, amount=2**50))
    await evicting.look()
    assert list(pressure.conditions) == ["MemoryPressure"]
    told = await refused(node, "hungry")
    assert told["reason"] == "Evicted"
    assert told["message"].startswith("The node was low on resource: memory. Threshold quantity: ")
    assert "Container main was using " in told["message"]
    assert phase(node.ears.newest("modest")) == "Running"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)],
        check=True,
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte on the file system of a folder."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


@asynccontextmanager
async def node_on(folder: Path, server: Server) -> AsyncIterator[RealNode]:
    async with CriRuntime.connected(server.socket) as runtime:
        node = RealNode(folder, runtime, server)
        await node.start()
        try:
            yield node
        finally:
            await node.stop()
            await node.clear()


class TestFullDisk:
    """A disk that takes nothing more."""

    async def test_pods_go_on_and_what_fills_it_goes(
        self, containerd: Server, small_disk: Path
    ) -> None:
        async with node_on(small_disk, containerd) as node:
            node.put("pods", node.pod("quiet"))
            volume = {"name": "work", "emptyDir": {}}
            node.put("pods", node.pod("greedy", volumes=[volume]))
            await node.runs("quiet")
            await node.runs("greedy")
            [work] = (small_disk / "disk").glob("**/work")
            fill(work)
            evicting, pressure = evictor(node, Threshold(Signal.NODEFS, share=0.1))
            with capture_logs() as logs:
                await evicting.look()
                told = await refused(node, "greedy")
            assert list(pressure.conditions) == ["DiskPressure"]
            assert told["reason"] == "Evicted"
            assert "low on resource: ephemeral-storage" in told["message"]
            assert "node_is_low" in _events(logs, "warning")
            assert not _events(logs, "error"), "a full disk is no defect of edged"
            await eventually(lambda: not work.exists())
            await evicting.look()
            assert not pressure.shortages
            assert phase(node.ears.newest("quiet")) == "Running"

    async def test_what_cannot_be_written_is_told_and_tried_again(
        self, containerd: Server, small_disk: Path
    ) -> None:
        async with node_on(small_disk, containerd) as node:
            node.put("pods", node.pod("quiet"))
            await node.runs("quiet")
            filling = fill(small_disk)
            with capture_logs() as logs:
                node.put("pods", node.pod("late", volumes=[{"name": "work", "emptyDir": {}}]))
                await eventually(lambda: "No space left on device" in str(logs))
            assert not _events(logs, "error")
            assert phase(node.ears.newest("quiet")) == "Running"
            filling.unlink()
            await node.runs("late")

    async def test_the_store_refuses_and_stays_whole(self, small_disk: Path) -> None:
        path = small_disk / "meta.db"
        async with ObjectStore.opened(path) as store:
            await store.apply(_change(1), [])
            filling = fill(small_disk)
            with pytest.raises(UnavailableError, match=r"takes nothing now: .*full"):
                await _until_refused(store)
            assert await store.get(_KEY) is not None
            filling.unlink()
            assert await store.apply(_change(1000), [])
        async with ObjectReader.opened(path) as reader:
            [found] = await reader.list("pods")
        assert found.version == Version(1000, 1000)


_KEY = ObjectKey("pods", "default", "a")


def _change(version: int) -> Change:
    return Change(
        key=_KEY, version=Version(version, version), object={"metadata": {"x": "x" * 10_000}}
    )


async def _until_refused(store: ObjectStore) -> None:
    for version in range(2, 900):
        await store.apply(_change(version), [])


def _events(logs: Sequence[MutableMapping[str, Any]], level: str) -> list[str]:
    return [each["event"] for each in logs if each["log_level"] == level]
