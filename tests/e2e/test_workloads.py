"""Workloads on the whole system: pods on the edge, replaced, removed, or run to their end."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from fedge_cli.demo import NAMESPACE, Story
from tests.e2e.pods import apply_text, running_by_name

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]
BATCH = f"/apis/batch/v1/namespaces/{NAMESPACE}"
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


async def test_job_runs_to_its_end_and_its_failures_are_counted(story: Story) -> None:
    for name, script, spec in (
        ("sum", "exit 0", {"completions": 2, "parallelism": 2}),
        ("fails", "exit 3", {"backoffLimit": 0}),
    ):
        container = {
            "name": "main",
            "image": "fedge.local/hello:demo",
            "command": ["sh", "-c", script],
        }
        pod = {"restartPolicy": "Never", "containers": [container]}
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"template": {"spec": pod}, **spec},
        }
        put(story, json.dumps(body))

    def has(kind: str) -> Callable[[dict[str, Any]], bool]:
        return lambda job: any(
            c["type"] == kind and c["status"] == "True"
            for c in (job.get("status") or {}).get("conditions", ())
        )

    done = await story._seen(f"{BATCH}/jobs", "sum", has("Complete"), what="sum", seconds=90)
    assert done["status"]["succeeded"] == 2
    lost = await story._seen(f"{BATCH}/jobs", "fails", has("Failed"), what="fails", seconds=90)
    assert lost["status"]["failed"] == 1
    for name in ("sum", "fails"):
        with story.api() as api:
            query = {"propagationPolicy": "Foreground"}
            api.request("DELETE", f"{BATCH}/jobs/{name}", query=query)
    async with asyncio.timeout(60):
        # each must be let go by the edge, which has it still
        while await left(story):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def left(story: Story) -> list[str]:
    """Return the pods of Jobs that the API still has."""
    with story.api() as api:
        answer = api.request(
            "GET", f"/api/v1/namespaces/{NAMESPACE}/pods", query={"labelSelector": "job-name"}
        )
    return [pod["metadata"]["name"] for pod in answer["items"]]
