"""One world per test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedge_apiserver.server import running_server
from fedge_apiserver.settings import ApiServerSettings
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_kube import KubeClient
from tests.fixtures.servers import Broker
from tests.integration.device.world import World


@pytest.fixture
async def world(rabbitmq: Broker, tmp_path: Path) -> AsyncIterator[World]:
    settings = ApiServerSettings(data_dir=tmp_path / "api", port=0)
    async with running_server(settings):
        kubeconfig = tmp_path / "api" / "kubeconfig"
        async with KubeClient.connected(kubeconfig) as kube:
            fabric = Fabric(rabbitmq.url, service="test", exchanges=t.CLOUD_EXCHANGES)
            world = World(kube, fabric, kubeconfig)
            queue = t.Queue("test.wanted", (t.Binding(t.WANTED, "#"),), exclusive=True)
            fabric.subscribe(queue, world.on_wanted)
            async with fabric.running():
                yield world
