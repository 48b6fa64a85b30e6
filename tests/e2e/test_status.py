"""``fedge status``: how far a node is, as long as it is heard and after."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from fedge_cli.demo import EDGE, NAMESPACE, RunningContainer, Story
from tests.e2e.pods import apply_text, pod_manifest, remove
from tests.e2e.test_exec import run_fedge

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

SECONDS = 60


async def status(story: Story) -> dict[str, Any]:
    path = f"/api/v1/nodes/{EDGE}/proxy/status"
    with story.api() as api:
        found: dict[str, Any] = api.request("GET", path)
        return found


async def becomes(story: Story, so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until hub tells so of the node."""
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(SECONDS):
            while not found or not so(found):
                found = await status(story)
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"hub tells of the node {json.dumps(found, indent=1)}")
    return found


def is_in_effect(found: dict[str, Any]) -> bool:
    objects = found["objects"]
    return bool(found["link"] == "up" and objects["wanted"] == objects["applied"] > 0)


async def printed(story: Story) -> dict[str, str]:
    code, out, err = await run_fedge("status", "--kubeconfig", str(story.stack.kubeconfig))
    assert (code, err) == (0, b"")
    head, row = out.decode().splitlines()[:2]
    columns = head.split()
    # a time may be of several words; all that is asked for stands before or after it
    cells = row.split()
    return dict(zip(columns[:2], cells[:2], strict=True)) | dict(
        zip(reversed(columns[3:]), reversed(cells), strict=False)
    )


async def test_what_the_node_was_given_is_in_effect_and_nothing_is_missing(
    story: Story, container: RunningContainer
) -> None:
    assert container.id
    found = await becomes(story, is_in_effect)
    assert found["events"]["missing"] == 0
    assert found["backlog"]["down"]["objects"] == 0
    row = await printed(story)
    assert (row["NODE"], row["LINK"], row["FAILED"], row["GAPS"]) == (EDGE, "up", "0", "0")
    assert row["WANTED"] == row["STORED"] == row["APPLIED"]


async def test_object_that_has_no_effect_is_told_with_its_reason(story: Story) -> None:
    with story.api() as api:
        apply_text(
            api, pod_manifest("no-image", nodeName=EDGE, container={"image": "no.example/x:1"})
        )
    try:
        found = await becomes(
            story, lambda found: any("no-image" in each["object"] for each in found["problems"])
        )
        [problem] = [each for each in found["problems"] if "no-image" in each["object"]]
        assert problem["object"] == f"pods/{NAMESPACE}/no-image"
        found = await becomes(story, lambda found: found["objects"]["failed"] == 1)
        [problem] = [each for each in found["problems"] if each["state"] == "failed"]
        assert "no.example/x:1" in problem["reason"]
    finally:
        remove(story, "no-image")
    await becomes(story, is_in_effect)


async def test_node_that_is_cut_off_is_down_and_what_waits_for_it_is_counted(
    story: Story, container: RunningContainer
) -> None:
    assert container.id
    await becomes(story, is_in_effect)
    edge = story.stack.edge(EDGE)
    await edge.cut()
    try:
        await becomes(story, lambda found: found["link"] == "down")
        with story.api() as api:
            apply_text(api, pod_manifest("while-away", nodeName=EDGE))
        await becomes(story, lambda found: found["backlog"]["down"]["objects"] >= 1)
        assert (await printed(story))["LINK"] == "down"
    finally:
        await edge.heal()
    found = await becomes(story, is_in_effect)
    assert found["backlog"]["down"]["objects"] == 0
    assert found["events"]["missing"] == 0
    remove(story, "while-away")
