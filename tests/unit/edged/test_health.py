"""Probes and hooks of pods on a node, in virtual time on a runtime in memory."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from fedge_cri import ExecResult, RuntimeFaultError
from tests.unit.edged.kit import (
    IMAGE,
    Ears,
    Event,
    container_object,
    deleted,
    phase,
    pod_object,
    restarts,
)
from tests.unit.edged.node import Node

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


def command(*words: str) -> dict[str, Any]:
    return {"exec": {"command": list(words)}}


def events(ears: Ears, reason: str) -> list[Event]:
    return [event for _, event in ears.events if event.reason == reason]


def condition(node: Node, kind: str) -> dict[str, Any]:
    told = node.ears.newest().get("conditions", [])
    return next((each for each in told if each["type"] == kind), {})


def main_status(node: Node) -> dict[str, Any]:
    return dict((node.ears.newest().get("containerStatuses") or [{}])[0])


class Answers:
    """What commands in containers yield: the words in ``bad`` fail; all are noted with the time."""

    def __init__(self, node: Node) -> None:
        self.bad: set[str] = set()
        self.asked: list[tuple[str, float]] = []
        node.runtime.commands = self._answer

    def count(self, word: str) -> int:
        return sum(each == word for each, _ in self.asked)

    def _answer(self, _: str, command: Sequence[str]) -> ExecResult | RuntimeFaultError:
        self.asked.append((command[0], now()))
        if command[0] in self.bad:
            return ExecResult(stdout=b"", stderr=f"no {command[0]}".encode(), exit_code=1)
        return ExecResult(stdout=b"", stderr=b"", exit_code=0)


def probed_pod(**probes: Any) -> dict[str, Any]:
    return pod_object(containers=[container_object(**probes)])


async def settle(node: Node) -> None:
    await node.shows(lambda: phase(node.ears.newest()) == "Running")


class TestReadiness:
    """Whether traffic should come."""

    async def test_container_is_ready_once_its_probe_succeeds(self, node: Node) -> None:
        answers = Answers(node)
        answers.bad.add("ready")
        node.put("pods", probed_pod(readinessProbe={**command("ready"), "periodSeconds": 5}))
        await settle(node)
        await asyncio.sleep(20)
        assert condition(node, "Ready")["status"] == "False"
        assert condition(node, "ContainersReady")["reason"] == "ContainersNotReady"
        assert restarts(node.ears.newest()) == 0
        assert events(node.ears, "Unhealthy")[0].message == "Readiness probe failed: no ready"
        answers.bad.clear()
        await node.shows(lambda: condition(node, "Ready")["status"] == "True")
        answers.bad.add("ready")
        gone_at = now()
        await node.shows(lambda: condition(node, "Ready")["status"] == "False")
        assert 10 <= now() - gone_at <= 15  # three failures, five seconds apart

    async def test_initial_delay_and_success_threshold_are_kept(self, node: Node) -> None:
        answers = Answers(node)
        probe = {
            **command("ready"),
            "initialDelaySeconds": 7,
            "periodSeconds": 3,
            "successThreshold": 2,
        }
        node.put("pods", probed_pod(readinessProbe=probe))
        await settle(node)
        await node.shows(lambda: condition(node, "Ready")["status"] == "True")
        assert [round(when) for _, when in answers.asked] == [7, 10]

    async def test_readiness_outlives_a_restart_of_edged_untold(self, node: Node) -> None:
        answers = Answers(node)
        node.put("pods", probed_pod(readinessProbe=command("ready")))
        await node.shows(lambda: condition(node, "Ready").get("status") == "True")
        node.ears.statuses.clear()
        await node.restart()
        await node.shows(node.ears.newest)
        assert condition(node, "Ready")["status"] == "True"
        assert answers.count("ready") == 2

    async def test_gates_make_a_pod_ready_only_when_others_say_so(self, node: Node) -> None:
        pod = pod_object(readinessGates=[{"conditionType": "www.example.com/gate"}])
        node.put("pods", pod)
        await settle(node)
        assert condition(node, "ContainersReady")["status"] == "True"
        assert condition(node, "Ready")["reason"] == "ReadinessGatesNotReady"
        assert "does not exist" in condition(node, "Ready")["message"]
        told = {"conditions": [{"type": "www.example.com/gate", "status": "True"}]}
        node.put("pods", {**pod, "status": told})
        await node.shows(lambda: condition(node, "Ready")["status"] == "True")


class TestLiveness:
    """Whether a container has to be made anew."""

    async def test_container_that_fails_is_ended_and_run_again(self, node: Node) -> None:
        answers = Answers(node)
        probe = {**command("alive"), "periodSeconds": 10, "failureThreshold": 3}
        node.put("pods", probed_pod(livenessProbe=probe))
        await settle(node)
        await asyncio.sleep(35)
        assert restarts(node.ears.newest()) == 0
        answers.bad.add("alive")
        await node.shows(lambda: restarts(node.ears.newest()) == 1)
        answers.bad.clear()
        assert len(events(node.ears, "Unhealthy")) == 3
        assert [event.message for event in events(node.ears, "Killing")] == [
            "Container main failed liveness probe, will be restarted"
        ]
        await asyncio.sleep(600)
        assert restarts(node.ears.newest()) == 1
        assert node.runtime.doubles == []

    async def test_runtime_that_is_away_makes_no_container_unhealthy(self, node: Node) -> None:
        Answers(node)
        node.put("pods", probed_pod(livenessProbe={**command("alive"), "failureThreshold": 1}))
        await settle(node)
        node.runtime.go_away()
        await asyncio.sleep(60)
        node.runtime.come_back()
        await asyncio.sleep(60)
        assert restarts(node.ears.newest()) == 0
        assert events(node.ears, "Unhealthy") == []


class TestStartup:
    """Whether a container is past its start."""

    async def test_other_probes_wait_for_the_start(self, node: Node) -> None:
        answers = Answers(node)
        answers.bad.add("begun")
        startup = {**command("begun"), "periodSeconds": 10, "failureThreshold": 30}
        node.put("pods", probed_pod(startupProbe=startup, livenessProbe=command("alive")))
        await settle(node)
        await asyncio.sleep(100)
        assert main_status(node)["started"] is False
        assert condition(node, "Ready")["status"] == "False"
        assert answers.count("alive") == 0
        answers.bad.clear()
        await node.shows(lambda: main_status(node)["started"])
        assert condition(node, "Ready")["status"] == "True"
        await asyncio.sleep(30)
        assert answers.count("alive") >= 3
        began = answers.count("begun")
        await asyncio.sleep(100)
        assert answers.count("begun") == began

    async def test_container_that_never_starts_is_run_again(self, node: Node) -> None:
        answers = Answers(node)
        answers.bad.add("begun")
        startup = {**command("begun"), "periodSeconds": 1, "failureThreshold": 2}
        node.put("pods", probed_pod(startupProbe=startup))
        await node.shows(lambda: restarts(node.ears.newest()) == 1)
        killing = events(node.ears, "Killing")[0]
        assert killing.message == "Container main failed startup probe, will be restarted"


class TestHooks:
    """What is done after a start and before an end."""

    async def test_post_start_that_fails_ends_the_container(self, node: Node) -> None:
        answers = Answers(node)
        answers.bad.add("begin")
        node.put("pods", probed_pod(lifecycle={"postStart": command("begin")}))
        await node.shows(lambda: restarts(node.ears.newest()) == 1)
        assert (
            events(node.ears, "FailedPostStartHook")[0].message == "PostStartHook failed: no begin"
        )
        answers.bad.clear()
        await asyncio.sleep(60)
        assert len(node.runtime.running("main")) == 1
        assert node.runtime.doubles == []

    async def test_slow_post_start_holds_no_other_pod_up(self, node: Node) -> None:
        for number in range(6):
            slow = pod_object(f"slow-{number}")
            slow["spec"]["containers"] = [
                container_object(lifecycle={"postStart": {"sleep": {"seconds": 500}}})
            ]
            node.put("pods", slow)
        node.put("pods", pod_object("quick"))
        await node.shows(lambda: phase(node.ears.newest("quick")) == "Running")
        assert now() < 5

    async def test_pre_stop_is_done_once_before_the_signal(self, node: Node) -> None:
        answers = Answers(node)
        pod = probed_pod(lifecycle={"preStop": command("leave")})
        node.put("pods", pod)
        await settle(node)
        node.put("pods", deleted(pod))
        await node.shows(node.ears.finished)
        assert answers.count("leave") == 1
        assert events(node.ears, "FailedPreStopHook") == []

    async def test_pre_stop_may_take_the_grace_period_and_no_more(self, node: Node) -> None:
        pod = probed_pod(lifecycle={"preStop": {"sleep": {"seconds": 100}}})
        node.put("pods", pod)
        await settle(node)
        began = now()
        node.put("pods", deleted(pod, grace_seconds=20))
        await node.shows(node.ears.finished)
        assert now() - began == pytest.approx(20, abs=1)
        assert len(events(node.ears, "FailedPreStopHook")) == 1

    async def test_forced_deletion_skips_the_hook(self, node: Node) -> None:
        pod = probed_pod(lifecycle={"preStop": {"sleep": {"seconds": 100}}})
        node.put("pods", pod)
        await settle(node)
        began = now()
        node.put("pods", deleted(pod, grace_seconds=0))
        await node.shows(node.ears.finished)
        assert now() - began < 1


class TestSidecars:
    """Init containers that go on running."""

    async def test_sidecar_starts_first_and_ends_last(self, node: Node) -> None:
        answers = Answers(node)
        answers.bad.add("up")
        sidecar = container_object(
            "proxy", restartPolicy="Always", startupProbe={**command("up"), "failureThreshold": 60}
        )
        pod = pod_object(initContainers=[sidecar])
        node.put("pods", pod)
        await node.shows(lambda: node.ears.newest().get("initContainerStatuses"))
        await asyncio.sleep(30)
        assert node.runtime.running("main") == []
        assert phase(node.ears.newest()) == "Pending"
        assert condition(node, "Initialized")["status"] == "False"
        answers.bad.clear()
        await settle(node)
        assert condition(node, "Initialized")["status"] == "True"
        names = {key: each.spec.name for key, each in node.runtime.containers.items()}
        node.put("pods", deleted(pod))
        await node.shows(node.ears.finished)
        stopped = [about for call, about in node.runtime.calls if call == "stop_container"]
        ended = [names[each] for each in stopped if each in names]
        assert ended == ["main", "proxy"]

    async def test_sidecar_is_run_again_whatever_the_pods_policy(self, node: Node) -> None:
        sidecar = container_object("proxy", restartPolicy="Always")
        node.put("pods", pod_object(initContainers=[sidecar], restartPolicy="Never"))
        await settle(node)
        [proxy] = node.runtime.running("proxy")
        main = node.runtime.running("main")
        node.runtime.exit_container(proxy, 0)
        await node.shows(
            lambda: node.ears.newest()["initContainerStatuses"][0]["restartCount"] == 1
        )
        assert node.runtime.running("main") == main
        assert condition(node, "Initialized")["status"] == "True"

    async def test_sidecars_end_with_the_job(self, node: Node) -> None:
        sidecar = container_object("proxy", restartPolicy="Always")
        node.put("pods", pod_object(initContainers=[sidecar], restartPolicy="OnFailure"))
        await settle(node)
        node.runtime.exit_container(node.runtime.running("main")[0], 0)
        await node.shows(lambda: phase(node.ears.newest()) == "Succeeded")
        assert node.runtime.running() == []
        await asyncio.sleep(600)
        assert node.runtime.running() == []


class TestEphemeralContainers:
    """Containers put into a running pod to look around."""

    async def test_they_start_in_the_running_pod_and_never_again(self, node: Node) -> None:
        pod = pod_object()
        node.put("pods", pod)
        await settle(node)
        debugger = {"name": "debugger", "image": IMAGE, "targetContainerName": "main"}
        node.put("pods", pod_object(ephemeralContainers=[debugger]))
        await node.shows(lambda: node.ears.newest().get("ephemeralContainerStatuses"))
        [target] = node.runtime.running("main")
        [made] = node.runtime.running("debugger")
        assert node.runtime.containers[made].spec.target_container_id == target
        node.runtime.exit_container(made, 0)
        await node.shows(
            lambda: "terminated" in node.ears.newest()["ephemeralContainerStatuses"][0]["state"]
        )
        await asyncio.sleep(600)
        assert node.runtime.running("debugger") == []
        assert restarts(node.ears.newest()) == 0
        assert condition(node, "Ready")["status"] == "True"
