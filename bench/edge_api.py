"""What the edge's own Kubernetes API costs: memory before and after somebody asks, and its speed.

Meta runs alone on an edge's broker whose cloud is away. Measured are its memory (PSS) before the
first connection, after it, and with a hundred pods; how long the first answer takes, loading
included; and how many readings and durable writes a second one client gets, one after the other.

Run it with ``make bench-edge-api``.
"""

import asyncio
import base64
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.reporting import tell
from bench.running import free_ports, started
from bench.sampling import memory_mb
from fedge_fabric import Address, Envelope, MessageClass, envelope_of, kinds
from fedge_fabric import topology as t
from fedge_fabric.definitions import User, edge_definitions
from fedge_fabric.fabric import Fabric
from fedge_local.processes import Machine, tree
from fedge_local.rabbitmq import EDGE_PLUGINS, RabbitMQ
from fedge_objects import Change, JsonObject, NodeName, ObjectKey, Version

NODE = NodeName("edge-1")
ADMIN = User(name="fedge", password="fedge-admin")  # noqa: S106 - of a broker that ends with this
PODS = 100
MAPS = "/api/v1/namespaces/default/configmaps"
SECONDS = 3.0
DEADLINE_SECONDS = 30.0
GROUP = "rbac.authorization.k8s.io"


def given() -> list[tuple[str, str, JsonObject]]:
    """Return what the node is given: resource, namespace and object."""
    reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": "gateways"}
    subject = {"kind": "ServiceAccount", "namespace": "fedge-nodes", "name": NODE}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    found: list[tuple[str, str, JsonObject]] = [
        ("namespaces", "", {"apiVersion": "v1", "kind": "Namespace"}),
        (f"clusterroles.{GROUP}", "", {"rules": [rule]}),
        (f"clusterrolebindings.{GROUP}", "", {"roleRef": reference, "subjects": [subject]}),
    ]
    for (_, _, obj), name in zip(found, ("default", "gateways", "gateways"), strict=True):
        obj["metadata"] = {"name": name, "uid": f"uid-{name}"}
    for number in range(PODS):
        metadata = {"name": f"pod-{number}", "namespace": "default", "uid": f"uid-{number}"}
        container = {"name": "main", "image": "busybox", "env": [{"name": "A", "value": "b" * 200}]}
        spec = {"nodeName": NODE, "containers": [container]}
        found.append(("pods", "default", {"metadata": metadata, "spec": spec}))
        data = {"text": "x" * 1000}
        found.append(("configmaps", "default", {"metadata": metadata, "data": data}))
    return found


async def give(fabric: Fabric) -> None:
    """Send the node its objects, and the statuses of its pods."""
    for revision, (resource, namespace, obj) in enumerate(given(), 1):
        key = ObjectKey(resource, namespace, obj["metadata"]["name"])
        change = Change(key=key, version=Version(revision, revision), object=obj)
        await fabric.publish(
            envelope_of(change, source="/cloud/hub"),
            exchange=t.DOWN,
            routing_key=str(Address.of_object(NODE, key)),
        )
        if resource == "pods":
            state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
            container = {"name": "main", "ready": True, "restartCount": 0, "state": state}
            status = {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [container]}
            data = {"uid": obj["metadata"]["uid"], "status": status, "observed": [1, revision]}
            await fabric.publish(
                Envelope(
                    type=kinds.STATUS_REPORTED,
                    source=f"/node/{NODE}/edged",
                    subject=str(key),
                    data={**data, "finished": False},
                ),
                exchange=t.UP,
                routing_key=str(Address(NODE, MessageClass.STATE, ("pods", "default", key.name))),
            )


def client_of(kubeconfig: Path) -> httpx.AsyncClient:
    """Return a client for whoever is root there."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return httpx.AsyncClient(
        base_url=cluster["server"],
        verify=ssl.create_default_context(cadata=authority),
        headers={"authorization": f"Bearer {config['users'][0]['user']['token']}"},
        timeout=DEADLINE_SECONDS,
        trust_env=False,
    )


async def rate(ask: Callable[[int], Awaitable[httpx.Response]]) -> float:
    """Return how often a second one client is answered."""
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        (await ask(count)).raise_for_status()
        count += 1
    return round(count / (time.perf_counter() - began), 1)


async def becomes(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that another process makes."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.1)


async def measure(folder: Path) -> dict[str, float]:
    """Return the result."""
    amqp, dist, mqtt, port, nowhere = free_ports(5)
    link = User(name=NODE, password="none")  # noqa: S106
    broker = RabbitMQ(
        name="edge",
        folder=folder / "broker",
        place=Machine(),
        definitions=edge_definitions(
            node=NODE, admin=ADMIN, link=link, cloud=f"127.0.0.1:{nowhere}"
        ),
        plugins=EDGE_PLUGINS,
        listen=[("127.0.0.1", amqp)],
        mqtt=("127.0.0.1", mqtt),
        dist_port=dist,
    )
    url = f"amqp://{ADMIN.name}:{ADMIN.password}@127.0.0.1:{amqp}/"
    data = folder / "data"
    data.mkdir()
    environment = {
        **os.environ,
        "FEDGE_EDGE_NODE_NAME": NODE,
        "FEDGE_EDGE_AMQP_URL": url,
        "FEDGE_EDGE_DATA_DIR": str(data),
        "FEDGE_META_API_PORT": str(port),
        "FEDGE_META_API_ADDRESS": "",
        "FEDGE_META_API_ANSWER_SECONDS": "0.1",
        "FEDGE_LOG_LEVEL": "warning",
    }
    async with started(broker):
        meta = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fedge_cli", "run", "meta", env=environment
        )
        try:
            return await _measured(meta.pid, data, Fabric(
                url, service="bench", exchanges=t.EDGE_EXCHANGES
            ))  # fmt: skip
        finally:
            meta.kill()
            await meta.wait()


async def _measured(pid: int, data: Path, fabric: Fabric) -> dict[str, float]:
    async def is_prepared() -> bool:
        # by a process of its own, which has to have ended
        return (data / "api" / "endpoint.json").exists() and len(list(tree(pid))) == 1

    await becomes(is_prepared)
    result = {"idle_mb": memory_mb(pid)}
    async with client_of(data / "api" / "kubeconfig") as root, fabric.running():
        began = time.perf_counter()
        (await root.get("/api/v1/pods")).raise_for_status()
        result["first_answer_ms"] = (time.perf_counter() - began) * 1000
        result["asked_mb"] = memory_mb(pid)
        await give(fabric)

        async def has_all() -> bool:
            pods: list[Any] = (await root.get("/api/v1/pods")).json()["items"]
            maps = (await root.get(MAPS)).json()["items"]
            return len(pods) == len(maps) == PODS and all("status" in each for each in pods)

        await becomes(has_all)
        result[f"with_{PODS}_pods_mb"] = memory_mb(pid)
        result["reads_per_s"] = await rate(
            lambda n: root.get(f"/api/v1/namespaces/default/pods/pod-{n % PODS}")
        )
        merge = {"content-type": "application/merge-patch+json"}
        result["offline_writes_per_s"] = await rate(
            lambda n: root.patch(
                f"{MAPS}/pod-{n % PODS}", json={"data": {"n": str(n)}}, headers=merge
            )
        )
        result["after_writes_mb"] = memory_mb(pid)
    return {name: round(value, 1) for name, value in result.items()}


def main() -> None:
    """Measure and tell."""
    with tempfile.TemporaryDirectory(prefix="fedge-bench-") as name:
        tell("edge_api", asyncio.run(measure(Path(name))))


if __name__ == "__main__":
    main()
