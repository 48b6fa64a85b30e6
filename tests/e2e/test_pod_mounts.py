"""What edged mounts for pods itself, seen by containers of the same host."""

from pathlib import Path
from typing import Any

import pytest

from fedge_cli.demo import EDGE, Story
from tests.e2e.pods import apply_text, pod_becomes, pod_manifest, remove

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

NAME = "mounts"
IMAGE = "fedge.local/busybox:1"


def shell(name: str, script: str, *mounts: dict[str, Any]) -> dict[str, Any]:
    command = ["/bin/busybox", "sh", "-c", script]
    return {"name": name, "image": IMAGE, "command": command, "volumeMounts": list(mounts)}


def container_state(pod: dict[str, Any], name: str) -> dict[str, Any]:
    for each in (pod.get("status") or {}).get("containerStatuses") or ():
        if each["name"] == name:
            return dict(each["state"])
    return {}


def mounted_for(story: Story, uid: str) -> list[str]:
    """Return where something is mounted on the edge's host for a pod."""
    init = story.stack.edge(EDGE).parts.host.init
    assert init is not None
    lines = Path(f"/proc/{init.pid}/mountinfo").read_text().splitlines()
    return [path for path in (line.split()[4] for line in lines) if f"/{uid}/volumes/" in path]


async def test_folders_in_memory_and_parts_of_volumes_reach_containers(story: Story) -> None:
    script = (
        "(/bin/busybox df -k /memory | /bin/busybox tail -n 1; cat /part/file; "
        "/bin/busybox stat -c %g /part/file /memory) > /dev/termination-log"
    )
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 1001, "fsGroup": 4321},
        "volumes": [
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "disk", "emptyDir": {}},
        ],
        "initContainers": [
            shell(
                "first",
                "mkdir /disk/part; echo found > /disk/part/file; /bin/busybox ln -s /etc /disk/out",
                {"name": "disk", "mountPath": "/disk"},
            )
        ],
        "containers": [
            shell(
                "main",
                script,
                {"name": "memory", "mountPath": "/memory"},
                {"name": "disk", "mountPath": "/part", "subPath": "part"},
            ),
            shell(
                "thief", "cat /out/shadow", {"name": "disk", "mountPath": "/o", "subPath": "out"}
            ),
        ],
    }
    with story.api() as api:
        assert apply_text(api, pod_manifest(NAME, nodeName=EDGE, **spec))
    pod = await pod_becomes(
        story,
        NAME,
        lambda pod: (
            "terminated" in container_state(pod, "main")
            and "waiting" in container_state(pod, "thief")
        ),
        "ended",
    )
    usage, said, *groups = container_state(pod, "main")["terminated"]["message"].splitlines()
    assert usage.split()[:2] == ["tmpfs", "1024"]
    assert (said, groups) == ("found", ["4321", "4321"])
    waiting = container_state(pod, "thief")["waiting"]
    assert waiting["reason"] == "CreateContainerConfigError"
    assert 'failed to prepare subPath for volumeMount "disk"' in waiting["message"]
    uid = pod["metadata"]["uid"]
    assert len(mounted_for(story, uid)) == 2
    remove(story, NAME)
    assert mounted_for(story, uid) == []
