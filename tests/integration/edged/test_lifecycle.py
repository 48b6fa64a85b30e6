"""The lives of pods on a real containerd."""

import asyncio

import pytest

from tests.integration.edged.node import RealNode, eventually
from tests.unit.edged.kit import deleted, phase, restarts, state, waiting_reason

pytestmark = pytest.mark.containerd


def shell(script: str) -> dict[str, object]:
    return {"exec": {"command": ["/bin/busybox", "sh", "-c", script]}}


def condition(node: RealNode, kind: str, name: str = "a") -> str:
    told = node.ears.newest(name).get("conditions", [])
    return next((each["status"] for each in told if each["type"] == kind), "")


async def test_pod_runs_says_so_and_is_gone_when_deleted(node: RealNode) -> None:
    pod = node.pod(containers=[node.container(script="echo hello; exec /bin/busybox sleep 1000")])
    node.put("pods", pod)
    status = await node.runs()
    assert status["podIP"]
    assert condition(node, "Ready") == "True"
    assert node.log() == "hello"
    assert node.ears.reasons() == ["Pulled", "Created", "Started"]
    node.put("pods", deleted(pod, grace_seconds=1))
    await node.shows(node.ears.finished)
    assert await node.containers() == []
    assert node.ears.reasons()[-1] == "Killing"


async def test_job_ends_with_its_last_words(node: RealNode) -> None:
    script = "echo -n all is lost > /dev/termination-log; exit 3"
    pod = node.pod(restartPolicy="Never", containers=[node.container(script=script)])
    node.put("pods", pod)
    await node.shows(lambda: phase(node.ears.newest()) == "Failed")
    ended = state(node.ears.newest())["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "all is lost")


async def test_last_lines_of_the_log_stand_in_for_last_words(node: RealNode) -> None:
    script = "echo nothing works; exit 4"
    main = node.container(script=script, terminationMessagePolicy="FallbackToLogsOnError")
    node.put("pods", node.pod(restartPolicy="Never", containers=[main]))
    await node.shows(lambda: phase(node.ears.newest()) == "Failed")
    assert state(node.ears.newest())["terminated"]["message"] == "nothing works\n"


async def test_readiness_follows_a_command_in_the_container(node: RealNode) -> None:
    probe = {**shell("test -e /tmp/ready"), "periodSeconds": 1, "timeoutSeconds": 5}
    probe["failureThreshold"] = 1
    main = node.container(
        script="/bin/busybox mkdir -p /tmp; exec /bin/busybox sleep 1000", readinessProbe=probe
    )
    node.put("pods", node.pod(containers=[main]))
    await node.runs()
    assert condition(node, "Ready") == "False"
    [container] = await node.containers()
    touch = ["/bin/busybox", "touch", "/tmp/ready"]
    await node.runtime.exec_sync(container.id, touch, timeout_seconds=5)
    await node.shows(lambda: condition(node, "Ready") == "True")


@pytest.mark.parametrize("kind", ["httpGet", "tcpSocket"])
async def test_liveness_over_the_network_runs_a_deaf_container_again(
    node: RealNode, kind: str
) -> None:
    port = 18080 if kind == "httpGet" else 18081
    script = (
        "/bin/busybox mkdir -p /tmp/w; echo well > /tmp/w/index.html; "
        f"/bin/busybox httpd -f -p {port} -h /tmp/w & "
        "/bin/busybox sleep 3; kill $!; exec /bin/busybox sleep 1000"
    )
    action = {"port": "web", **({"path": "/index.html"} if kind == "httpGet" else {})}
    probe = {kind: action, "periodSeconds": 1, "failureThreshold": 2}
    main = node.container(
        script=script,
        ports=[{"name": "web", "containerPort": port}],
        livenessProbe=probe,
        readinessProbe=probe,
    )
    node.put("pods", node.pod(hostNetwork=True, containers=[main]))
    await node.shows(lambda: condition(node, "Ready") == "True")
    await node.shows(lambda: restarts(node.ears.newest()) == 1)
    assert "Unhealthy" in node.ears.reasons()


async def test_hooks_run_in_the_container(node: RealNode) -> None:
    shared = [{"name": "shared", "mountPath": "/shared"}]
    main = node.container(
        volumeMounts=shared,
        lifecycle={
            "postStart": shell("echo begun > /shared/begun"),
            "preStop": shell("echo over > /shared/over"),
        },
    )
    host = node.folder / "shared"
    await asyncio.to_thread(host.mkdir)
    volumes = [{"name": "shared", "hostPath": {"path": str(host)}}]
    pod = node.pod(containers=[main], volumes=volumes)
    node.put("pods", pod)
    await node.runs()
    assert (host / "begun").read_text() == "begun\n"
    assert not (host / "over").exists()
    node.put("pods", deleted(pod, grace_seconds=5))
    await node.shows(node.ears.finished)
    assert (host / "over").read_text() == "over\n"


async def test_post_start_that_fails_is_told_and_tried_again(node: RealNode) -> None:
    main = node.container(lifecycle={"postStart": shell("echo no luck >&2; exit 1")})
    node.put("pods", node.pod(containers=[main]))
    await node.shows(lambda: restarts(node.ears.newest()) == 1)
    assert "FailedPostStartHook" in node.ears.reasons()
    await node.shows(lambda: waiting_reason(node.ears.newest()) == "CrashLoopBackOff")


async def test_sidecar_is_up_before_the_rest_and_ends_after_it(node: RealNode) -> None:
    host = node.folder / "order"
    await asyncio.to_thread(host.mkdir)
    mount = {"volumeMounts": [{"name": "order", "mountPath": "/order"}]}

    def note(name: str) -> str:
        return (
            f"trap 'echo {name} ends >> /order/log; exit 0' TERM; echo {name} begins >> /order/log;"
            " while :; do /bin/busybox sleep 0.1; done"
        )

    pod = node.pod(
        initContainers=[
            node.container("proxy", note("proxy"), restartPolicy="Always", **mount),
            node.container("once", "echo once >> /order/log", **mount),
        ],
        containers=[node.container("main", note("main"), **mount)],
        volumes=[{"name": "order", "hostPath": {"path": str(host)}}],
    )
    node.put("pods", pod)
    await node.runs()
    await node.shows(lambda: condition(node, "Ready") == "True")
    await eventually(lambda: "main begins" in (host / "log").read_text())
    node.put("pods", deleted(pod, grace_seconds=10))
    await node.shows(node.ears.finished)
    told = (host / "log").read_text().splitlines()
    assert told[0] == "proxy begins"
    assert told[-2:] == ["main ends", "proxy ends"]
    assert "once" in told


async def test_pod_is_ended_at_its_deadline(node: RealNode) -> None:
    node.put("pods", node.pod(activeDeadlineSeconds=2))
    await node.runs()
    await node.shows(lambda: phase(node.ears.newest()) == "Failed")
    assert node.ears.newest()["reason"] == "DeadlineExceeded"
    assert "terminated" in state(node.ears.newest())


async def test_ephemeral_container_looks_into_the_one_it_targets(node: RealNode) -> None:
    node.put("pods", node.pod())
    await node.runs()
    debugger = node.container("debugger", "/bin/busybox ps; exit 0", targetContainerName="main")
    node.put("pods", node.pod(ephemeralContainers=[debugger]))

    def ended() -> object:
        told = node.ears.newest().get("ephemeralContainerStatuses") or [{"state": {}}]
        return "terminated" in told[0]["state"]

    await node.shows(ended)
    assert "sleep 1000" in node.log(container="debugger")
    [main] = await node.containers()
    assert main.attempt == 0


async def test_startup_probe_holds_the_others_back(node: RealNode) -> None:
    script = "/bin/busybox mkdir -p /tmp; /bin/busybox sleep 2; echo > /tmp/up; exec sleep 1000"
    main = node.container(
        script=script.replace("exec sleep", "exec /bin/busybox sleep"),
        startupProbe={**shell("test -e /tmp/up"), "periodSeconds": 1, "failureThreshold": 30},
        livenessProbe={**shell("test -e /tmp/up"), "periodSeconds": 1, "failureThreshold": 1},
    )
    node.put("pods", node.pod(containers=[main]))
    await node.runs()
    assert node.ears.newest()["containerStatuses"][0]["started"] is False
    assert condition(node, "Ready") == "False"
    await node.shows(lambda: condition(node, "Ready") == "True")
    assert node.ears.newest()["containerStatuses"][0]["started"] is True
    assert restarts(node.ears.newest()) == 0
