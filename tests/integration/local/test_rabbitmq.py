"""A broker is of the release that was asked for, in whichever root it lies."""

import pytest

from fedge_local.rabbitmq_home import installed
from tests.fixtures.servers import Broker


@pytest.mark.broker
async def test_broker_is_of_the_newest_release_of_its_root(rabbitmq: Broker) -> None:
    version = await rabbitmq.server.evaluate("list_to_binary(rabbit_misc:version())")
    release = installed().folder.name.rpartition("-")[2]
    assert version == f'<<"{release}">>\n'


@pytest.mark.broker
async def test_broker_runs_on_the_erlang_of_its_root(rabbitmq: Broker) -> None:
    release = await rabbitmq.server.evaluate("list_to_integer(erlang:system_info(otp_release))")
    assert int(release) == installed().erlang_release


@pytest.mark.broker
async def test_broker_is_the_process_that_was_started(rabbitmq: Broker) -> None:
    pid = await rabbitmq.server.evaluate("list_to_integer(os:getpid())")
    process = rabbitmq.server.process
    assert process is not None
    assert int(pid) == process.pid
