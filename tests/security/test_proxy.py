"""A gateway that reaches the cloud by an HTTP proxy alone: joining and links go through it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_local.stack import Stack
from tests.fixtures.proxy import Proxy, proxy
from tests.security.conftest import SETTINGS, System, until

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]

EDGE = "behind-a-proxy"
LINKS = 5


@pytest.fixture
async def way(tmp_path: Path) -> AsyncIterator[tuple[System, Proxy]]:
    """A system whose edge knows of no other way."""
    cloud = Stack(tmp_path, edges=(), settings=SETTINGS)
    try:
        await cloud.up()
        async with proxy(cloud.subnet.cloud_address, account="gateway:pass") as found:
            settings = SETTINGS | {"HTTPS_PROXY": found.url, "NO_PROXY": "127.0.0.1"}
            stack = Stack(tmp_path, edges=(EDGE,), settings=settings)
            try:
                await stack.up()
                yield System(stack, tmp_path), found
            finally:
                await stack.down()
    finally:
        await cloud.down()


async def test_joining_and_links_go_through_the_proxy_and_come_back_with_it(
    way: tuple[System, Proxy],
) -> None:
    system, there = way
    ports, address = system.stack.ports, system.stack.subnet.cloud_address

    async def peers() -> list[str]:
        found = await system.manage("GET", "connections")
        return [each["peer_host"] for each in found if "urn:fedge:node" in each["user"]]

    async def all_linked() -> bool:
        return len(await peers()) == LINKS

    await until(all_linked, "the links are there")
    # the broker sees the proxy: no connection came straight from the edge
    assert set(await peers()) == {address}
    assert system.stack.edge(EDGE).parts.host.address != address
    assert f"{address}:{ports['enrolment']}" in there.targets
    assert f"{address}:{ports['amqps']}" in there.targets

    there.refuses = True
    there.drop()
    refused = len(there.refused)

    async def is_tried_again() -> bool:
        return len(there.refused) > refused + LINKS

    await until(is_tried_again, "the links dial again")
    assert await peers() == []
    there.refuses = False
    await until(all_linked, "the links are back")
    assert set(await peers()) == {address}
    log = await asyncio.to_thread(system.stack.edge(EDGE).parts.services.log.read_text)
    assert "link_not_forwarded" in log
    assert "gateway:pass" not in log
