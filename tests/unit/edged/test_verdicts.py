"""How pods end for good, and what their containers leave to say, in virtual time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fedge_edged.termination import termination_message
from fedge_edged.verdicts import Record, Records, Verdict
from tests.unit.edged.kit import container_object, deleted, phase, pod_object, state
from tests.unit.edged.node import Node

EVICTED = Verdict(reason="Evicted", message="The node was low on resource: memory.", disrupts=True)


def now() -> float:
    return asyncio.get_running_loop().time()


def condition(node: Node, kind: str) -> dict[str, Any]:
    told = node.ears.newest().get("conditions", [])
    return next((each for each in told if each["type"] == kind), {})


async def running(node: Node, **spec: Any) -> None:
    node.put("pods", pod_object(**spec))
    await node.shows(lambda: phase(node.ears.newest()) == "Running")


def files(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(f"**/{pattern}"))


def leave(path: Path, text: str) -> None:
    assert path.stat().st_mode & 0o777 == 0o666
    path.write_text(text)


async def run_again(node: Node) -> None:
    """Have the container crash, and wait until it runs again."""
    before = node.runtime.running("main")
    node.runtime.exit_container(before[0], 1)
    await node.shows(lambda: node.runtime.running("main") not in ([], before), seconds=400)
    await asyncio.sleep(1)


def finish(node: Node, verdict: Verdict = EVICTED, *, grace_seconds: int = 0) -> None:
    assert node.pods is not None
    [worker] = node.pods.workers
    worker.finish(verdict, grace_seconds=grace_seconds)


@pytest.mark.looptime
class TestVerdicts:
    """Pods that the node ends."""

    async def test_pod_ends_as_the_verdict_says_and_stays(self, node: Node) -> None:
        await running(node)
        finish(node)
        await node.shows(lambda: phase(node.ears.newest()) == "Failed")
        status = node.ears.newest()
        assert (status["reason"], status["message"]) == (EVICTED.reason, EVICTED.message)
        assert condition(node, "DisruptionTarget")["reason"] == "TerminationByKubelet"
        assert condition(node, "Ready")["reason"] == "PodFailed"
        await asyncio.sleep(3600)
        assert node.runtime.running() == []
        assert node.runtime.count("start_container") == 1

    async def test_verdict_outlives_a_restart_and_a_power_cut(self, node: Node) -> None:
        await running(node)
        finish(node)
        await node.shows(lambda: phase(node.ears.newest()) == "Failed")
        for again in (node.restart, node.reboot):
            node.ears.statuses.clear()
            await again()
            await node.shows(lambda: node.ears.newest().get("reason") == "Evicted")
            await asyncio.sleep(600)
            assert node.runtime.running() == []

    async def test_pod_that_was_refused_never_runs(self, node: Node) -> None:
        node.put("pods", pod_object())
        finish(node, Verdict(reason="OutOfcpu", message="Node didn't have enough resource: cpu"))
        await node.shows(lambda: phase(node.ears.newest()) == "Failed")
        assert node.runtime.count("run_sandbox") == 0
        assert "containerStatuses" not in node.ears.newest()
        await node.restart()
        await asyncio.sleep(600)
        assert node.runtime.count("run_sandbox") == 0

    async def test_containers_have_the_grace_of_the_verdict(self, node: Node) -> None:
        node.runtime.stubborn.add("main")
        await running(node)
        began = now()
        finish(node, grace_seconds=7)
        await node.shows(lambda: phase(node.ears.newest()) == "Failed")
        assert now() - began == pytest.approx(7, abs=0.5)

    async def test_deleted_pod_is_gone_although_it_had_ended(
        self, node: Node, tmp_path: Path
    ) -> None:
        await running(node)
        finish(node)
        await node.shows(lambda: phase(node.ears.newest()) == "Failed")
        assert files(tmp_path, "record.json")
        node.put("pods", deleted(pod_object()))
        await node.shows(node.ears.finished)
        assert not files(tmp_path, "record.json")

    async def test_pod_that_the_cluster_gave_up_is_ended_here(self, node: Node) -> None:
        await running(node)
        node.put("pods", {**pod_object(), "status": {"phase": "Failed", "reason": "NodeLost"}})
        await node.shows(lambda: phase(node.ears.newest()) == "Failed")
        assert node.ears.newest()["reason"] == "NodeLost"
        assert node.runtime.running() == []


@pytest.mark.looptime
class TestDeadline:
    """``activeDeadlineSeconds``."""

    async def test_pod_is_ended_when_its_time_is_up(self, node: Node) -> None:
        await running(node, activeDeadlineSeconds=100)
        await node.shows(lambda: phase(node.ears.newest()) == "Failed", seconds=200)
        assert now() == pytest.approx(100, abs=1)
        assert node.ears.newest()["reason"] == "DeadlineExceeded"

    async def test_restarts_of_edged_give_no_more_time(self, node: Node) -> None:
        await running(node, activeDeadlineSeconds=100)
        await asyncio.sleep(60)
        await node.stop()
        await asyncio.sleep(20)
        await node.reboot()
        await node.shows(lambda: phase(node.ears.newest()) == "Failed", seconds=200)
        assert now() == pytest.approx(100, abs=1)

    async def test_pod_that_ended_in_time_is_left_alone(self, node: Node) -> None:
        await running(node, activeDeadlineSeconds=100, restartPolicy="Never")
        node.runtime.exit_container(node.runtime.running("main")[0], 0)
        await node.shows(lambda: phase(node.ears.newest()) == "Succeeded")
        await asyncio.sleep(600)
        assert phase(node.ears.newest()) == "Succeeded"


class TestRecords:
    """What is kept of a pod."""

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        records = Records(tmp_path)
        assert records.read("u") == Record()
        record = Record(verdict=EVICTED, started_at=12.5)
        records.write("u", record)
        assert records.read("u") == record

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"verdict": {"other": 1}}'])
    def test_damaged_record_is_as_good_as_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "u").mkdir()
        (tmp_path / "u" / "record.json").write_text(text)
        assert Records(tmp_path).read("u") == Record()


@pytest.mark.looptime
class TestResources:
    """What changes while a container runs."""

    async def test_resize_is_not_silently_accepted(self, node: Node) -> None:
        await running(node)
        assert condition(node, "PodResizePending") == {}
        more = container_object(resources={"limits": {"memory": "64Mi"}})
        node.put("pods", pod_object(containers=[more]))
        await node.shows(lambda: condition(node, "PodResizePending"))
        assert condition(node, "PodResizePending")["reason"] == "Infeasible"
        assert node.runtime.count("start_container") == 1
        node.put("pods", pod_object())
        await node.shows(lambda: condition(node, "PodResizePending")["status"] == "False")


@pytest.mark.looptime
class TestLastWords:
    """Termination messages."""

    async def test_message_shows_in_the_status(self, node: Node) -> None:
        await running(node, restartPolicy="Never")
        [container_id] = node.runtime.running("main")
        mounts = node.runtime.containers[container_id].spec.mounts
        [mount] = [each for each in mounts if each.container_path == "/dev/termination-log"]
        leave(Path(mount.host_path), "out of beans")
        node.runtime.exit_container(container_id, 3)
        await node.shows(lambda: phase(node.ears.newest()) == "Failed")
        assert state(node.ears.newest())["terminated"]["message"] == "out of beans"
        await node.restart()
        await asyncio.sleep(1)
        assert state(node.ears.newest())["terminated"]["message"] == "out of beans"

    async def test_messages_of_old_attempts_go(self, node: Node, tmp_path: Path) -> None:
        await running(node)
        for _ in range(4):
            await run_again(node)
        assert len(files(tmp_path, "*.message")) == 2


class TestTerminationMessage:
    """What is read from disk."""

    def test_message_is_cut(self, tmp_path: Path) -> None:
        (tmp_path / "m").write_bytes(b"x" * 5000)
        text = termination_message(tmp_path / "m", tmp_path / "log", policy="File", exit_code=0)
        assert len(text) == 4096

    def test_logs_stand_in_after_an_error_only(self, tmp_path: Path) -> None:
        (tmp_path / "log").write_text(
            "".join(
                f"2027-01-01T00:00:00.0Z stdout {mark} line {number}\n"
                for number, mark in ((1, "F"), (2, "P"), (3, "F"))
            )
        )

        def read(policy: str, code: int) -> str:
            return termination_message(
                tmp_path / "m", tmp_path / "log", policy=policy, exit_code=code
            )

        assert read("FallbackToLogsOnError", 1) == "line 1\nline 2line 3\n"
        assert read("FallbackToLogsOnError", 0) == ""
        assert read("File", 1) == ""

    def test_link_out_of_the_container_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "m").symlink_to(tmp_path / "secret")
        text = termination_message(tmp_path / "m", tmp_path / "log", policy="File", exit_code=1)
        assert text == ""
