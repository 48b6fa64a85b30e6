"""Two edges of one cloud, one with a name that means something to AMQP's patterns."""

import asyncio
from collections.abc import Iterator

import pytest

from fedge_cli.demo import NAMESPACE, SETTINGS, Story
from fedge_cri.client import CriRuntime
from fedge_local.stack import Stack
from tests.e2e.conftest import REPOSITORY
from tests.e2e.pods import apply_text, is_running, pod_at_the_api, pod_becomes, pod_manifest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

EDGES = ("gw-1.plant.example", "gw-1")


@pytest.fixture
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    stack = Stack(tmp_path_factory.mktemp("two-edges"), edges=EDGES, settings=SETTINGS)
    with asyncio.Runner() as runner:
        try:
            story = Story(stack, repository=REPOSITORY)
            runner.run(story.start(lambda _: None))
            yield story
        finally:
            runner.run(stack.down())


async def pods_on(story: Story, edge: str) -> set[str]:
    async with CriRuntime.connected(story.stack.edge(edge).parts.containerd.socket) as runtime:
        return {each.name for each in await runtime.list_sandboxes()}


async def test_each_edge_gets_its_own_pods_whatever_its_name(story: Story) -> None:
    for edge in EDGES:
        await story._seen("/api/v1/nodes", edge, _is_ready, what=f"{edge} Ready", seconds=60)
        with story.api() as api:
            assert apply_text(api, pod_manifest(f"on.{edge}", nodeName=edge))
    for edge in EDGES:
        await pod_becomes(story, f"on.{edge}", is_running, "Running")
        assert pod_at_the_api(story, f"on.{edge}")["metadata"]["namespace"] == NAMESPACE
    for edge in EDGES:
        assert await pods_on(story, edge) == {f"on.{edge}"}


def _is_ready(node: dict[str, object]) -> bool:
    status = node.get("status")
    conditions = status.get("conditions", []) if isinstance(status, dict) else []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
