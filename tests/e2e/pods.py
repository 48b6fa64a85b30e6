"""What the tests of the whole system do with pods."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedge_cli.api import Api
from fedge_cli.applying import apply
from fedge_cli.deleting import delete
from fedge_cli.demo import EDGE, NAMESPACE, POD, Story
from fedge_cli.errors import CommandError
from fedge_cri import ContainerState
from fedge_cri.client import CriRuntime


async def running_by_name(story: Story) -> dict[str, list[str]]:
    """Return the ids of the running containers of each pod, as the runtime has them."""
    socket = story.stack.edge(EDGE).parts.containerd.socket
    found: dict[str, list[str]] = {}
    async with CriRuntime.connected(socket) as runtime:
        for each in await runtime.list_containers():
            if each.state is ContainerState.RUNNING:
                found.setdefault(each.labels["io.kubernetes.pod.name"], []).append(each.id)
    return found


def pod_at_the_api(story: Story, name: str = POD) -> dict[str, Any]:
    with story.api() as api:
        found: dict[str, Any] = api.request("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
        return found


async def pod_becomes(
    story: Story, name: str, so: Callable[[dict[str, Any]], bool], what: str
) -> dict[str, Any]:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    return await story._seen(path, name, so, what=what, seconds=60)


def is_running(pod: dict[str, Any]) -> bool:
    return bool((pod.get("status") or {}).get("phase") == "Running")


def pod_manifest(name: str, **spec: Any) -> str:
    container = {"name": "main", "image": "fedge.local/hello:demo", **spec.pop("container", {})}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }
    return json.dumps(manifest)


def apply_text(api: Api, text: str) -> list[str]:
    """Apply a manifest; return the lines, errors as their text."""
    path = Path(f"/tmp/fedge-test-{time.monotonic_ns()}.yaml")
    path.write_text(text)
    try:
        lines = apply(api, str(path), namespace=NAMESPACE)
        return [
            f"error: {line}".replace(str(path), "FILE") if isinstance(line, CommandError) else line
            for line in lines
        ]
    finally:
        path.unlink()


def remove(story: Story, name: str) -> None:
    with story.api() as api:
        pods = api.find_type("pods")
        delete(api, pods, NAMESPACE, name, grace_seconds=None, wait=True)
