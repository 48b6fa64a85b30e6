"""Pods that cannot run: they say why, try again, and disturb no other; on a real containerd."""

from functools import partial
from typing import Any

import pytest

from tests.integration.edged.node import RealNode
from tests.unit.edged.kit import config_map, deleted, phase, state, waiting_reason

pytestmark = pytest.mark.containerd


def why(node: RealNode, name: str) -> str:
    return waiting_reason(node.ears.newest(name))


def message(node: RealNode, name: str = "a") -> str:
    shown: dict[str, Any] = state(node.ears.newest(name)).get("waiting", {})
    return str(shown.get("message", ""))


async def waits(node: RealNode, reason: str, name: str = "a") -> str:
    """Wait until a pod's container waits for ``reason``; return its message."""
    await node.shows(lambda: waiting_reason(node.ears.newest(name)) == reason)
    return message(node, name)


async def test_command_that_is_not_there_is_told_and_tried_again(node: RealNode) -> None:
    node.put("pods", node.pod(containers=[node.container() | {"command": ["/none"]}]))
    assert "/none" in await waits(node, "RunContainerError")
    assert "Failed" in node.ears.reasons()
    await waits(node, "CrashLoopBackOff")
    assert phase(node.ears.newest()) in {"Pending", "Running"}


async def test_missing_config_map_is_awaited(node: RealNode) -> None:
    source = {"configMapKeyRef": {"name": "late", "key": "k"}}
    main = node.container(env=[{"name": "K", "valueFrom": source}])
    node.put("pods", node.pod(containers=[main]))
    assert await waits(node, "CreateContainerConfigError") == 'configmap "late" not found'
    node.put("configmaps", config_map("late", {"k": "here"}))
    await node.runs()
    result = await node.runtime.exec_sync(
        (await node.containers())[0].id,
        ["/bin/busybox", "sh", "-c", "echo $K"],
        timeout_seconds=5,
    )
    assert result.stdout == b"here\n"


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"hostPath": {"path": "/none/at/all", "type": "Directory"}}, "is not a directory"),
        ({"nfs": {"server": "192.0.2.1", "path": "/"}}, "is of a type that this node"),
    ],
)
async def test_volume_that_cannot_be_made_is_told(
    node: RealNode, volume: dict[str, Any], said: str
) -> None:
    main = node.container(volumeMounts=[{"name": "v", "mountPath": "/v"}])
    node.put("pods", node.pod(containers=[main], volumes=[{"name": "v", **volume}]))
    await node.shows(lambda: "FailedMount" in node.ears.reasons())
    [event] = [event for _, event in node.ears.events if event.reason == "FailedMount"][:1]
    assert said in event.message
    assert waiting_reason(node.ears.newest()) == "ContainerCreating"
    assert await node.containers() == []


async def test_image_that_is_not_there_is_told(node: RealNode) -> None:
    main = node.container() | {"image": "fedge.local/none:1", "imagePullPolicy": "Never"}
    node.put("pods", node.pod(containers=[main]))
    text = await waits(node, "ErrImageNeverPull")
    assert text == ('Container image "fedge.local/none:1" is not present with pull policy of Never')


async def test_image_name_that_is_none_is_told(node: RealNode) -> None:
    node.put("pods", node.pod(containers=[node.container() | {"image": "Not A Name"}]))
    assert "invalid reference format" in await waits(node, "InvalidImageName")


async def test_bad_pods_disturb_no_other_and_go_when_deleted(node: RealNode) -> None:
    bad = {
        "command": node.pod("command", containers=[node.container() | {"command": ["/none"]}]),
        "mount": node.pod(
            "mount",
            containers=[node.container(volumeMounts=[{"name": "none", "mountPath": "/v"}])],
        ),
        "path": node.pod(
            "path",
            containers=[node.container(volumeMounts=[{"name": "v", "mountPath": "relative/\0"}])],
            volumes=[{"name": "v", "emptyDir": {}}],
        ),
    }
    for pod in bad.values():
        node.put("pods", pod)
    node.put("pods", node.pod("good"))
    await node.runs("good")
    for name in bad:
        await node.shows(partial(why, node, name))
    for name, pod in bad.items():
        node.put("pods", deleted(pod, grace_seconds=0))
        await node.shows(partial(node.ears.finished, name))
    [good] = await node.containers("good")
    assert good.attempt == 0
