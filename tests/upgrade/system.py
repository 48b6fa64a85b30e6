"""A system whose edge runs from the image, and what is done to it."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedge_cli.demo import EDGE, SETTINGS, Story
from fedge_local.stack import Stack
from tests.e2e.pods import apply_text

REPOSITORY = Path(__file__).resolve().parents[2]
JOBS = "/apis/operations.kubeedge.io/v1alpha2/nodeupgradejobs"
SECONDS = 240


@contextmanager
def running(folder: Path, image: Path) -> Iterator[Story]:
    stack = Stack(folder, edges=(EDGE,), settings=SETTINGS, edge_image=image)
    with asyncio.Runner() as runner:
        try:
            story = Story(stack, repository=REPOSITORY)
            runner.run(story.start(lambda _: None))
            runner.run(story.node_ready("True"))
            story.apply_example()
            runner.run(story.pod_running(restarts=0))
            yield story
        finally:
            runner.run(stack.down())


async def give(story: Story, archive: Path) -> None:
    """Have the gateway's runtime hold an image, as if it had been fetched from a registry."""
    containerd = story.stack.edge(EDGE).parts.containerd
    await containerd.ctr("images", "import", str(archive))


def make_job(story: Story, name: str, version: str, **spec: Any) -> None:
    job = {
        "apiVersion": "operations.kubeedge.io/v1alpha2",
        "kind": "NodeUpgradeJob",
        "metadata": {"name": name},
        "spec": {
            "version": version,
            "image": "docker.io/fedge/edge",
            "nodeNames": [EDGE],
            **spec,
        },
    }
    with story.api() as api:
        apply_text(api, json.dumps(job))


async def becomes(story: Story, name: str, so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return a job's status once it is so."""
    status: dict[str, Any] = {}
    try:
        async with asyncio.timeout(SECONDS):
            while not so(status):
                with story.api() as api:
                    status = api.request("GET", f"{JOBS}/{name}").get("status") or {}
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"job {name} stays {json.dumps(status, indent=1)}")
    return status


async def ended(story: Story, name: str) -> dict[str, Any]:
    return await becomes(story, name, lambda status: bool(status.get("conditions")))


def entry_of(status: dict[str, Any]) -> dict[str, Any]:
    [entry] = status["nodeStatus"]
    return dict(entry)


def flow(status: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["action"], each["status"]) for each in entry_of(status)["actionFlow"]]


def state_of(story: Story) -> dict[str, Any]:
    """Return which version runs, as the volume says it; nothing of one that was never upgraded."""
    path = story.stack.edge(EDGE).parts.folder / "data" / "versions" / "state.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}
