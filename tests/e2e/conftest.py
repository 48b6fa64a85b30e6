"""One whole system for all tests of this folder, beside whatever runs on this machine."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedge_cli.demo import EDGE, SETTINGS, RunningContainer, Story
from fedge_local.stack import Stack
from tests.fixtures.edges import tested_edge
from tests.fixtures.otlp import Receiver, receiving

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def spans() -> Iterator[Receiver]:
    """The spans that hub exports."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory, spans: Receiver) -> Iterator[Story]:
    """The system, running."""
    settings = {
        **SETTINGS,
        "FEDGE_HUB_SPANS_OTLP_ENDPOINT": spans.url,
        "FEDGE_TRACE_PER_SECOND": "0",
    }
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        edges=(EDGE,),
        settings=settings,
        edge_image=tested_edge(),
    )
    with asyncio.Runner() as runner:
        try:
            story = Story(stack, repository=REPOSITORY)
            runner.run(story.start(lambda _: None))
            runner.run(story.node_ready("True"))
            yield story
        finally:
            runner.run(stack.down())


@pytest.fixture
async def container(story: Story) -> RunningContainer:
    """The example's container, running."""
    story.apply_example()
    await story.pod_running(restarts=0)
    return await story.container_running()
