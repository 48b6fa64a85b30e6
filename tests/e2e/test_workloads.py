"""A Deployment and a DaemonSet on the whole system: pods on the edge, replaced and removed."""

import asyncio
import json
from typing import Any

import pytest

from fedge_cli.demo import NAMESPACE, Story
from tests.e2e.pods import apply_text, running_by_name

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]
APPS = f"/apis/apps/v1/namespaces/{NAMESPACE}"


def manifest(kind: str, name: str, said: str, **spec: Any) -> str:
    labels = {"app": name}
    container = {
        "name": "main",
        "image": "fedge.local/hello:demo",
        "env": [{"name": "SAID", "value": said}],
    }
    value = {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
            **spec,
        },
    }
    return json.dumps(value)


def put(story: Story, text: str) -> None:
    with story.api() as api:
        lines = apply_text(api, text)
    assert not any(line.startswith("error") for line in lines), lines


async def becomes(story: Story, plural: str, name: str, **numbers: int) -> dict[str, Any]:
    """Return an object whose status counts what is wanted, for what was said last."""

    def so(value: dict[str, Any]) -> bool:
        status = value.get("status") or {}
        is_new = status.get("observedGeneration") == value["metadata"]["generation"]
        return is_new and all(status.get(field, 0) == number for field, number in numbers.items())

    return await story._seen(f"{APPS}/{plural}", name, so, what=f"{name} {numbers}", seconds=90)


async def gone(story: Story, plural: str, name: str) -> None:
    """Delete a workload and wait until none of its containers runs."""
    with story.api() as api:
        api.request("DELETE", f"{APPS}/{plural}/{name}")
    async with asyncio.timeout(60):
        # the runtime of the edge tells nobody here
        while any(pod.startswith(f"{name}-") for pod in await running_by_name(story)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_deployment_comes_up_changes_and_goes(story: Story) -> None:
    put(story, manifest("Deployment", "web", "one", replicas=2))
    done = {"updatedReplicas": 2, "availableReplicas": 2, "replicas": 2}
    await becomes(story, "deployments", "web", **done)
    first = {pod for pod in await running_by_name(story) if pod.startswith("web-")}
    assert len(first) == 2
    put(story, manifest("Deployment", "web", "two", replicas=2))
    await becomes(story, "deployments", "web", **done)
    second = {pod for pod in await running_by_name(story) if pod.startswith("web-")}
    assert len(second - first) == 2
    await gone(story, "deployments", "web")


async def test_daemon_set_has_one_on_the_edge(story: Story) -> None:
    put(story, manifest("DaemonSet", "agent", "one"))
    await becomes(story, "daemonsets", "agent", numberAvailable=1, desiredNumberScheduled=1)
    put(story, manifest("DaemonSet", "agent", "two"))
    await becomes(story, "daemonsets", "agent", numberAvailable=1, updatedNumberScheduled=1)
    await gone(story, "daemonsets", "agent")
