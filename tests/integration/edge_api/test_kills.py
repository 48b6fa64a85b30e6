"""Meta killed at any moment: what was acknowledged arrives, and nothing arrives twice.

``FEDGE_EDGE_API_KILLS`` makes a longer run; ``FEDGE_TEST_SEED`` makes one again.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from fedge_kube import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, CONFIG_MAPS
from fedge_meta.settings import MetaSettings
from tests.integration.bad_input.system import NODE
from tests.integration.edge_api.conftest import Edge

log = logging.getLogger(__name__)
pytestmark = pytest.mark.asyncio(loop_scope="module")
MAPS = "/api/v1/namespaces/default/configmaps"
KILLS = int(os.environ.get("FEDGE_EDGE_API_KILLS", "5"))
MOST_SECONDS_ALIVE = 1.5
LABEL = "fedge.test/run"
GROUP = "rbac.authorization.k8s.io"


class MetaProcess:
    """Meta in a process of its own, on the system's broker and data."""

    def __init__(self, edge: Edge) -> None:
        settings = edge.system.services["meta"][1]
        assert isinstance(settings, MetaSettings)
        self._edge = edge
        self._environment = {
            **os.environ,
            "FEDGE_EDGE_NODE_NAME": settings.edge.node_name,
            "FEDGE_EDGE_AMQP_URL": settings.edge.amqp_url.get_secret_value(),
            "FEDGE_EDGE_DATA_DIR": str(settings.edge.data_dir),
            "FEDGE_META_API_PORT": str(settings.api_port),
            "FEDGE_META_API_ADDRESS": "",
            # nobody watches the line here, so that it is down is found out by waiting
            "FEDGE_META_API_ANSWER_SECONDS": "0.3",
            "FEDGE_LOG_LEVEL": "error",
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fedge_cli", "run", "meta", env=self._environment
        )

    async def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._process = None


@contextlib.asynccontextmanager
async def apart(edge: Edge) -> AsyncIterator[MetaProcess]:
    """Have meta run in a process of its own meanwhile."""
    await edge.system.stop("meta")
    process = MetaProcess(edge)
    await process.start()
    try:
        yield process
    finally:
        await process.kill()
        await edge.system.start("meta")


async def let_root_write(edge: Edge) -> None:
    """Let whoever is root at the gateway write config maps, by a role in the cloud."""
    metadata = {"name": "gateways-write"}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    role = {"apiVersion": f"{GROUP}/v1", "kind": "ClusterRole", "metadata": metadata}
    await edge.kube.create(CLUSTER_ROLES, {**role, "rules": [rule]})
    subject = {"kind": "ServiceAccount", "namespace": "fedge-nodes", "name": NODE}
    await edge.kube.create(CLUSTER_ROLE_BINDINGS, {
        "apiVersion": f"{GROUP}/v1", "kind": "ClusterRoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "gateways-write"},
        "subjects": [subject],
    })  # fmt: skip
    await edge.becomes(lambda: edge.shows(f"/apis/{GROUP}/v1/clusterrolebindings/gateways-write"))


class Writer:
    """Writes as fast as it is answered, and remembers what was acknowledged."""

    def __init__(self, edge: Edge, run: str) -> None:
        self._root = edge.root
        self._run = run
        self._number = 0
        self.made: dict[str, str] = {}
        """Number by name of each object whose making was acknowledged."""
        self.count = 0
        """The greatest value of the counter that was acknowledged."""

    async def write(self) -> None:
        """Make an object and count a counter up, until cancelled."""
        while True:
            self._number += 1
            number = str(self._number)
            body: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"generateName": "made-", "labels": {LABEL: self._run}},
                "data": {"number": number},
            }
            with contextlib.suppress(httpx.TransportError):
                answer = await self._root.post(MAPS, json=body)
                if answer.status_code == 201:
                    self.made[answer.json()["metadata"]["name"]] = number
                counted = await self._root.patch(
                    f"{MAPS}/counter",
                    json={"data": {"count": number}},
                    headers={"content-type": "application/merge-patch+json"},
                )
                if counted.status_code == 200:
                    self.count = self._number
            await asyncio.sleep(0)


@pytest.mark.timeout(180 + 6 * KILLS)
async def test_acknowledged_writes_arrive_once_though_meta_is_killed(edge: Edge) -> None:
    seed = int(os.environ.get("FEDGE_TEST_SEED", time.time_ns() % 2**32))
    log.info("FEDGE_TEST_SEED=%d", seed)
    chance = random.Random(seed)  # noqa: S311 - to be made again
    await let_root_write(edge)
    metadata = {"name": "counter", "namespace": "default"}
    counter = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"count": "0"},
    }
    assert (await edge.root.post(MAPS, json=counter)).status_code == 201
    await edge.becomes(lambda: edge.shows(f"{MAPS}/counter"))
    writer = Writer(edge, str(seed))
    await edge.system.stop("hub")
    async with apart(edge) as meta:
        writing = asyncio.create_task(writer.write())
        for round_number in range(KILLS):
            await edge.becomes(edge.answers)
            before = len(writer.made)
            await asyncio.sleep(chance.uniform(0.05, MOST_SECONDS_ALIVE))
            if round_number == KILLS // 2:
                await edge.system.start("hub")  # from now on it is killed while it sends
            await meta.kill()
            await meta.start()
            assert len(writer.made) >= before
        await edge.becomes(edge.answers)
        writing.cancel()
        await asyncio.wait({writing})

        async def is_all_told() -> bool:
            shown = (await edge.root.get(MAPS)).json()["items"]
            return not any(
                "fedge.io/pending" in (each["metadata"].get("annotations") or {}) for each in shown
            )

        await edge.becomes(is_all_told)
    listed = (await edge.kube.list(CONFIG_MAPS, label_selector=f"{LABEL}={seed}")).items
    there = {each["metadata"]["name"]: each["data"]["number"] for each in listed}
    log.info("%d acknowledged, %d arrived", len(writer.made), len(there))
    assert writer.made.items() <= there.items()
    assert max(Counter(there.values()).values()) == 1
    held = await edge.kube.get(CONFIG_MAPS, "default", "counter")
    assert int(held["data"]["count"]) >= writer.count
    assert len(writer.made) > KILLS
