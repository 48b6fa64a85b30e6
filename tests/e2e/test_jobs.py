"""Jobs on the whole system: what is asked of a node in KubeEdge's words is done, and told."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from fedge_cli.demo import EDGE, RunningContainer, Story
from tests.e2e.pods import apply_text

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

SECONDS = 120
GROUP = "/apis/operations.kubeedge.io/v1alpha2"
PRESENT, ABSENT = "fedge.local/hello:demo", "127.0.0.1:1/nothing:1"


def job(kind: str, name: str, spec: dict[str, Any]) -> str:
    version = "operations.kubeedge.io/v1alpha2"
    return json.dumps(
        {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    )


async def becomes(
    story: Story, path: str, so: Callable[[dict[str, Any]], bool], *, seconds: float = SECONDS
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(seconds):
            while not found or not so(found):
                with story.api() as api:
                    found = api.request("GET", path)
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"{path} stays {json.dumps(found.get('status'), indent=1)}")
    return found


def delete(story: Story, path: str) -> None:
    with story.api() as api:
        api.request("DELETE", path)


def is_over(found: dict[str, Any]) -> bool:
    return bool((found.get("status") or {}).get("conditions"))


async def test_images_are_looked_for_and_each_ones_fate_is_told(story: Story) -> None:
    edges = [{"key": "node-role.kubernetes.io/edge", "operator": "Exists"}]
    template = {"images": [PRESENT, ABSENT], "labelSelector": {"matchExpressions": edges}}
    with story.api() as api:
        apply_text(api, job("ImagePrePullJob", "pull", {"imagePrePullTemplate": template}))
    try:
        found = await becomes(story, f"{GROUP}/imageprepulljobs/pull", is_over)
        status = found["status"]
        assert (status["phase"], status["nodes"], status["failed"]) == ("Failure", 1, 1)
        [entry] = status["nodeStatus"]
        assert (entry["nodeName"], entry["phase"]) == (EDGE, "Failure")
        assert {each["image"]: each["status"] for each in entry["imageStatus"]} == {
            PRESENT: "True",
            ABSENT: "False",
        }
        assert [(each["action"], each["status"]) for each in entry["actionFlow"]] == [
            ("Check", "True"),
            ("Pull", "False"),
        ]
        assert "1 of 2 images are not here" in entry["reason"]
    finally:
        delete(story, f"{GROUP}/imageprepulljobs/pull")


async def max_pods(story: Story) -> str:
    with story.api() as api:
        node = api.request("GET", f"/api/v1/nodes/{EDGE}")
    return str(node["status"]["capacity"]["pods"])


async def test_settings_are_changed_and_the_pods_run_on(
    story: Story, container: RunningContainer
) -> None:
    before = await max_pods(story)
    fields = {"modules.edged.tailoredKubeletConfig.maxPods": "37", "FEDGE_LOG_LEVEL": "debug"}
    with story.api() as api:
        apply_text(
            api, job("ConfigUpdateJob", "fewer", {"nodeNames": [EDGE], "updateFields": fields})
        )
    try:
        found = await becomes(story, f"{GROUP}/configupdatejobs/fewer", is_over)
        assert found["status"]["phase"] == "Completed", found["status"]
        [entry] = found["status"]["nodeStatus"]
        assert [(each["action"], each["status"]) for each in entry["actionFlow"]] == [
            ("Check", "True"),
            ("BackUp", "True"),
            ("Update", "True"),
        ]
        await becomes(
            story,
            f"/api/v1/nodes/{EDGE}",
            lambda node: node["status"]["capacity"]["pods"] == "37",
        )
        assert before != "37"
        assert (await story.container_running()).id == container.id
    finally:
        delete(story, f"{GROUP}/configupdatejobs/fewer")


async def test_settings_that_may_not_be_changed_change_nothing(story: Story) -> None:
    fields = {"modules.edged.hostnameOverride": "other"}
    with story.api() as api:
        apply_text(
            api, job("ConfigUpdateJob", "renames", {"nodeNames": [EDGE], "updateFields": fields})
        )
    try:
        found = await becomes(story, f"{GROUP}/configupdatejobs/renames", is_over)
        [entry] = found["status"]["nodeStatus"]
        assert entry["phase"] == "Failure"
        assert "modules.edged.hostnameOverride: may not be changed from afar" in entry["reason"]
    finally:
        delete(story, f"{GROUP}/configupdatejobs/renames")
