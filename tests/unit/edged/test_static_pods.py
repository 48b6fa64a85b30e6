"""Pods from files of the node, in virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import looptime
import pytest
import yaml
from structlog.testing import capture_logs

from fedge_edged.importance import MIRROR, SOURCE
from fedge_edged.static_pods import HASH, SCAN_SECONDS, StaticPods, read_manifest
from fedge_edged.verdicts import Verdict
from fedge_objects import JsonObject, NodeName
from tests.unit.edged.kit import container_object, phase, pod_object
from tests.unit.edged.node import Node

GATEWAY = NodeName("gw-1")


def manifest(name: str = "web", **spec: Any) -> JsonObject:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container_object()], "terminationGracePeriodSeconds": 1, **spec},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


def write(folder: Path, name: str, obj: JsonObject) -> Path:
    path = folder / name
    path.write_text(json.dumps(obj) if path.suffix == ".json" else yaml.safe_dump(obj))
    return path


class TestManifests:
    """Files."""

    def test_pod_is_named_and_marked_as_the_kubelet_does(self, folder: Path) -> None:
        pod = read_manifest(write(folder, "web.yaml", manifest()), node=GATEWAY)
        metadata = pod["metadata"]
        assert metadata["name"] == "web-gw-1"
        assert metadata["namespace"] == "default"
        assert metadata["labels"] == {"app": "web"}
        assert metadata["annotations"][SOURCE] == "file"
        assert metadata["annotations"][HASH] == metadata["uid"]
        assert pod["spec"]["nodeName"] == "gw-1"
        assert pod["spec"]["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]

    def test_uid_follows_from_what_is_said_and_where(self, folder: Path) -> None:
        def uid(path: Path, node: str = "gw-1") -> str:
            return str(read_manifest(path, node=NodeName(node))["metadata"]["uid"])

        first = uid(write(folder, "web.yaml", manifest()))
        assert uid(write(folder, "web.yaml", manifest())) == first
        assert uid(write(folder, "web.yaml", manifest(hostname="x"))) != first
        assert uid(write(folder, "other.yaml", manifest())) != first
        assert uid(write(folder, "web.yaml", manifest()), "gw-2") != first

    def test_json_and_yaml_with_times_are_read(self, folder: Path) -> None:
        obj = manifest()
        obj["metadata"]["annotations"] = {"built": "2026-01-01"}
        read_manifest(write(folder, "web.json", obj), node=GATEWAY)
        path = folder / "web.yaml"
        path.write_text(yaml.safe_dump(obj).replace("'2026-01-01'", "2026-01-01"))
        pod = read_manifest(path, node=GATEWAY)
        assert pod["metadata"]["annotations"]["built"] == "2026-01-01"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "expected"),
            ("a: [", "expected"),
            ("kind: Pod", "apiVersion v1 and kind Pod"),
            ("- a\n- b", "apiVersion v1 and kind Pod"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {}", "metadata.name"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}", "containers"),
        ],
    )
    def test_nonsense_is_refused(self, folder: Path, text: str, words: str) -> None:
        path = folder / "bad.yaml"
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_manifest(path, node=GATEWAY)

    def test_objects_of_the_api_cannot_be_referred_to(self, folder: Path) -> None:
        volume = {"name": "v", "configMap": {"name": "settings"}}
        path = write(folder, "web.yaml", manifest(volumes=[volume]))
        with pytest.raises(ValueError, match="cannot refer to objects of the API: configmaps/def"):
            read_manifest(path, node=GATEWAY)


class Follower:
    """Follows the folder on the node, as edged does."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.folder = folder
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        assert self.node.pods is not None
        statics = StaticPods(self.folder, node=GATEWAY, pods=self.node.pods)
        await statics.scan()
        self._task = asyncio.create_task(statics.run())
        await asyncio.sleep(0)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def restart(self) -> None:
        """Restart edged."""
        await self.stop()
        await self.node.restart()
        await self.start()


@pytest.fixture
async def follower(node: Node, folder: Path) -> AsyncIterator[Follower]:
    follower = Follower(node, folder)
    with looptime.enabled(strict=True):  # as in the tests
        await follower.start()
    yield follower
    await follower.stop()


async def scans(count: int = 1) -> None:
    await asyncio.sleep(count * SCAN_SECONDS + 2)


async def runs(node: Node, name: str = "web-gw-1") -> None:
    await node.shows(lambda: phase(node.ears.newest(name)) == "Running")


def uid_of(node: Node, name: str = "web-gw-1") -> str:
    assert node.pods is not None
    worker = node.pods.find("default", name)
    assert worker is not None
    return worker.uid


@pytest.mark.looptime
class TestOnTheNode:
    """Files that come and go."""

    async def test_a_file_makes_a_pod_and_its_removal_ends_it(
        self, node: Node, follower: Follower
    ) -> None:
        path = write(follower.folder, "web.yaml", manifest())
        await runs(node)
        path.unlink()
        await scans()
        assert not node.runtime.containers
        assert not node.runtime.sandboxes

    async def test_a_change_ends_the_old_before_the_new_starts(
        self, node: Node, follower: Follower
    ) -> None:
        write(follower.folder, "web.yaml", manifest())
        await runs(node)
        before = uid_of(node)
        write(follower.folder, "web.yaml", manifest(hostname="other"))
        await scans()
        assert not node.runtime.running("main")
        await scans()
        assert len(node.runtime.running("main")) == 1
        assert uid_of(node) != before

    async def test_an_unchanged_file_is_not_read_again(
        self, node: Node, follower: Follower, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(follower.folder, "web.yaml", manifest())
        await runs(node)

        reads = []

        def read(path: Path, *, node: NodeName) -> JsonObject:
            reads.append(path)
            return read_manifest(path, node=node)

        monkeypatch.setattr("fedge_edged.static_pods.read_manifest", read)
        await scans(3)
        assert not reads
        write(follower.folder, "other.yaml", manifest("other"))
        await runs(node, "other-gw-1")
        assert [each.name for each in reads] == ["other.yaml"]

    async def test_a_bad_file_is_named_and_disturbs_no_other(
        self, node: Node, follower: Follower
    ) -> None:
        (follower.folder / "bad.yaml").write_text("apiVersion: v1\nkind: Pod\nspec: [")
        (follower.folder / ".hidden").write_text("{")
        write(follower.folder, "web.yaml", manifest())
        with capture_logs() as logs:
            await runs(node)
            await scans(3)
        faults = [each for each in logs if each["event"] == "static_pod_unreadable"]
        assert [Path(each["file"]).name for each in faults] == ["bad.yaml"]
        assert faults[0]["log_level"] == "error"

    async def test_a_file_that_becomes_bad_changes_nothing(
        self, node: Node, follower: Follower
    ) -> None:
        path = write(follower.folder, "web.yaml", manifest())
        await runs(node)
        before = node.runtime.running("main")
        path.write_text("{")
        await scans(2)
        assert node.runtime.running("main") == before
        await follower.restart()
        await scans(4)
        assert node.runtime.running("main") == before, "nothing says that its file is gone"

    async def test_a_folder_that_is_away_ends_nothing(self, node: Node, follower: Follower) -> None:
        write(follower.folder, "web.yaml", manifest())
        await runs(node)
        follower.folder.rename(follower.folder.with_name("away"))
        await scans(2)
        await follower.restart()
        await scans(4)
        assert len(node.runtime.running("main")) == 1

    async def test_two_files_of_one_name_make_one_pod(self, node: Node, follower: Follower) -> None:
        write(follower.folder, "a.yaml", manifest())
        write(follower.folder, "b.yaml", manifest(hostname="other"))
        await runs(node)
        await scans(2)
        assert len(node.runtime.running("main")) == 1

    async def test_the_cloud_neither_ends_nor_replaces_it(
        self, node: Node, follower: Follower
    ) -> None:
        write(follower.folder, "web.yaml", manifest())
        await runs(node)
        before = node.runtime.running("main")
        node.take("pods", "web-gw-1", None)
        node.put("pods", pod_object("web-gw-1"))
        await scans(4)
        assert node.runtime.running("main") == before

    async def test_it_runs_on_when_edged_restarts(self, node: Node, follower: Follower) -> None:
        write(follower.folder, "web.yaml", manifest())
        await runs(node)
        before = node.runtime.running("main")
        await follower.restart()
        await scans(4)
        assert node.runtime.running("main") == before

    async def test_a_file_that_went_while_edged_was_down_ends_its_pod(
        self, node: Node, follower: Follower
    ) -> None:
        path = write(follower.folder, "web.yaml", manifest())
        await runs(node)
        await follower.stop()
        await node.stop()
        path.unlink()
        await node.start()
        await follower.start()
        await scans(4)
        assert not node.runtime.sandboxes

    async def test_a_verdict_does_not_outlive_edged(self, node: Node, follower: Follower) -> None:
        write(follower.folder, "web.yaml", manifest())
        await runs(node)
        assert node.pods is not None
        worker = node.pods.find("default", "web-gw-1")
        assert worker is not None
        worker.finish(Verdict(reason="Terminated"), grace_seconds=0)
        await node.shows(lambda: phase(node.ears.newest("web-gw-1")) == "Failed")
        await scans(2)
        assert not node.runtime.running("main")
        await follower.restart()
        await scans(2)
        assert len(node.runtime.running("main")) == 1

    async def test_no_pod_of_the_api_passes_as_one(self, node: Node) -> None:
        node.put("pods", pod_object("a", meta={"annotations": {SOURCE: "file", "kept": "1"}}))
        await node.shows(lambda: phase(node.ears.newest("a")) == "Running")
        assert node.pods is not None
        worker = node.pods.find("default", "a")
        assert worker is not None
        assert worker.pod is not None
        assert worker.pod.metadata.annotations == {"kept": "1"}

    async def test_a_mirror_is_not_run(self, node: Node) -> None:
        node.put("pods", pod_object("a", meta={"annotations": {MIRROR: "1"}}))
        await scans()
        assert not node.runtime.sandboxes
