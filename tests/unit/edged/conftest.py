"""A node for each test."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import looptime
import pytest

from tests.unit.edged.node import Node


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with AsyncExitStack() as stack:
        # as in the tests, or what is begun here would be due at real times
        with looptime.enabled(strict=True):
            node = await stack.enter_async_context(Node(tmp_path).running())
        yield node
