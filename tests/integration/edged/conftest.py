"""A node of its own for each test, on the shared containerd."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_cri.client import CriRuntime
from tests.fixtures.servers import Runtime as Server
from tests.integration.edged.node import RealNode


@pytest.fixture
async def node(containerd: Server, tmp_path: Path) -> AsyncIterator[RealNode]:
    async with CriRuntime.connected(containerd.socket) as runtime:
        node = RealNode(tmp_path, runtime, containerd)
        await node.start()
        try:
            yield node
        finally:
            await node.stop()
            await node.clear()
