"""One system whose edge runs from the image, for all tests of this folder."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedge_cli.demo import EDGE, SETTINGS, Story
from fedge_local.stack import Stack
from images.cached import Built, edge_image

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def built() -> Built:
    """The image, built now unless this tree's was built before."""
    return edge_image()


@pytest.fixture(scope="session")
def story(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The system, running, with the example's pod."""
    stack = Stack(
        tmp_path_factory.mktemp("stack"), edges=(EDGE,), settings=SETTINGS, edge_image=built.archive
    )
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
