"""Many edges on one machine, each with its own links, queues, store and services.

They share one broker: each has a virtual host of it, with everything that a broker of its own would
have. So each link has its own connection to the cloud, under its own node's user. Each node dials
another address of the loopback network, by which the connections are told apart.

Of the services, meta is the real one, the supervisor of its links included; edged is a stand-in
without containers that reports through edged's own code.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from typing_extensions import override

from fedge_edged.pods import Pod, read_pod
from fedge_edged.reporting import Reporting
from fedge_fabric import Envelope, change_of
from fedge_fabric import topology as t
from fedge_fabric.definitions import User, cloud_definitions, edge_definitions, link_queue
from fedge_fabric.effects import Effects
from fedge_fabric.fabric import Delivery, Fabric, Handler
from fedge_fabric.topology import Queue
from fedge_meta.digests import Digests
from fedge_meta.handlers import Handlers
from fedge_meta.keeping import Keeping
from fedge_meta.links import Links
from fedge_meta.relay import relay
from fedge_meta.settings import MetaSettings
from fedge_meta.sockets import Connection, Sockets
from fedge_objects import Change, NodeName, ObjectKey, Version
from fedge_sealing import NodeSeal
from fedge_store import ObjectStore

ADMIN = User(name="fedge", password="fedge")  # noqa: S106 - for this run
CLUSTER = "edges"
RESOURCES = ("pods", "configmaps")
DIGEST_SECONDS: float = MetaSettings.model_fields["digest_seconds"].default
_TABLE = Path("/proc/net/tcp")
_TABLE_SECONDS = 0.25
_ADDRESSES = 250
_PARTS = ("permissions", "exchanges", "queues", "bindings", "parameters", "policies")


def names(count: int) -> list[NodeName]:
    """Return the names of so many nodes."""
    return [NodeName(f"edge-{number:03d}") for number in range(count)]


def address_of(node: NodeName) -> str:
    """Return the loopback address at which a node dials the cloud."""
    high, low = divmod(int(node.rpartition("-")[2]), _ADDRESSES)
    return f"127.1.{high}.{low + 1}"


def cloud_of(nodes: Collection[NodeName]) -> dict[str, Any]:
    """Return the definitions of the cloud's broker."""
    definitions = cloud_definitions(admin=ADMIN, nodes={node: _link(node) for node in nodes})
    for each in definitions["permissions"]:
        if each["user"] != ADMIN.name:
            own = re.escape(link_queue(NodeName(each["user"])))
            # federation calls the queue so where the virtual hosts have different names
            shared = re.escape(link_queue(NodeName(f"{CLUSTER}:{each['user']}:{t.DOWN}")))
            for right in ("configure", "write", "read"):
                each[right] = each[right].replace(own, shared)
    return definitions


def edges_of(nodes: Collection[NodeName], cloud_port: int) -> dict[str, Any]:
    """Return the definitions of the broker that the edges share."""
    shared: dict[str, Any] = {
        "vhosts": [{"name": node} for node in nodes],
        "global_parameters": [{"name": "cluster_name", "value": CLUSTER}],
        **{part: [] for part in _PARTS},
    }
    for node in nodes:
        own = edge_definitions(
            node=node, admin=ADMIN, link=_link(node), cloud=f"{address_of(node)}:{cloud_port}"
        )
        shared["users"] = own["users"]
        for part in _PARTS:
            shared[part] += [_in_host(each, node) for each in own[part]]
    return shared


def _link(node: NodeName) -> User:
    return User(name=node, password="link")  # noqa: S106 - for this run


def _in_host(definition: Mapping[str, Any], node: NodeName) -> dict[str, Any]:
    moved = {**definition, "vhost": node}
    if definition.get("component") == "shovel":
        moved["value"] = {**definition["value"], "src-uri": f"amqp:///{node}"}
    return moved


class Table:
    """The kernel's table of connections to one port, read once for many who ask."""

    def __init__(self, port: int) -> None:
        self._suffix = f":{port:04X}"
        self._read_at = 0.0
        self._lines: dict[str, list[str]] = {}

    def of(self, address: str) -> list[str]:
        """Return the lines of connections to an address."""
        if time.monotonic() - self._read_at > _TABLE_SECONDS:
            self._lines = {}
            for line in _TABLE.read_text().splitlines():
                remote = line.split(None, 3)[2]
                if remote.endswith(self._suffix):
                    self._lines.setdefault(remote, []).append(line)
            self._read_at = time.monotonic()
        return self._lines.get(f"{hexadecimal(address)}{self._suffix}", [])


def hexadecimal(address: str) -> str:
    """Return an address as the kernel's table has it (little-endian)."""
    return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))


class _Line(Sockets):
    """The line of one node among those of all."""

    def __init__(self, address: str, port: int, table: Table, counts: Counter[str]) -> None:
        super().__init__(host=address, port=port, own_port=0)
        self._address = address
        self._table = table
        self._counts = counts

    @override
    def connections(self) -> list[Connection]:
        return list(self._read("\n".join(["", *self._table.of(self._address)])))

    @override
    async def is_reachable(self) -> bool:
        self._counts["knocks"] += 1
        return await super().is_reachable()


class _Repairs:
    """Takes note of what meta would have the broker do.

    It is one broker for all: what a node has it do would hit the others too.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    async def drop_connections(self) -> str:
        """Count it."""
        self._counts["repairs"] += 1
        return ""

    async def restore_links(self) -> str:
        """Count it."""
        self._counts["repairs"] += 1
        return ""


class _CountingFabric(Fabric):
    """Counts by kind what goes up, and what came down."""

    def __init__(self, url: str, *, service: str, counts: Counter[str]) -> None:
        super().__init__(url, service=service, exchanges=t.EDGE_EXCHANGES)
        self._counts = counts

    @override
    def subscribe(self, queue: Queue, handler: Handler) -> None:
        async def counted(delivery: Delivery) -> None:
            self._counts[f"down {delivery.envelope.type}"] += 1
            await handler(delivery)

        is_down = any(each.exchange == t.DOWN for each in queue.bindings)
        super().subscribe(queue, counted if is_down else handler)

    @override
    async def publish(
        self,
        envelope: Envelope,
        *,
        exchange: str,
        routing_key: str,
        mandatory: bool = False,
        persistent: bool = True,
        expires_after: timedelta | None = None,
    ) -> None:
        await super().publish(
            envelope,
            exchange=exchange,
            routing_key=routing_key,
            mandatory=mandatory,
            persistent=persistent,
            expires_after=expires_after,
        )
        if exchange == t.UP:
            self._counts[f"up {envelope.type}"] += 1


class _Keeping(Keeping):
    """Says when it has kept something."""

    def __init__(self, *, node: NodeName, store: ObjectStore, seal: NodeSeal) -> None:
        super().__init__(node=node, store=store, seal=seal, effects=Effects(node, "meta"))
        self.kept = asyncio.Event()

    @override
    async def keep(self, change: Change) -> None:
        await super().keep(change)
        self.kept.set()


class _Clock:
    def now(self) -> float:
        return time.time()


class Edge:
    """One node: meta, and what stands in for edged."""

    def __init__(
        self,
        node: NodeName,
        *,
        url: str,
        folder: Path,
        cloud_port: int,
        table: Table,
        counts: Counter[str],
    ) -> None:
        """Prepare it.

        Args:
            node: its name.
            url: of the broker that the edges share, without a virtual host.
            folder: of all stores.
            cloud_port: of the cloud's broker.
            table: of connections to the cloud.
            counts: where messages are counted.
        """
        self.node = node
        self._path = folder / f"{node}.db"
        self._counts = counts
        self._meta = _CountingFabric(f"{url}{node}", service="meta", counts=counts)
        self._edged = _CountingFabric(f"{url}{node}", service="edged", counts=counts)
        self._line = _Line(address_of(node), cloud_port, table, counts)
        self._reporting = Reporting(node=node, incarnation=1, clock=_Clock())
        self._pods: dict[ObjectKey, Pod] = {}
        self._store: ObjectStore | None = None
        self._keeping: _Keeping | None = None

    async def run(
        self, *, heartbeat_seconds: float, phase: float, ready: Callable[[], None]
    ) -> None:
        """Serve until cancelled.

        Args:
            heartbeat_seconds: how often it says that it is alive.
            phase: the part of that time after which it says so first.
            ready: called when it serves.
        """
        async with ObjectStore.opened(self._path) as store:
            key = self._path.with_suffix(".key")
            seal = NodeSeal(key, joined=self._path.with_suffix(".joined"))
            keeping = _Keeping(node=self.node, store=store, seal=seal)
            digests = Digests(
                keeping=keeping, fabric=self._meta, every=timedelta(seconds=DIGEST_SECONDS)
            )
            Handlers(keeping, digests).subscribe(self._meta, self.node)
            self._edged.subscribe(t.local_objects("edged", RESOURCES), self._on_change)
            self._edged.subscribe(
                t.edge_request("edged", self.node, ("statuses",)), self._on_statuses_asked
            )
            links = Links(line=self._line, broker=_Repairs(self._counts))
            self._store, self._keeping = store, keeping
            async with (
                self._meta.running(),
                self._edged.running(),
                asyncio.TaskGroup() as tasks,
            ):
                for name, work in (
                    ("relay", relay(store, keeping, self._meta)),
                    ("digests", digests.run()),
                    ("links", links.run()),
                    ("reporting", self._reporting.run(self._edged)),
                    ("alive", self._live(heartbeat_seconds, phase)),
                ):
                    tasks.create_task(work, name=f"{self.node} {name}")
                ready()

    async def has(self, wanted: Mapping[ObjectKey, Version]) -> float:
        """Wait until exactly these versions are on its disk; return the time of this machine."""
        assert self._store is not None
        assert self._keeping is not None
        while True:
            self._keeping.kept.clear()
            if await self._store.versions() == wanted:
                return time.monotonic()
            await self._keeping.kept.wait()

    async def _live(self, heartbeat_seconds: float, phase: float) -> None:
        await asyncio.sleep(heartbeat_seconds * phase)
        await self._reporting.alive(self._edged, heartbeat_seconds)

    async def _on_change(self, delivery: Delivery) -> None:
        change = change_of(delivery.envelope)
        if change.object is not None and change.key.resource == "pods":
            pod = self._pods[change.key] = read_pod(change.object, change.version)
            self._report(pod)
        self._reporting.applied(change.key, change.version)

    async def _on_statuses_asked(self, _: Delivery) -> None:
        for pod in self._pods.values():
            self._report(pod)
        self._reporting.tell_effects_again()
        self._reporting.node_status({"phase": "Running"}, {})

    def _report(self, pod: Pod) -> None:
        self._reporting.pod_status(pod, {"phase": "Running"}, finished=False)


def wanted_in(told: Mapping[str, str]) -> dict[ObjectKey, Version]:
    """Return versions as they were told between processes."""
    return {ObjectKey.parse(key): Version.parse(version) for key, version in told.items()}


def shares(nodes: Collection[NodeName], count: int) -> Iterator[list[NodeName]]:
    """Yield the nodes shared out among so many processes."""
    shared = list(nodes)
    for number in range(count):
        yield shared[number::count]
