"""The lives of pods on a node, in virtual time on a runtime in memory."""

import asyncio
from typing import Any

import pytest

from fedge_cri import RefusedError, UnavailableError
from fedge_edged.volumes import Volumes
from tests.unit.edged.kit import (
    config_map,
    container_object,
    deleted,
    phase,
    pod_object,
    restarts,
    state,
    waiting_reason,
)
from tests.unit.edged.node import Node

pytestmark = pytest.mark.looptime

MAKING = ("run_sandbox", "create_container", "start_container")
UNMAKING = ("stop_container", "stop_sandbox", "remove_container", "remove_sandbox")


def now() -> float:
    return asyncio.get_running_loop().time()


def counts(node: Node, *calls: str) -> list[int]:
    return [node.runtime.count(call) for call in calls]


def runs(node: Node, name: str = "a", *, restarted: int = 0) -> bool:
    status = node.ears.newest(name)
    return (
        phase(status) == "Running"
        and "running" in state(status)
        and (restarts(status) == restarted)
    )


async def running_pod(node: Node, **spec: Any) -> str:
    """Apply a pod and return the id of its running container."""
    node.put("pods", pod_object(**spec))
    await node.shows(lambda: runs(node))
    [container_id] = node.runtime.running("main")
    return container_id


async def crash(node: Node, code: int = 1) -> None:
    [container_id] = node.runtime.running("main")
    node.runtime.exit_container(container_id, code)


class TestStarting:
    """From a pod to its containers."""

    async def test_pod_starts_once_and_is_left_alone(self, node: Node) -> None:
        await running_pod(node)
        told = len(node.ears.statuses)
        await asyncio.sleep(3600)
        assert counts(node, *MAKING) == [1, 1, 1]
        assert counts(node, *UNMAKING) == [0, 0, 0, 0]
        assert len(node.ears.statuses) == told

    async def test_pod_that_starts_at_once_is_told_once(self, node: Node) -> None:
        await running_pod(node)
        assert [phase(status) for _, status, _ in node.ears.statuses] == ["Running"]
        assert node.ears.newest()["podIP"].startswith("10.88.")
        assert "Started" in node.ears.reasons()

    async def test_pod_that_takes_its_time_is_shown_waiting(self, node: Node) -> None:
        node.runtime.takes["run_sandbox"] = 10
        node.put("pods", pod_object())
        await node.shows(node.ears.newest)
        assert waiting_reason(node.ears.newest()) == "ContainerCreating"
        assert now() == pytest.approx(2, abs=0.1)
        await node.shows(lambda: runs(node))

    async def test_change_that_is_not_the_containers_touches_nothing(self, node: Node) -> None:
        await running_pod(node)
        node.put("pods", pod_object(meta={"labels": {"new": "label"}}))
        await asyncio.sleep(600)
        assert counts(node, *MAKING) == [1, 1, 1]

    async def test_changed_image_is_run_instead_of_the_old(self, node: Node) -> None:
        node.runtime.add_image("fedge.local/other:1")
        old = await running_pod(node)
        other = container_object(image="fedge.local/other:1")
        node.put("pods", pod_object(containers=[other]))
        await node.shows(lambda: runs(node, restarted=1))
        [container_id] = node.runtime.running("main")
        assert container_id != old
        assert counts(node, "run_sandbox") == [1]
        assert node.runtime.doubles == []

    async def test_init_containers_run_one_after_the_other_before_the_rest(
        self, node: Node
    ) -> None:
        inits = [container_object("one"), container_object("two")]
        node.put("pods", pod_object(initContainers=inits))
        for name in ("one", "two"):
            await node.shows(lambda: len(node.runtime.running()) == 1)
            assert len(node.runtime.running(name)) == 1
            node.runtime.exit_container(node.runtime.running(name)[0], 0)
            await asyncio.sleep(0.1)
        await node.shows(lambda: runs(node))
        assert [about for call, about in node.runtime.calls if call == "create_container"] == [
            "one",
            "two",
            "main",
        ]

    async def test_containers_of_a_pod_start_although_one_cannot(self, node: Node) -> None:
        bad = container_object("bad", image="fedge.local/none:1")
        node.put("pods", pod_object(containers=[bad, container_object()]))
        await node.shows(node.ears.newest)
        status = node.ears.newest()
        assert waiting_reason(status, 0) == "ErrImagePull"
        assert "running" in state(status, 1)
        await asyncio.sleep(300)
        assert len(node.runtime.running("main")) == 1

    async def test_pod_that_the_runtime_refuses_leaves_others_alone(self, node: Node) -> None:
        node.runtime.fail_next("run_sandbox", RefusedError("invalid: no such handler"), times=3)
        node.put("pods", pod_object("bad"))
        await asyncio.sleep(0.5)
        node.put("pods", pod_object("good"))
        node.runtime.fail_next("run_sandbox", RefusedError("no"), times=0)
        await node.shows(lambda: runs(node, "good") and runs(node, "bad"))
        assert "FailedCreatePodSandBox" in node.ears.reasons("bad")

    async def test_missing_config_map_is_waited_for(self, node: Node) -> None:
        ref = {"configMapKeyRef": {"name": "cm", "key": "k"}}
        main = container_object(env=[{"name": "X", "valueFrom": ref}])
        node.put("pods", pod_object(containers=[main]))
        await node.shows(lambda: waiting_reason(node.ears.newest()) == "CreateContainerConfigError")
        assert state(node.ears.newest())["waiting"]["message"] == 'configmap "cm" not found'
        assert phase(node.ears.newest()) == "Pending"
        await asyncio.sleep(600)
        asked = now()
        node.put("configmaps", config_map("cm", {"k": "v"}))
        await node.shows(lambda: runs(node))
        assert now() - asked < 1
        [container] = node.runtime.containers.values()
        assert dict(container.spec.env)["X"] == "v"

    async def test_missing_volume_is_waited_for(self, node: Node) -> None:
        node.put("pods", pod_object(volumes=[{"name": "v", "configMap": {"name": "cm"}}]))
        await node.shows(lambda: "FailedMount" in node.ears.reasons())
        assert waiting_reason(node.ears.newest()) == "ContainerCreating"
        node.put("configmaps", config_map("cm", {"k": "v"}))
        await node.shows(lambda: runs(node))

    async def test_config_map_that_comes_just_after_its_pod_is_no_failure(self, node: Node) -> None:
        node.put("pods", pod_object(volumes=[{"name": "v", "configMap": {"name": "cm"}}]))
        await asyncio.sleep(0.5)
        node.put("configmaps", config_map("cm", {"k": "v"}))
        await node.shows(lambda: runs(node))
        assert "FailedMount" not in node.ears.reasons()

    async def test_changed_config_map_reaches_the_volume(self, node: Node) -> None:
        node.put("configmaps", config_map("cm", {"k": "old"}))
        await running_pod(node, volumes=[{"name": "v", "configMap": {"name": "cm"}}])
        [file] = (node.folder / "disk").rglob("v/k")
        assert file.read_text() == "old"
        node.put("configmaps", config_map("cm", {"k": "new"}))
        await asyncio.sleep(0.1)
        assert file.read_text() == "new"
        assert counts(node, *MAKING) == [1, 1, 1]

    async def test_config_map_that_changes_while_volumes_are_written_is_not_missed(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node.put("configmaps", config_map("cm", {"k": "1"}))
        await running_pod(node, volumes=[{"name": "v", "configMap": {"name": "cm"}}])
        [file] = (node.folder / "disk").rglob("v/k")
        prepare, values = Volumes.prepare, ["4", "3"]

        def slow(volumes: Volumes, *args: Any) -> Any:
            prepared = prepare(volumes, *args)
            if values:
                node.put("configmaps", config_map("cm", {"k": values.pop()}))
            return prepared

        monkeypatch.setattr(Volumes, "prepare", slow)
        node.put("configmaps", config_map("cm", {"k": "2"}))
        await asyncio.sleep(0.1)
        assert (file.read_text(), values) == ("4", [])

    async def test_image_that_cannot_be_pulled_is_tried_again_more_and_more_seldom(
        self, node: Node
    ) -> None:
        main = container_object(image="registry.example/app:1")
        node.put("pods", pod_object(containers=[main]))
        await node.shows(lambda: waiting_reason(node.ears.newest()) == "ErrImagePull")
        await node.shows(lambda: waiting_reason(node.ears.newest()) == "ImagePullBackOff")
        await asyncio.sleep(600)
        assert 4 <= node.runtime.count("pull_image") <= 8
        assert counts(node, "run_sandbox") == [0]
        node.runtime.registry.add("registry.example/app:1")
        await node.shows(lambda: runs(node), seconds=400)


class TestRestarting:
    """After an end."""

    async def test_first_crash_is_made_good_at_once(self, node: Node) -> None:
        await running_pod(node)
        crashed = now()
        await crash(node)
        await node.shows(lambda: runs(node, restarted=1))
        assert now() - crashed < 0.2
        last = node.ears.newest()["containerStatuses"][0]["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (1, "Error")

    async def test_end_that_the_runtime_shows_late_is_made_good_soon(self, node: Node) -> None:
        node.runtime.settle_seconds = 0.05
        await running_pod(node)
        crashed = now()
        await crash(node)
        await node.shows(lambda: runs(node, restarted=1))
        assert now() - crashed < 0.2

    async def test_crashes_are_backed_off_from_more_and_more(self, node: Node) -> None:
        await running_pod(node)
        waits = []
        for number in range(1, 9):
            crashed = now()
            await crash(node)
            await node.shows(lambda n=number: runs(node, restarted=n), seconds=400)  # type: ignore[misc] # bound now
            waits.append(round(now() - crashed))
        assert waits == [0, 10, 20, 40, 80, 160, 300, 300]

    async def test_logs_of_the_newest_two_attempts_are_kept(self, node: Node) -> None:
        await running_pod(node)
        folder = node.log_dir / "default_a_uid-a" / "main"
        folder.mkdir(parents=True)
        for name in ("0.log", "0.log.1.gz", "1.log", "2.log", "3.log"):
            (folder / name).write_text("x")
        for number in range(1, 4):
            await crash(node)
            await node.shows(lambda n=number: runs(node, restarted=n), seconds=400)  # type: ignore[misc] # bound now
        await asyncio.sleep(61)
        assert len(node.runtime.containers) == 2
        assert sorted(each.name for each in folder.iterdir()) == ["2.log", "3.log"]

    async def test_back_off_is_shown_with_the_last_end(self, node: Node) -> None:
        await running_pod(node)
        await crash(node)
        await node.shows(lambda: runs(node, restarted=1))
        await crash(node, 3)
        await node.shows(lambda: waiting_reason(node.ears.newest()) == "CrashLoopBackOff")
        status = node.ears.newest()
        assert state(status)["waiting"]["message"] == (
            "back-off 10s restarting failed container=main pod=a_default(uid-a)"
        )
        assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 3
        assert phase(status) == "Running"
        ready = {each["type"]: each["status"] for each in status["conditions"]}
        assert ready["Ready"] == "False"

    @pytest.mark.parametrize(
        ("policy", "code", "ends_as"),
        [("Never", 0, "Succeeded"), ("Never", 2, "Failed"), ("OnFailure", 0, "Succeeded")],
    )
    async def test_what_is_not_to_run_again_does_not(
        self, node: Node, policy: str, code: int, ends_as: str
    ) -> None:
        await running_pod(node, restartPolicy=policy)
        await crash(node, code)
        await node.shows(lambda: phase(node.ears.newest()) == ends_as)
        await asyncio.sleep(600)
        assert counts(node, "start_container") == [1]
        assert [each.is_ready for each in node.runtime.sandboxes.values()] == [False]
        await node.restart()
        await asyncio.sleep(600)
        assert counts(node, *MAKING) == [1, 1, 1]
        assert phase(node.ears.newest()) == ends_as

    async def test_failure_is_retried_until_it_succeeds(self, node: Node) -> None:
        await running_pod(node, restartPolicy="OnFailure")
        await crash(node, 1)
        await node.shows(lambda: runs(node, restarted=1))
        await crash(node, 0)
        await node.shows(lambda: phase(node.ears.newest()) == "Succeeded")

    async def test_only_the_newest_two_attempts_are_kept(self, node: Node) -> None:
        await running_pod(node)
        for number in range(1, 5):
            await crash(node)
            await node.shows(lambda n=number: runs(node, restarted=n), seconds=400)  # type: ignore[misc] # bound now
        await asyncio.sleep(1)
        assert sorted(each.spec.attempt for each in node.runtime.containers.values()) == [3, 4]

    async def test_missed_event_is_made_good_by_the_relist(self, node: Node) -> None:
        container_id = await running_pod(node)
        node.runtime._end(container_id, 1, "")
        await node.shows(lambda: runs(node, restarted=1), seconds=61)

    async def test_dead_sandbox_is_replaced(self, node: Node) -> None:
        await running_pod(node)
        [sandbox_id] = node.runtime.sandboxes
        await node.runtime.stop_sandbox(sandbox_id)
        await node.shows(lambda: runs(node, restarted=1))
        assert [each.is_ready for each in node.runtime.sandboxes.values()].count(True) == 1


class TestOutages:
    """Whatever is killed when."""

    @pytest.mark.parametrize("edged_dies_too", [True, False])
    async def test_power_cut_brings_everything_back_without_waiting(
        self, node: Node, edged_dies_too: bool
    ) -> None:
        names = [f"p{number}" for number in range(10)]
        for name in names:
            node.put("pods", pod_object(name))
        await node.shows(lambda: all(runs(node, name) for name in names))
        for _ in range(2):  # twice, so that a back-off would show
            cut = now()
            before = {name: restarts(node.ears.newest(name)) for name in names}
            if edged_dies_too:
                await node.reboot()
            else:
                node.runtime.go_away()
                node.runtime.cut_power()
                node.runtime.come_back()
            await node.shows(
                lambda b=before: all(runs(node, n, restarted=b[n] + 1) for n in names)  # type: ignore[misc] # bound now
            )
            assert now() - cut < 1
        assert len(node.runtime.running("main")) == 10
        assert node.runtime.doubles == []
        assert "CrashLoopBackOff" not in {
            waiting_reason(status) for _, status, _ in node.ears.statuses
        }
        await asyncio.sleep(61)
        ready = [each for each in node.runtime.sandboxes.values() if each.is_ready]
        assert len(ready) == 10

    async def test_restarted_edged_adopts_what_runs(self, node: Node) -> None:
        # the sandbox comes later than the start time that was told
        node.runtime.takes["run_sandbox"] = node.runtime.takes["pull_image"] = 3
        container_id = await running_pod(node)
        told = node.ears.newest()
        node.ears.statuses.clear()
        await node.restart()
        await node.shows(lambda: runs(node))
        await asyncio.sleep(600)
        assert node.runtime.running("main") == [container_id]
        assert counts(node, *MAKING) == [1, 1, 1]
        assert counts(node, *UNMAKING) == [0, 0, 0, 0]
        assert node.ears.newest()["containerStatuses"] == told["containerStatuses"]
        assert node.ears.newest()["startTime"] == told["startTime"]

    async def test_crash_while_edged_was_away_is_made_good(self, node: Node) -> None:
        await running_pod(node)
        await node.stop()
        await crash(node)
        await node.start()
        await node.shows(lambda: runs(node, restarted=1))

    @pytest.mark.parametrize("call", MAKING)
    @pytest.mark.parametrize("finishes", [True, False])
    async def test_edged_killed_while_it_starts_a_pod_goes_on_where_it_was(
        self, node: Node, call: str, finishes: bool
    ) -> None:
        node.runtime.takes[call] = 10
        node.runtime.finishes_cancelled = finishes
        node.put("pods", pod_object())
        await asyncio.sleep(5)
        await node.restart()
        await node.shows(lambda: runs(node))
        assert len(node.runtime.running("main")) == 1
        assert node.runtime.doubles == []
        assert len(node.runtime.sandboxes) == 1
        assert len(node.runtime.containers) == 1

    @pytest.mark.parametrize("call", MAKING)
    async def test_lost_answer_makes_no_second_copy(self, node: Node, call: str) -> None:
        node.runtime.fail_next(call, UnavailableError("deadline exceeded"), has_effect=True)
        node.put("pods", pod_object())
        await node.shows(lambda: runs(node))
        assert node.runtime.doubles == []
        assert len(node.runtime.sandboxes) == 1
        assert len(node.runtime.containers) == 1

    async def test_runtime_away_and_back_touches_nothing(self, node: Node) -> None:
        container_id = await running_pod(node)
        node.runtime.go_away()
        await asyncio.sleep(600)
        node.runtime.come_back()
        await asyncio.sleep(600)
        assert node.runtime.running("main") == [container_id]
        assert counts(node, *MAKING) == [1, 1, 1]

    async def test_pod_that_came_while_the_runtime_was_away_starts_when_it_is_back(
        self, node: Node
    ) -> None:
        node.runtime.go_away()
        node.put("pods", pod_object())
        await asyncio.sleep(200)
        back = now()
        node.runtime.come_back()
        await node.shows(lambda: runs(node))
        assert now() - back < 5

    async def test_runtime_that_tells_of_events_before_it_can_be_asked_is_asked_again(
        self, node: Node
    ) -> None:
        container_id = await running_pod(node)
        node.runtime.go_away()
        node.runtime._end(container_id, 1, "")
        await asyncio.sleep(20)
        back = now()
        node.runtime.come_back()
        for _ in range(3):
            node.runtime.fail_next("list_sandboxes", UnavailableError("not initialized yet"))
        await node.shows(lambda: runs(node, restarted=1))
        assert now() - back < 10

    async def test_end_that_was_missed_while_the_runtime_was_away_is_made_good(
        self, node: Node
    ) -> None:
        container_id = await running_pod(node)
        node.runtime.go_away()
        node.runtime._end(container_id, 1, "")
        await asyncio.sleep(20)
        back = now()
        node.runtime.come_back()
        await node.shows(lambda: runs(node, restarted=1))
        assert now() - back < 1


class TestEnding:
    """Deletion always ends in nothing being left."""

    async def test_deleted_pod_is_stopped_removed_and_told_finished_once(self, node: Node) -> None:
        node.put("configmaps", config_map("cm", {"k": "v"}))
        volumes = [{"name": "v", "configMap": {"name": "cm"}}]
        await running_pod(node, volumes=volumes)
        node.put("pods", deleted(pod_object(volumes=volumes)))
        await node.shows(node.ears.finished)
        [status] = node.ears.finished()
        assert state(status)["terminated"]["exitCode"] == 143
        assert (node.runtime.sandboxes, node.runtime.containers) == ({}, {})
        assert not list(node.folder.rglob("uid-a"))
        node.take("pods", "a", None)
        await asyncio.sleep(600)
        assert len(node.ears.finished()) == 1
        assert node.pods is not None
        assert node.pods.find("default", "a") is None

    async def test_finished_is_told_again_when_it_is_asked_for(self, node: Node) -> None:
        await running_pod(node)
        node.put("pods", deleted(pod_object()))
        await node.shows(node.ears.finished)
        assert node.pods is not None
        node.pods.report_all()
        assert len(node.ears.finished()) == 2

    async def test_finished_is_told_by_an_edged_that_was_restarted_after_the_end(
        self, node: Node
    ) -> None:
        await running_pod(node)
        node.put("pods", deleted(pod_object()))
        await node.shows(node.ears.finished)
        node.ears.statuses.clear()
        await node.restart()
        await node.shows(node.ears.finished)
        assert counts(node, *MAKING) == [1, 1, 1]

    async def test_pod_deleted_while_edged_was_away_ends(self, node: Node) -> None:
        await running_pod(node)
        await node.stop()
        node.put("pods", deleted(pod_object()))
        await node.start()
        await node.shows(node.ears.finished)
        assert node.runtime.sandboxes == {}

    @pytest.mark.parametrize("call", ["pull_image", "run_sandbox"])
    async def test_deletion_does_not_wait_for_a_start(self, node: Node, call: str) -> None:
        node.runtime.registry.add("registry.example/big:1")
        node.runtime.takes[call] = 3000
        main = container_object(image="registry.example/big:1")
        node.put("pods", pod_object(containers=[main]))
        await asyncio.sleep(10)
        node.runtime.takes.clear()
        asked = now()
        node.put("pods", deleted(pod_object(containers=[main])))
        await node.shows(node.ears.finished)
        assert now() - asked < 1
        assert (node.runtime.sandboxes, node.runtime.running()) == ({}, [])

    async def test_deletion_does_not_wait_for_a_back_off(self, node: Node) -> None:
        await running_pod(node)
        for number in range(1, 5):
            await crash(node)
            await node.shows(lambda n=number: runs(node, restarted=n), seconds=400)  # type: ignore[misc] # bound now
        await crash(node)
        await node.shows(lambda: waiting_reason(node.ears.newest()) == "CrashLoopBackOff")
        asked = now()
        node.put("pods", deleted(pod_object()))
        await node.shows(node.ears.finished)
        assert now() - asked < 1

    async def test_tombstone_ends_a_pod_without_a_word(self, node: Node) -> None:
        await running_pod(node)
        told = len(node.ears.statuses)
        node.take("pods", "a", None)
        await asyncio.sleep(10)
        assert (node.runtime.sandboxes, node.runtime.containers) == ({}, {})
        assert len(node.ears.statuses) == told
        assert not list(node.folder.rglob("uid-a"))

    async def test_grace_is_given_and_then_ended(self, node: Node) -> None:
        node.runtime.stubborn.add("main")
        await running_pod(node)
        asked = now()
        node.put("pods", deleted(pod_object(), grace_seconds=30))
        await node.shows(node.ears.finished)
        assert now() - asked == pytest.approx(30, abs=0.5)
        assert state(node.ears.finished()[0])["terminated"]["exitCode"] == 137

    async def test_forced_deletion_cuts_the_grace_short(self, node: Node) -> None:
        node.runtime.stubborn.add("main")
        await running_pod(node)
        node.put("pods", deleted(pod_object(), grace_seconds=300))
        await asyncio.sleep(5)
        asked = now()
        node.put("pods", deleted(pod_object(), grace_seconds=0))
        await node.shows(node.ears.finished)
        assert now() - asked < 1

    async def test_repeated_deletion_does_not_begin_the_grace_anew(self, node: Node) -> None:
        node.runtime.stubborn.add("main")
        await running_pod(node)
        asked = now()
        for _ in range(5):
            node.put("pods", deleted(pod_object(), grace_seconds=30))
            await asyncio.sleep(5)
        await node.shows(node.ears.finished)
        assert now() - asked == pytest.approx(30, abs=0.5)

    async def test_deletion_ends_although_the_runtime_fails_in_between(self, node: Node) -> None:
        await running_pod(node)
        for call in UNMAKING:
            node.runtime.fail_next(call, UnavailableError("away"), times=2)
        node.put("pods", deleted(pod_object()))
        await node.shows(node.ears.finished, seconds=300)
        assert (node.runtime.sandboxes, node.runtime.containers) == ({}, {})
        assert len(node.ears.finished()) == 1

    async def test_deletion_ends_although_the_runtime_refuses_in_between(self, node: Node) -> None:
        await running_pod(node)
        for call in UNMAKING:
            node.runtime.fail_next(call, RefusedError("device or resource busy"), times=2)
        node.put("pods", deleted(pod_object()))
        await node.shows(node.ears.finished, seconds=300)
        assert (node.runtime.sandboxes, node.runtime.containers) == ({}, {})

    async def test_pod_of_the_same_name_runs_after_the_old_one(self, node: Node) -> None:
        await running_pod(node)
        node.put("pods", pod_object(meta={"uid": "uid-new"}))
        await asyncio.sleep(10)
        [sandbox] = node.runtime.sandboxes.values()
        assert sandbox.spec.uid == "uid-new"
        assert len(node.runtime.running("main")) == 1

    async def test_pod_that_was_removed_while_edged_was_away_is_cleaned_up(
        self, node: Node
    ) -> None:
        await running_pod(node)
        await node.stop()
        node.take("pods", "a", None)
        await node.start()
        await asyncio.sleep(10)
        assert (node.runtime.sandboxes, node.runtime.containers) == ({}, {})

    async def test_pod_that_nothing_is_known_of_is_left_running(self, node: Node) -> None:
        container_id = await running_pod(node)
        await node.stop()
        node.store.clear()
        await node.start()
        await asyncio.sleep(600)
        assert node.runtime.running() == [container_id]
