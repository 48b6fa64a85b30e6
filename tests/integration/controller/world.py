"""The API, a broker, hub over a store in memory, nodes as it sees them, and controllers apart."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from typing_extensions import override

from fedge_apiserver.http import ApiApplication
from fedge_apiserver.server import running_server
from fedge_apiserver.settings import ApiServerSettings
from fedge_fabric import Address, Envelope, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_hub.domain import Nodes
from fedge_hub.events import Events
from fedge_hub.handlers import Handlers
from fedge_hub.links import FabricCloudLink
from fedge_hub.ports import Clock, Downlink
from fedge_hub.requests import Requests
from fedge_kube import CONFIG_MAPS, NODES, PODS, KubeClient
from fedge_objects import Change, JsonObject, NodeName, ObjectKey
from fedge_service import backoff
from tests.contract.wanted_store import MemoryWantedStore

DEADLINE_SECONDS = 60.0
FOREVER_SECONDS = 3600.0
NAMESPACE = "default"


class _StillClock(Clock):
    @override
    def now(self) -> float:
        return 1000.0


class Edges(Downlink):
    """The nodes: they keep what they are sent, and report a number for each of their pods."""

    def __init__(self, fabric: Fabric) -> None:
        self.held: dict[NodeName, dict[ObjectKey, Change]] = defaultdict(dict)
        self.deleted: list[Change] = []
        self.numbers: dict[ObjectKey, int] = {}
        """What each pod's status says by now."""
        self.asked: Counter[NodeName] = Counter()
        self.hub: Nodes | None = None
        self._fabric = fabric
        self._uids: dict[ObjectKey, tuple[NodeName, str]] = {}
        self._sequence = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def runs(self, node: NodeName, key: ObjectKey, uid: str) -> None:
        """Take that a pod runs on a node."""
        self._uids[key] = node, uid
        self.numbers[key] = 0

    def runs_no_more(self, key: ObjectKey) -> None:
        del self._uids[key], self.numbers[key]

    async def report(self, key: ObjectKey) -> None:
        """Report the next number of a pod, if its node knows of it."""
        node, uid = self._uids[key]
        if key in self.held[node]:
            self.numbers[key] += 1
            await self._report(node, key, uid)

    async def _report(self, node: NodeName, key: ObjectKey, uid: str) -> None:
        self._sequence += 1
        status = {"phase": "Running", "message": str(self.numbers[key]), "conditions": []}
        await self._fabric.publish(
            Envelope(
                type=kinds.STATUS_REPORTED,
                source=f"/node/{node}/edged",
                subject=str(key),
                data={"uid": uid, "status": status, "observed": [1, self._sequence]},
            ),
            exchange=t.UP,
            routing_key=str(Address.of_object(node, key)),
        )

    @override
    async def send(self, node: NodeName, change: Change) -> None:
        held = self.held[node].get(change.key)
        if held is None or held.version < change.version:
            self.held[node][change.key] = change
            if change.is_gone:
                self.deleted.append(change)

    @override
    async def ask_digest(self, node: NodeName, prefixes: Collection[str]) -> None:
        if prefixes and self.hub is not None:
            versions = {key: each.version for key, each in self.held[node].items()}
            self._later(self.hub.compare(node, {}, {"": versions}))

    @override
    async def say_heard(self, node: NodeName, heartbeat_id: str) -> None:
        raise AssertionError(f"{node} asked for no answer to {heartbeat_id}")

    @override
    async def ask_statuses(self, node: NodeName) -> None:
        self.asked[node] += 1
        for key, (of, uid) in list(self._uids.items()):
            if of == node and self.numbers.get(key):
                await self._report(node, key, uid)

    @override
    async def waiting(self, node: NodeName) -> int | None:
        return 0

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@dataclass
class Replica:
    """A controller in a process of its own."""

    process: asyncio.subprocess.Process
    log: Path

    def said(self, event: str) -> list[JsonObject]:
        """Return what it logged under that name."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        read = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [each for each in read if each.get("event") == event]

    def share(self) -> tuple[int, int]:
        """Return how many replicas it knows, and how many nodes are its own; 0 if it is none."""
        told = self.said("nodes_shared")
        return (int(told[-1]["replicas"]), int(told[-1]["nodes"])) if told else (0, 0)


@dataclass
class World:
    """All of it."""

    kube: KubeClient
    edges: Edges
    writes: Counter[str]
    url: str
    folder: Path
    nodes: list[NodeName]
    replicas: list[Replica] = field(default_factory=list)
    _started: int = 0

    async def start(self) -> Replica:
        """Start a controller."""
        self._started += 1
        log = self.folder / f"controller-{self._started}.log"
        environment = {
            **os.environ,
            "FEDGE_CONTROLLER_AMQP_URL": self.url,
            "FEDGE_CONTROLLER_KUBECONFIG": str(self.folder / "api" / "kubeconfig"),
            "FEDGE_TRACE_RATIO": "0",
        }
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "fedge_service",
                "controller",
                env=environment,
                stdout=output,
                stderr=output,
            )
        replica = Replica(process, log)
        self.replicas.append(replica)
        return replica

    async def end(self, replica: Replica, fault: int) -> None:
        """Send a signal that ends a controller, and wait until it has."""
        self.replicas.remove(replica)
        replica.process.send_signal(fault)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await replica.process.wait()

    async def paused(self, replica: Replica) -> None:
        """Stop a controller until the others have its nodes, and let it go on."""
        self.replicas.remove(replica)
        replica.process.send_signal(signal.SIGSTOP)
        try:
            await self.shared()
        finally:
            self.replicas.append(replica)
            replica.process.send_signal(signal.SIGCONT)

    async def until(self, condition: Callable[[], object], what: Callable[[], object]) -> None:
        """Wait for what shows in this process or in files."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                async for _ in backoff(first_seconds=0.05, most_seconds=0.2):
                    if condition():
                        return
        except TimeoutError:
            raise AssertionError(f"it did not come to that: {what()}") from None

    async def shared(self) -> None:
        """Wait until each node is one replica's own."""

        def is_shared() -> bool:
            shares = [each.share() for each in self.replicas]
            return all(known == len(shares) for known, _ in shares) and sum(
                nodes for _, nodes in shares
            ) == len(self.nodes)

        await self.until(is_shared, lambda: [each.share() for each in self.replicas])

    async def pods(self) -> dict[ObjectKey, JsonObject]:
        """Return the API's pods."""
        listing = await self.kube.list(PODS)
        return {
            ObjectKey("pods", NAMESPACE, each["metadata"]["name"]): each for each in listing.items
        }

    async def make_pod(self, name: str, node: NodeName) -> ObjectKey:
        """Make a pod that needs a config map of its own."""
        key = ObjectKey("pods", NAMESPACE, name)
        config = {"metadata": {"name": name, "namespace": NAMESPACE}, "data": {"n": "0"}}
        await self.kube.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap"} | config)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "nodeName": node,
                "containers": [{"name": "main", "image": "none"}],
                "volumes": [{"name": "v", "configMap": {"name": name}}],
            },
        }
        made = await self.kube.create(PODS, pod)
        self.edges.runs(node, key, made["metadata"]["uid"])
        return key

    async def remove_pod(self, key: ObjectKey) -> None:
        """Delete a pod at once; its config map stays, needed by nobody."""
        self.edges.runs_no_more(key)
        await self.kube.delete(PODS, NAMESPACE, key.name, grace_seconds=0)

    async def change_config(self, name: str, text: str) -> None:
        await self.kube.patch(CONFIG_MAPS, NAMESPACE, name, {"data": {"n": text}})

    async def statuses_are_newest(self) -> None:
        """Wait until the API has of each pod what its node said last."""
        shown: dict[str, Any] = {}

        async def look() -> bool:
            shown.clear()
            for key, pod in (await self.pods()).items():
                said = pod.get("status", {}).get("message")
                number = self.edges.numbers[key]
                if number and said != str(number):
                    shown[str(key)] = said, number
            return not shown

        await self._becomes(look, lambda: shown)

    async def nodes_have_what_they_should(self) -> None:
        """Wait until each node holds its pods and their config maps, newest, and no others."""
        differing: dict[str, Any] = {}

        async def look() -> bool:
            differing.clear()
            configs = {
                each["metadata"]["name"]: each["data"]["n"]
                for each in (await self.kube.list(CONFIG_MAPS, namespace=NAMESPACE)).items
                if "n" in (each.get("data") or {})
            }
            wanted: dict[NodeName, dict[str, str]] = defaultdict(dict)
            for key, pod in (await self.pods()).items():
                wanted[pod["spec"]["nodeName"]][key.name] = configs[key.name]
            for node in self.nodes:
                held = {
                    key: cast("JsonObject", each.object)
                    for key, each in self.edges.held[node].items()
                    if not each.is_gone
                }
                pods = {key.name for key in held if key.resource == "pods"}
                maps = {
                    key.name: each["data"]["n"]
                    for key, each in held.items()
                    if key.resource == "configmaps" and "n" in (each.get("data") or {})
                }
                if pods != wanted[node].keys() or maps != wanted[node]:
                    differing[node] = sorted(pods), maps, wanted[node]
            return not differing

        await self._becomes(look, lambda: differing)

    async def _becomes(
        self, look: Callable[[], Awaitable[bool]], what: Callable[[], object]
    ) -> None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                async for _ in backoff(first_seconds=0.05, most_seconds=0.5):
                    if await look():
                        return
        except TimeoutError:
            raise AssertionError(f"it did not come to that: {what()}") from None


def _count_writes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count who is written to, at the API's own door."""
    writes: Counter[str] = Counter()
    serve = ApiApplication.__call__

    async def counting(self: ApiApplication, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("method") == "PATCH" and scope["path"].endswith("/status"):
            writes[scope["path"]] += 1
        await serve(self, scope, receive, send)

    monkeypatch.setattr(ApiApplication, "__call__", counting)
    return writes


@asynccontextmanager
async def world(
    url: str, folder: Path, nodes: Iterable[NodeName], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """Run all but the controllers, which end with it."""
    writes, names = _count_writes(monkeypatch), list(nodes)
    async with AsyncExitStack() as stack:
        settings = ApiServerSettings(
            data_dir=folder / "api", port=0, node_grace_seconds=FOREVER_SECONDS
        )
        await stack.enter_async_context(running_server(settings))
        kube = await stack.enter_async_context(KubeClient.connected(folder / "api" / "kubeconfig"))
        for name in names:
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {}}
            await kube.create(NODES, node)
        fabric = Fabric(url, service="test", exchanges=t.CLOUD_EXCHANGES)
        edges, store, cloud = Edges(fabric), MemoryWantedStore(), FabricCloudLink(fabric)
        hub = edges.hub = Nodes(
            store=store, down=edges, cloud=cloud, clock=_StillClock(), absent_after_heartbeats=3
        )
        Handlers(nodes=hub, events=Events(store), cloud=cloud, requests=Requests(fabric)).subscribe(
            fabric
        )
        await stack.enter_async_context(fabric.running())
        for name in names:
            await hub.heard(name, FOREVER_SECONDS)
        made = World(kube, edges, writes, url, folder, names)
        try:
            yield made
        finally:
            for replica in made.replicas:
                replica.process.kill()
                await replica.process.wait()
