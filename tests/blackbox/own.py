"""The repository's own system as the one that is tested, where no other is named."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedge_cli.demo import EDGE, SETTINGS, Story
from fedge_local.stack import Stack
from tests.blackbox.system import Target

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def running(folder: Path) -> Iterator[Target]:
    """Run it."""
    stack = Stack(folder, edges=(EDGE,), settings=SETTINGS)
    with asyncio.Runner() as runner:
        try:
            story = Story(stack, repository=REPOSITORY)
            runner.run(story.start(lambda _: None))
            runner.run(story.node_ready("True"))
            edge = stack.edge(EDGE).parts
            user, password = edge.account.split(":")
            host, port = edge.mqtt_address
            yield Target(
                kubeconfig=stack.kubeconfig,
                mqtt_host=host,
                mqtt_port=port,
                mqtt_user=user,
                mqtt_password=password,
                node=EDGE,
            )
        finally:
            runner.run(stack.down())
