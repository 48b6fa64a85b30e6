"""What happens when the cloud comes back and all edges at once with it.

Two hundred edges (``bench.fleet``) are in step with a cloud of a real broker, Redis and hub. The
cloud's broker is killed, and stays away for longer than three heartbeats, so that every node counts
as absent; meanwhile objects of every node change at the API, which is stood in for by what
controller consists of behind its watches. Then the broker starts again. Measured is, from its first
answer on, how long it takes until each node has exactly what it should have, and until hub knows;
how many connections are made in the busiest second; and how many messages of each kind pass,
beside the least that would do. Then the same again with hub killed too.

Run it with ``make bench-reconnect``.
"""

import argparse
import asyncio
import math
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis as RedisClient

from bench.fleet import (
    ADMIN,
    RESOURCES,
    Edge,
    Table,
    address_of,
    cloud_of,
    edges_of,
    hexadecimal,
    names,
    shares,
    wanted_in,
)
from bench.reporting import tell
from bench.running import Boss, Word, Worker, free_ports, run, started
from bench.sampling import Sampling
from fedge_dispatch.placement import Complete, Decision, Placement
from fedge_dispatch.telling import Telling
from fedge_fabric import MessageClass, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_hub.redis_store import RedisWantedStore
from fedge_local.processes import Machine
from fedge_local.programs import Program
from fedge_local.rabbitmq import EDGE_PLUGINS, RabbitMQ
from fedge_local.redis import Redis
from fedge_meta.links import LINKS
from fedge_objects import JsonObject, NodeName, ObjectKey

NODES = 200
PODS = 5
MAPS_PER_POD = 3
CHANGED_PODS = 1
CHANGED_MAPS = 2
HEARTBEAT_SECONDS = 10.0
CONVERGES_WITHIN_SECONDS = 30.0
"""After so long it was too slow; until then at least, messages are counted."""
GIVES_UP_SECONDS = 180.0
STARTS_WITHIN_SECONDS = 900.0
QUIET_SECONDS = 5.0
LOOK_SECONDS = 0.1
LOOK_AGAIN_SECONDS = 0.25
LOOPBACK = "127.0.0.1"
EDGE_PROCESSES = 2
EDGES_EMULATOR = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
EDGES_MEMORY_BYTES = 8_000_000_000
"""The many edges' broker is not what is measured."""
_TABLE = Path("/proc/net/tcp")


VARIANTS = ("broker_killed", "hub_killed_too")


class Cluster:
    """The objects of all nodes, as a watch at the API would tell them to controller."""

    def __init__(self, nodes: Sequence[NodeName]) -> None:
        self._nodes = nodes
        self._revision = 0
        self.placement = Placement(["pods"], ["configmaps"])

    def fill(self) -> list[Decision | Complete]:
        """Make all objects; return what follows."""
        for node in self._nodes:
            for number in range(PODS):
                for each in self._maps(node, number):
                    self._put(node, each)
                self._put(node, self._pod(node, number))
        for resource in RESOURCES:
            self.placement.mark_listed(resource, self._revision)
        return [news for node in self._nodes for news in self.placement.everything(node)]

    def change(self) -> list[Decision]:
        """Change some objects of every node; return what follows."""
        return [
            news
            for node in self._nodes
            for key in (
                *(self._pod(node, number) for number in range(CHANGED_PODS)),
                *(self._maps(node, number)[0] for number in range(CHANGED_MAPS)),
            )
            for news in self._put(node, key)
        ]

    def wanted(self) -> dict[str, dict[str, str]]:
        """Return the version of each object that each node should have."""
        return {
            node: {
                str(news.change.key): str(news.change.version)
                for news in self.placement.everything(node)
                if isinstance(news, Decision)
            }
            for node in self._nodes
        }

    def _pod(self, node: NodeName, number: int) -> ObjectKey:
        return ObjectKey("pods", "default", f"{node}-{number}")

    def _maps(self, node: NodeName, number: int) -> list[ObjectKey]:
        names = (f"{node}-{number}-{each}" for each in range(MAPS_PER_POD))
        return [ObjectKey("configmaps", "default", name) for name in names]

    def _put(self, node: NodeName, key: ObjectKey) -> list[Decision]:
        self._revision += 1
        is_pod = key.resource == "pods"
        number = int(key.name.split("-")[2])
        return self.placement.put(
            key,
            _object(key, self._revision, node if is_pod else None),
            self._revision,
            node=node if is_pod else None,
            needs=frozenset(self._maps(node, number)) if is_pod else frozenset(),
        )


def _object(key: ObjectKey, revision: int, node: NodeName | None) -> JsonObject:
    body: JsonObject = {
        "apiVersion": "v1",
        "kind": "ConfigMap" if node is None else "Pod",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "uid": f"uid-{key.name}",
            "resourceVersion": str(revision),
        },
    }
    if node is None:
        return {**body, "data": {"revision": str(revision), "settings.ini": "x" * 500}}
    annotations = {"revision": str(revision)}
    containers = [{"name": "main", "image": "fedge.local/hello:demo"}]
    return {
        **body,
        "metadata": {**body["metadata"], "annotations": annotations},
        "spec": {"nodeName": node, "containers": containers},
    }


async def serve_controller(boss: Boss, given: Word) -> None:
    """Be controller without an API."""
    counts: Counter[str] = Counter()
    cluster = Cluster(names(given["nodes"]))
    fabric = Fabric(given["url"], service="controller", exchanges=t.CLOUD_EXCHANGES)
    telling = Telling(fabric, service="controller")

    async def take(delivery: Delivery) -> None:
        counts[f"passed {delivery.envelope.type}"] += 1

    async def tell_again(delivery: Delivery) -> None:
        counts[f"asked {delivery.envelope.type}"] += 1
        node = delivery.envelope.data["node"]
        for each in [NodeName(node)] if node else names(given["nodes"]):
            telling.tell(cluster.placement.everything(each))

    fabric.subscribe(t.reported("controller", MessageClass.STATE, (*RESOURCES, "nodes")), take)
    fabric.subscribe(t.heartbeats("controller"), take)
    fabric.subscribe(t.control("controller", "one"), tell_again)
    telling.tell(cluster.fill())
    async with fabric.running(), asyncio.TaskGroup() as tasks:
        tasks.create_task(telling.run(), name="telling")
        boss.tell("ready")
        while True:
            match (await boss.hear())["said"]:
                case "change":
                    telling.tell(cluster.change())
                    boss.tell("wanted", wanted=cluster.wanted())
                case "wanted":
                    boss.tell("wanted", wanted=cluster.wanted())
                case "forget":
                    counts.clear()
                case "count":
                    boss.tell("counts", counts=counts)


async def serve_edges(boss: Boss, given: Word) -> None:
    """Be some of the edges."""
    counts: Counter[str] = Counter()
    table = Table(given["cloud_port"])
    edges = [
        Edge(
            NodeName(node),
            url=given["url"],
            folder=Path(given["folder"]),
            cloud_port=given["cloud_port"],
            table=table,
            counts=counts,
        )
        for node in given["names"]
    ]
    async with asyncio.TaskGroup() as tasks:
        for number, edge in enumerate(edges):
            serves = asyncio.Event()
            tasks.create_task(
                edge.run(
                    heartbeat_seconds=given["heartbeat_seconds"],
                    phase=number / len(edges),
                    ready=serves.set,
                ),
                name=edge.node,
            )
            await serves.wait()
        boss.tell("ready")

        async def tell_when_all_have(wanted: Mapping[str, Mapping[str, str]]) -> None:
            at = await asyncio.gather(*(edge.has(wanted_in(wanted[edge.node])) for edge in edges))
            boss.tell("have", at=at)

        while True:
            word = await boss.hear()
            match word["said"]:
                case "expect":
                    tasks.create_task(tell_when_all_have(word["wanted"]), name="expect")
                case "forget":
                    counts.clear()
                case "count":
                    boss.tell("counts", counts=counts)


ROLES = {"controller": serve_controller, "edges": serve_edges}


@dataclass(slots=True)
class Dialling:
    """Sees each connection that the edges make to the cloud, in the kernel's table.

    One that was closed at once stays there for a minute. One that was refused is never there.
    """

    port: int
    addresses: frozenset[str]
    made: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled."""
        before = set(await asyncio.to_thread(self._look))
        while True:
            now = time.monotonic()
            for each in await asyncio.to_thread(self._look):
                if each not in before:
                    self.made.setdefault(each, now)
            await asyncio.sleep(LOOK_SECONDS)

    def busiest_second(self) -> int:
        """Return how many were made within a second at most."""
        times = sorted(self.made.values())
        most = begin = 0
        for end, at in enumerate(times):
            while at - times[begin] >= 1:
                begin += 1
            most = max(most, end - begin + 1)
        return most

    def _look(self) -> list[str]:
        suffix = f":{self.port:04X}"
        rows = (line.split(None, 3)[1:3] for line in _TABLE.read_text().splitlines())
        return [
            f"{local} {remote}"
            for local, remote in rows
            if remote.endswith(suffix) and remote.partition(":")[0] in self.addresses
        ]


class Setting:
    """A cloud, and the broker that the edges share."""

    def __init__(self, folder: Path, nodes: Sequence[NodeName]) -> None:
        self.amqp, dist, edges_amqp, edges_dist, mqtt, redis, http = free_ports(7)
        machine = Machine()
        self.nodes = nodes
        self.folder = folder
        self.cloud = RabbitMQ(
            name="cloud",
            folder=folder / "cloud",
            place=machine,
            definitions=cloud_of(nodes),
            listen=[("0.0.0.0", self.amqp)],  # noqa: S104 - the nodes dial different addresses
            dist_port=dist,
        )
        self.edges = RabbitMQ(
            name="edges",
            folder=folder / "edges",
            place=machine,
            definitions=edges_of(nodes, self.amqp),
            plugins=EDGE_PLUGINS,
            listen=[(LOOPBACK, edges_amqp)],
            mqtt=(LOOPBACK, mqtt),
            dist_port=edges_dist,
            memory_bytes=EDGES_MEMORY_BYTES,
            emulator=EDGES_EMULATOR,
        )
        self.redis = Redis(folder=folder / "redis", place=machine, port=redis)
        self.cloud_url = f"amqp://{ADMIN.name}:{ADMIN.password}@{LOOPBACK}:{self.amqp}/"
        self.edges_url = f"amqp://{ADMIN.name}:{ADMIN.password}@{LOOPBACK}:{edges_amqp}/"
        self.hub_url = f"http://{LOOPBACK}:{http}"
        self.hub = Program(
            name="hub",
            services=("hub",),
            folder=folder / "hub",
            place=machine,
            settings={
                "FEDGE_HUB_AMQP_URL": self.cloud_url,
                "FEDGE_HUB_REDIS_URL": self.redis.url,
                "FEDGE_HUB_HTTP_PORT": str(http),
            },
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all; kill it at the end."""
        async with (
            started(self.cloud, self.redis),
            started(self.hub),
            started(self.edges, timeout_seconds=STARTS_WITHIN_SECONDS),
        ):
            yield

    def sampling(self) -> Sampling:
        """Return what looks at everything that runs."""
        servers = {
            "cloud_broker": self.cloud,
            "hub": self.hub,
            "redis": self.redis,
            "edges_broker": self.edges,
        }

        def pid_of(name: str) -> int | None:
            process = servers[name].process
            return None if process is None else process.pid

        return Sampling({name: lambda name=name: pid_of(name) for name in servers}, {})  # type: ignore[misc]  # mypy sees no type of a default

    async def hub_counts(self) -> dict[str, int]:
        """Return hub's own counts since its start."""
        async with (
            aiohttp.ClientSession(self.hub_url) as session,
            session.get("/metrics") as response,
        ):
            lines = (await response.text()).splitlines()
        rows = (line.split() for line in lines if not line.startswith("#"))
        return {
            name.removeprefix("fedge_messages_").partition("_total")[0]: int(value)
            for name, value in rows
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """How many, and how long the cloud is away."""

    nodes: int = NODES
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    processes: int = EDGE_PROCESSES
    watch_seconds: float = CONVERGES_WITHIN_SECONDS

    @property
    def away_seconds(self) -> float:
        """Longer than after which hub takes a node for absent."""
        return 3.5 * self.heartbeat_seconds


@dataclass(slots=True)
class Measuring:
    """A fleet in step with the cloud, whose cloud is killed and started."""

    fleet: Fleet
    setting: Setting
    controller: Worker
    edges: Sequence[Worker]
    store: RedisWantedStore
    sampling: Sampling

    async def get_in_step(self) -> None:
        """Wait until every node has all, and hub knows."""
        await self.controller.tell("wanted")
        await self._expect((await self.controller.hear("wanted"))["wanted"])
        await self._all_have(STARTS_WITHIN_SECONDS)
        await self._hub_knows(0.0, STARTS_WITHIN_SECONDS)

    async def measure(self, name: str, *, kill_hub: bool) -> dict[str, float | int | str]:
        """Return what came of one return of the cloud, by names with a prefix."""
        setting = self.setting
        await asyncio.sleep(QUIET_SECONDS)
        self.sampling.phase = "away"
        await setting.cloud.kill()
        if kill_hub:
            await setting.hub.kill()
        for each in (self.controller, *self.edges):
            await each.tell("forget")
        before = {} if kill_hub else await setting.hub_counts()
        await self.controller.tell("change")
        await self._expect((await self.controller.hear("wanted"))["wanted"])
        await asyncio.sleep(self.fleet.away_seconds)
        dialling = Dialling(
            setting.amqp, frozenset(hexadecimal(address_of(node)) for node in setting.nodes)
        )
        looking = asyncio.create_task(dialling.run(), name="dialling")
        self.sampling.phase = "back"
        try:
            began = time.monotonic()
            await setting.cloud.start()
            if kill_hub:
                await setting.hub.start()
            await setting.cloud.ready()
            back, back_at = time.monotonic(), time.time()
            print(f"{name}: the broker answers after {back - began:.1f} s", flush=True)
            have = await self._all_have(GIVES_UP_SECONDS)
            print(f"{name}: all nodes have all after {max(have) - back:.1f} s", flush=True)
            known = await self._hub_knows(back_at, GIVES_UP_SECONDS)
            print(f"{name}: hub knows after {known - back:.1f} s", flush=True)
            # what follows late would be a storm too
            rest = back + self.fleet.watch_seconds - time.monotonic()
            await asyncio.sleep(max(QUIET_SECONDS, rest))
            seconds = time.monotonic() - back
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        counts = await self._counts()
        after = await setting.hub_counts()
        result: dict[str, float | int | str] = {
            "broker_started_s": round(back - began, 1),
            "half_converged_s": round(sorted(have)[len(have) // 2] - back, 1),
            "converged_s": round(max(have) - back, 1),
            "hub_knows_s": round(known - back, 1),
            "watched_s": round(seconds, 1),
            **self._dialled(dialling, back),
            **self._messages(counts, seconds),
            "knocks": counts["knocks"],
            "repairs": counts["repairs"],
            **{f"hub_{each}": after[each] - before.get(each, 0) for each in after},
        }
        return {f"{name}_{key}": value for key, value in result.items()}

    def _dialled(self, dialling: Dialling, back: float) -> dict[str, float | int]:
        times = sorted(dialling.made.values()) or [back]
        return {
            "connections": len(dialling.made),
            "connections_least": LINKS * self.fleet.nodes,
            "connections_busiest_second": dialling.busiest_second(),
            "connections_first_s": round(times[0] - back, 1),
            "connections_last_s": round(times[-1] - back, 1),
        }

    def _messages(self, counts: Counter[str], seconds: float) -> dict[str, int]:
        nodes = self.fleet.nodes
        changed = (CHANGED_PODS + CHANGED_MAPS) * nodes
        beats = nodes * math.floor(seconds / self.fleet.heartbeat_seconds)
        told = {
            # those that were made while the cloud was away expire at the edge
            "heartbeats_heard": counts[f"passed {kinds.NODE_ALIVE}"],
            "heartbeats_made": counts[f"up {kinds.NODE_ALIVE}"],
            "digests_up": counts[f"up {kinds.DIGEST_TAKEN}"],
            "digest_questions_down": counts[f"down {kinds.DIGEST_ASKED}"],
            "status_questions_down": counts[f"down {kinds.STATUSES_ASKED}"],
            "statuses_up": counts[f"up {kinds.STATUS_REPORTED}"],
            "objects_down": counts[f"down {kinds.OBJECT_PUT}"],
            "stored_up": counts[f"up {kinds.OBJECT_STORED}"],
            "applied_up": counts[f"up {kinds.OBJECTS_APPLIED}"],
            "resyncs_asked": counts[f"asked {kinds.RESYNC_ASKED}"],
        }
        least = {
            "heartbeats_heard": beats,
            "digests_up": nodes,
            # what it has, and that nothing differs
            "digest_questions_down": 2 * nodes,
            "status_questions_down": nodes,
            # each pod's and the node's, and those of the pods that changed
            "statuses_up": (PODS + 1 + CHANGED_PODS) * nodes,
            "objects_down": changed,
            "stored_up": changed,
            "applied_up": nodes,
        }
        return told | {f"{name}_least": count for name, count in least.items()}

    async def _expect(self, wanted: Mapping[str, Any]) -> None:
        for each in self.edges:
            await each.tell("expect", wanted=wanted)

    async def _all_have(self, seconds: float) -> list[float]:
        """Return when each node had what it should have."""
        async with asyncio.timeout(seconds):
            words = await asyncio.gather(*(each.hear("have") for each in self.edges))
        return [at for word in words for at in word["at"]]

    async def _hub_knows(self, since: float, seconds: float) -> float:
        """Return when hub knew of every node that all is applied, heard and compared."""
        async with asyncio.timeout(seconds):
            for node in self.setting.nodes:
                while not await self._is_known(node, since):  # noqa: ASYNC110 - Redis tells nobody
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return time.monotonic()

    async def _is_known(self, node: NodeName, since: float) -> bool:
        seen = await self.store.last_seen(node)
        wanted = await self.store.wanted(node)
        return (
            seen is not None
            and seen.settled
            and seen.at >= since
            and len(wanted) == PODS * (1 + MAPS_PER_POD)
            and all(
                each.applied is not None and each.applied.version >= each.since
                for each in wanted.values()
            )
        )

    async def _counts(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for each in (self.controller, *self.edges):
            await each.tell("count")
            found.update((await each.hear("counts"))["counts"])
        return found


async def measure(fleet: Fleet) -> dict[str, float | int | str]:
    """Return what happens when the cloud of a fleet comes back."""
    nodes = names(fleet.nodes)
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        setting = Setting(folder, nodes)
        async with setting.running(), AsyncExitStack() as running:
            print("the brokers answer", flush=True)
            controller = await running.enter_async_context(
                Worker.started(
                    "bench.reconnect", "--role", "controller",
                    given={"url": setting.cloud_url, "nodes": fleet.nodes},
                    log=folder / "controller.log",
                )
            )  # fmt: skip
            edges = [
                await running.enter_async_context(
                    Worker.started(
                        "bench.reconnect", "--role", "edges",
                        given={
                            "url": setting.edges_url,
                            "names": share,
                            "folder": str(folder),
                            "cloud_port": setting.amqp,
                            "heartbeat_seconds": fleet.heartbeat_seconds,
                        },
                        log=folder / f"edges-{number}.log",
                    )
                )
                for number, share in enumerate(shares(nodes, fleet.processes))
            ]  # fmt: skip
            async with asyncio.timeout(STARTS_WITHIN_SECONDS):
                for each in (controller, *edges):
                    await each.hear("ready")
            print("all services run", flush=True)
            sampling = setting.sampling()
            redis = await running.enter_async_context(RedisClient.from_url(setting.redis.url))
            await running.enter_async_context(sampling.going_on())
            measuring = Measuring(
                fleet, setting, controller, edges, RedisWantedStore(redis), sampling
            )
            began = time.monotonic()
            await measuring.get_in_step()
            print(f"all are in step after {time.monotonic() - began:.1f} s", flush=True)
            return {
                "nodes": fleet.nodes,
                "objects_per_node": PODS * (1 + MAPS_PER_POD),
                **await measuring.measure(VARIANTS[0], kill_hub=False),
                **await measuring.measure(VARIANTS[1], kill_hub=True),
                **sampling.peaks(),
            }


def is_good(result: Mapping[str, float | int | str]) -> bool:
    """Whether all nodes converged in time, twice."""
    return all(
        float(result[f"{each}_converged_s"]) <= CONVERGES_WITHIN_SECONDS for each in VARIANTS
    )


async def _serve(role: str) -> None:
    boss = await Boss.found()
    given = await boss.hear()
    try:
        await ROLES[role](boss, given)
    except* EOFError:
        pass  # whoever started it is gone, or done with it


async def _measure_and_tell(fleet: Fleet) -> bool:
    result = await measure(fleet)
    tell("reconnect", result)
    return is_good(result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Let a fleet come back at once.")
    parser.add_argument("--role", choices=ROLES)
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--heartbeat", type=float, default=HEARTBEAT_SECONDS)
    arguments = parser.parse_args()
    if arguments.role:
        asyncio.run(_serve(arguments.role))
    else:
        run(_measure_and_tell(Fleet(nodes=arguments.nodes, heartbeat_seconds=arguments.heartbeat)))
