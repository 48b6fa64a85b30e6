"""Devices: how fast a wish comes down and a report goes up, and how many devices one edge bears.

1. On a whole system of one cloud and one edge: a patch of a Device at the API until the delta is on
   the device's topic, and a report over MQTT until it is in the DeviceStatus at the API. Beside
   them the floor, measured in the same run: one write at the API until its watch tells of it, one
   message over the bare link between the brokers, one over MQTT.
2. On the same system: thirty devices that report a hundred times a second in all. What the API is
   made to write (requests, and commits to its disk), and how old the value there is at most.
3. On an edge's broker and twin, which is a process of its own here, with no cloud: very many
   devices that report; all must be taken and answered, and the last value of each must be the last
   that was sent.

Run it with ``make bench-twins``.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import aiomqtt
import yaml

from bench.pods import EDGE, node_is_ready, running_stack, say
from bench.reporting import p50, tell
from bench.running import Boss, Word, Worker, free_ports, run, started
from bench.sampling import memory_mb
from fedge_devices import DEVICES as DEVICES_RESOURCE
from fedge_fabric import topology as t
from fedge_fabric.definitions import User, edge_definitions
from fedge_kube import CUSTOM_RESOURCE_DEFINITIONS, KubeClient, NotFoundError, Resource
from fedge_local.edge import Edge
from fedge_local.processes import Machine, Place
from fedge_local.programs import Program
from fedge_local.rabbitmq import EDGE_PLUGINS, RabbitMQ
from fedge_objects import Change, JsonObject, NodeName, ObjectKey, Version
from fedge_store import ObjectStore

ROUNDS = 200
WARM_UP = 10
FEW, FEW_PER_SECOND, FEW_SECONDS = 30, 100, 10.0
"""So many devices, and reports a second of all of them together."""
MANY, MANY_PER_SECOND, MANY_SECONDS = 10_000, 2_000, 30.0
LOADERS = 2
PAUSE_SECONDS = 0.02
REPORT_PAUSE_SECONDS = 1.1
"""A device's next report must not wait for the end of what is told together."""
DEADLINE_SECONDS = 60.0
NAMESPACE = "default"
LOOPBACK = "127.0.0.1"
DEVICES = Resource("devices.kubeedge.io", "v1beta1", "devices")
DEVICE_STATUSES = Resource("devices.kubeedge.io", "v1beta1", "devicestatuses")
CONFIG_MAPS = Resource("", "v1", "configmaps")
CRDS = Path(__file__).parents[1] / "deploy/k8s/base/crds"
ALL_TOPICS = "$hw/events/device"
TOPIC = f"{ALL_TOPICS}/{NAMESPACE}"
PROPERTY = "temperature"
NODE = NodeName("edge-1")
ADMIN = User(name="fedge", password="bench")  # noqa: S106 - lives as long as the benchmark
LINK = User(name="edge-1", password="bench")  # noqa: S106


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    rounds: int = ROUNDS
    few_seconds: float = FEW_SECONDS
    many: int = MANY
    many_per_second: int = MANY_PER_SECOND
    many_seconds: float = MANY_SECONDS


SMALL = Size(rounds=5, few_seconds=3.0, many=200, many_per_second=400, many_seconds=3.0)


class Watched:
    """What a watch tells, to be waited for."""

    def __init__(self, kube: KubeClient, resource: Resource) -> None:
        self._kube = kube
        self._resource = resource
        self._heard = asyncio.Condition()
        self._newest: dict[str, JsonObject] = {}
        self.events = 0
        self.listed = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        revision = (await self._kube.list(self._resource)).revision
        self.listed.set()
        while True:
            async for kind, obj in self._kube.watch(self._resource, revision):
                revision = int(obj["metadata"]["resourceVersion"])
                if kind == "BOOKMARK":
                    continue
                async with self._heard:
                    self.events += 1
                    self._newest[obj["metadata"]["name"]] = obj
                    self._heard.notify_all()

    async def until(self, name: str, so: Callable[[JsonObject], bool]) -> float:
        """Return when an object is as wished."""
        async with asyncio.timeout(DEADLINE_SECONDS), self._heard:
            await self._heard.wait_for(lambda: name in self._newest and so(self._newest[name]))
            return time.perf_counter()

    def objects(self) -> Mapping[str, JsonObject]:
        """Return the newest of each."""
        return self._newest


class Mqtt:
    """A device's client."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self._heard: asyncio.Queue[tuple[float, str, Any]] = asyncio.Queue()

    async def run(self) -> None:
        """Hear until cancelled."""
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            body = json.loads(message.payload)
            self._heard.put_nowait((time.perf_counter(), str(message.topic), body))

    async def until(self, so: Callable[[str, Any], bool]) -> float:
        """Return when a message came that is as wished; what came before it is dropped."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                at, topic, body = await self._heard.get()
                if so(topic, body):
                    return at


@asynccontextmanager
async def beside(*work: Awaitable[None]) -> AsyncIterator[None]:
    """Have work done meanwhile."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def device(name: str, value: str = "0") -> JsonObject:
    """Return a Device."""
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeName": EDGE,
            "properties": [{"name": PROPERTY, "desired": {"value": value}}],
        },
    }


def report(value: str) -> str:
    """Return the payload of an update."""
    twin = {PROPERTY: {"actual": {"value": value}}}
    return json.dumps({"event_id": "", "timestamp": 1, "twin": twin})


def reported(status: JsonObject) -> str | None:
    """Return what a DeviceStatus has."""
    twins = (status.get("status") or {}).get("twins") or ()
    value: str | None = next(
        (
            (each.get("reported") or {}).get("value")
            for each in twins
            if each["propertyName"] == PROPERTY
        ),
        None,
    )
    return value


def p99(seconds: Sequence[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 1)


async def measure_ways(
    kube: KubeClient, mqtt: Mqtt, statuses: Watched, rounds: int
) -> dict[str, float]:
    """Return how long a wish takes down, and a report up."""
    topic = f"{TOPIC}/one/twin/update"
    await mqtt.client.subscribe(f"{topic}/delta", qos=1)
    await kube.create(DEVICES, device("one"))
    await mqtt.until(lambda _, body: body.get("delta") == {PROPERTY: "0"})
    desired, reports = [], []
    for number in range(WARM_UP + rounds):
        value = str(number + 1)
        patch = {"properties": [{"name": PROPERTY, "desired": {"value": value}}]}
        began = time.perf_counter()
        await kube.patch(DEVICES, NAMESPACE, "one", {"spec": patch})
        at = await mqtt.until(lambda _, body, v=value: body.get("delta") == {PROPERTY: v})  # type: ignore[misc]  # mypy sees no type of a default
        desired.append(at - began)
        await asyncio.sleep(PAUSE_SECONDS)
    for number in range(WARM_UP + rounds):
        await asyncio.sleep(REPORT_PAUSE_SECONDS)
        value = f"r{number}"
        began = time.perf_counter()
        await mqtt.client.publish(topic, report(value), qos=1)
        at = await statuses.until("one", lambda status, v=value: reported(status) == v)  # type: ignore[misc]
        reports.append(at - began)
    await kube.delete(DEVICES, NAMESPACE, "one")
    return {
        "desired_p50_ms": p50(desired[WARM_UP:]),
        "desired_p99_ms": p99(desired[WARM_UP:]),
        "reported_p50_ms": p50(reports[WARM_UP:]),
        "reported_p99_ms": p99(reports[WARM_UP:]),
    }


async def measure_floor(
    kube: KubeClient, mqtt: Mqtt, cloud_url: str, edge_url: str, rounds: int
) -> dict[str, float]:
    """Return what the parts of the way take by themselves."""
    maps = Watched(kube, CONFIG_MAPS)
    await kube.create(
        CONFIG_MAPS,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "floor", "namespace": NAMESPACE},
            "data": {"n": ""},
        },
    )
    writes, trips = [], []
    async with beside(maps.run()):
        await maps.listed.wait()
        for number in range(rounds):
            value = str(number)
            began = time.perf_counter()
            await kube.patch(CONFIG_MAPS, NAMESPACE, "floor", {"data": {"n": value}})
            at = await maps.until("floor", lambda obj, v=value: obj["data"]["n"] == v)  # type: ignore[misc]
            writes.append(at - began)
    await kube.delete(CONFIG_MAPS, NAMESPACE, "floor")
    await mqtt.client.subscribe("floor", qos=1)
    for number in range(rounds):
        began = time.perf_counter()
        await mqtt.client.publish("floor", json.dumps({"n": number}), qos=1)
        trips.append(await mqtt.until(lambda _, body, n=number: body.get("n") == n) - began)  # type: ignore[misc]
    down = await measure_link(cloud_url, edge_url, t.DOWN, f"node.{EDGE}.request.bench", rounds)
    up = await measure_link(edge_url, cloud_url, t.UP, f"node.{EDGE}.spans.bench", rounds)
    parts = {
        "floor_api_ms": p50(writes),
        "floor_mqtt_ms": p50(trips),
        "floor_down_ms": p50(down),
        "floor_up_ms": p50(up),
    }
    return {
        "floor_desired_ms": round(
            parts["floor_api_ms"] + parts["floor_down_ms"] + parts["floor_mqtt_ms"], 1
        ),
        "floor_reported_ms": round(
            parts["floor_mqtt_ms"] + parts["floor_up_ms"] + parts["floor_api_ms"], 1
        ),
        **parts,
    }


async def measure_link(
    from_url: str, to_url: str, exchange: str, routing_key: str, rounds: int
) -> list[float]:
    """Return how long messages take from one broker to the other."""
    async with await aio_pika.connect(from_url) as source, await aio_pika.connect(to_url) as target:
        there = await target.channel()
        queue = await there.declare_queue(exclusive=True)
        await queue.bind(exchange, routing_key)
        here = await (await source.channel()).get_exchange(exchange)
        heard: asyncio.Queue[tuple[float, str]] = asyncio.Queue()

        async def hear(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            heard.put_nowait((time.perf_counter(), message.message_id or ""))

        await queue.consume(hear, no_ack=True)
        took: list[float] = []
        number = 0
        async with asyncio.timeout(DEADLINE_SECONDS * 2):
            while len(took) < rounds:
                number += 1
                message = aio_pika.Message(
                    b"{}",
                    message_id=str(number),
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                )
                began = time.perf_counter()
                await here.publish(message, routing_key, mandatory=False)
                with contextlib.suppress(TimeoutError):  # the binding may be on its way yet
                    async with asyncio.timeout(1):
                        at, came = await heard.get()
                        while came != str(number):
                            at, came = await heard.get()
                        took.append(at - began)
        return took


async def measure_few(
    kube: KubeClient, mqtt: Mqtt, statuses: Watched, api_store: Path, seconds: float
) -> dict[str, float]:
    """Return what a few busy devices cost the API, and how old the value there is at most."""
    names = [f"few-{number}" for number in range(FEW)]
    devices = Watched(kube, DEVICES)
    async with beside(devices.run()):
        await devices.listed.wait()
        for name in names:
            await kube.create(DEVICES, device(name))
        for name in names:
            await statuses.until(name, lambda status: bool(status.get("status")))
        await asyncio.sleep(2)
        sent: dict[str, list[float]] = {name: [] for name in names}
        oldest, commits, version, said = 0.0, 0, 0, 0
        store = sqlite3.connect(f"file:{api_store}?mode=ro", uri=True)
        before = statuses.events + devices.events
        began = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            due = int((now - began) * FEW_PER_SECOND)
            for index in range(said, due):
                name = names[index % FEW]
                value = str(len(sent[name]))
                sent[name].append(time.monotonic())
                mqtt.client._client.publish(f"{TOPIC}/{name}/twin/update", report(value), 1)  # noqa: SLF001 - the library's own waits for each
            said = due
            if now - began > 2:
                for name in names:
                    shown = reported(statuses.objects()[name])
                    following = int(shown) + 1 if shown is not None else 0
                    if following < len(sent[name]):
                        oldest = max(oldest, time.monotonic() - sent[name][following])
            # https://www.sqlite.org/pragma.html#pragma_data_version: another one after a commit
            [found] = store.execute("PRAGMA data_version").fetchone()
            commits, version = commits + (found != version), found
            await asyncio.sleep(0.005)
        store.close()
        writes = statuses.events + devices.events - before
        took = time.monotonic() - began
        for name in names:
            last = str(len(sent[name]) - 1)
            await statuses.until(name, lambda status, v=last: reported(status) == v)  # type: ignore[misc]
        for name in names:
            await kube.delete(DEVICES, NAMESPACE, name)
    return {
        "few_devices": FEW,
        "few_reports_per_s": round(sum(map(len, sent.values())) / took),
        "few_api_writes_per_s": round(writes / took, 1),
        "few_api_commits_per_s": round(commits / took, 1),
        "few_newest_age_ms": round(oldest * 1000),
    }


@asynccontextmanager
async def forwarded(place: Place, port: int) -> AsyncIterator[int]:
    """Have a port of this machine lead to one of an edge host's own; yield it."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection(sock=await place.connect(LOOPBACK, port))
        await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def measure_system(size: Size) -> dict[str, float]:
    """Measure on a whole system."""
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as folder:
        async with (
            running_stack(Path(folder)) as stack,
            KubeClient.connected(stack.kubeconfig) as kube,
        ):
            await serve_kinds(kube)
            await node_is_ready(kube)
            edge: Edge = stack.edge(EDGE).parts
            user, password = edge.account.split(":")
            host, port = edge.mqtt_address
            statuses = Watched(kube, DEVICE_STATUSES)
            async with (
                forwarded(edge.host, 5672) as amqp,
                aiomqtt.Client(host, port, username=user, password=password) as client,
            ):
                mqtt = Mqtt(client)
                async with beside(statuses.run(), mqtt.run()):
                    await statuses.listed.wait()
                    say("one device")
                    ways = await measure_ways(kube, mqtt, statuses, size.rounds)
                    say("the floor")
                    edge_url = f"amqp://{edge.account}@{LOOPBACK}:{amqp}/"
                    floor = await measure_floor(kube, mqtt, stack.amqp_url, edge_url, size.rounds)
                    say("a few busy devices")
                    store = Path(folder) / "cloud/apiserver/objects.db"
                    few = await measure_few(kube, mqtt, statuses, store, size.few_seconds)
    return {**ways, **floor, **few}


async def serve_kinds(kube: KubeClient) -> None:
    """Have the API serve the kinds of devices, and wait until device follows them."""
    for path in sorted(CRDS.glob("devices.*.yaml")):
        await kube.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await kube.list(DEVICES)
            except NotFoundError:
                await asyncio.sleep(0.2)
            else:
                return


async def measure_many(size: Size) -> dict[str, float]:
    """Measure very many devices at one twin."""
    amqp, dist, mqtt, cloud = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        broker = RabbitMQ(
            name="edge",
            folder=folder / "broker",
            place=Machine(),
            definitions=edge_definitions(
                node=NODE, admin=ADMIN, link=LINK, cloud=f"{LOOPBACK}:{cloud}"
            ),
            plugins=EDGE_PLUGINS,
            listen=[(LOOPBACK, amqp)],
            mqtt=(LOOPBACK, mqtt),
            dist_port=dist,
        )
        account = f"{ADMIN.name}:{ADMIN.password}"
        twin = Program(
            name="twin",
            services=("twin",),
            folder=folder / "twin",
            place=Machine(),
            settings={
                "FEDGE_EDGE_NODE_NAME": NODE,
                "FEDGE_EDGE_AMQP_URL": f"amqp://{account}@{LOOPBACK}:{amqp}/",
                "FEDGE_EDGE_DATA_DIR": str(folder / "data"),
                "FEDGE_TWIN_MQTT_URL": f"mqtt://{account}@{LOOPBACK}:{mqtt}",
            },
        )
        shares = {
            f"load-{number}": [f"device-{each}" for each in range(size.many // LOADERS)]
            for number in range(LOADERS)
        }
        await give(folder / "data" / "meta.db", shares)
        async with started(broker), started(twin), contextlib.AsyncExitStack() as running:
            given = {
                "port": mqtt,
                "per_second": size.many_per_second / LOADERS,
                "seconds": size.many_seconds,
            }
            loaders = [
                await running.enter_async_context(
                    Worker.started(
                        "bench.twins", "--role", "load",
                        given={**given, "namespace": namespace, "names": names},
                        log=folder / f"{namespace}.log",
                    )
                )
                for namespace, names in shares.items()
            ]  # fmt: skip
            for each in loaders:
                await each.hear("ready")
            assert twin.process is not None
            pid = twin.process.pid
            before, began = processor_seconds(pid), time.monotonic()
            for each in loaders:
                await each.tell("go")
            words = [await each.hear("done") for each in loaders]
            busy = (processor_seconds(pid) - before) / (time.monotonic() - began)
            memory = memory_mb(pid)
    took = max(word["seconds"] for word in words)
    taken = sum(word["taken"] for word in words)
    return {
        "devices": size.many,
        "reports_per_s": round(taken / took),
        "reports_sent": sum(word["sent"] for word in words),
        "reports_taken": taken,
        "reports_refused": sum(word["refused"] for word in words),
        "values_wrong": sum(word["wrong"] for word in words),
        "twin_cpu_percent": round(busy * 100, 1),
        "twin_rss_mb": round(memory, 1),
    }


async def give(path: Path, shares: Mapping[str, Sequence[str]]) -> None:
    """Keep devices, by namespace, as meta does."""
    number = 0
    async with ObjectStore.opened(path) as store:
        for namespace, names in shares.items():
            for name in names:
                number += 1
                obj = device(name)
                obj["metadata"] |= {"namespace": namespace, "uid": f"uid-{number}"}
                del obj["spec"]["properties"][0]["desired"]
                key = ObjectKey(DEVICES_RESOURCE, namespace, name)
                change = Change(key=key, version=Version(number, number), object=obj)
                await store.apply(change, [])


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def serve_load(boss: Boss, given: Word) -> None:
    """Be many devices."""
    names: list[str] = given["names"]
    topic = f"{ALL_TOPICS}/{given['namespace']}"
    answers: Counter[str] = Counter()
    last: dict[str, str] = {}
    came = asyncio.Event()
    found: dict[str, str | None] = {}

    async def hear(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            *_, name, _, what, _ = str(message.topic).split("/")
            assert isinstance(message.payload, bytes)
            body = json.loads(message.payload)
            if what == "get":
                side = body.get("twin", {}).get(PROPERTY, {}).get("actual") or {}
                found[name] = side.get("value")
            else:
                answers["refused" if "code" in body else "taken"] += 1
            came.set()

    async with aiomqtt.Client(
        LOOPBACK, given["port"], username=ADMIN.name, password=ADMIN.password,
        max_inflight_messages=1000,
    ) as client:  # fmt: skip
        for what in ("update", "get"):
            await client.subscribe(f"{topic}/+/twin/{what}/result", qos=0)
        publish = client._client.publish  # noqa: SLF001 - the library's own waits for each
        async with beside(hear(client)):
            boss.tell("ready")
            await boss.hear()
            sent, began = 0, time.monotonic()
            while (now := time.monotonic()) - began < given["seconds"]:
                while sent < (now - began) * given["per_second"]:
                    name = random.choice(names)  # noqa: S311 - nothing secret
                    last[name] = str(sent)
                    publish(f"{topic}/{name}/twin/update", report(last[name]), 1)
                    sent += 1
                await asyncio.sleep(0.005)
            await until(came, lambda: answers.total() >= sent)
            seconds = time.monotonic() - began
            for name in last:
                publish(f"{topic}/{name}/twin/get", "{}", 1)
            await until(came, lambda: len(found) >= len(last))
            boss.tell(
                "done",
                sent=sent,
                taken=answers["taken"],
                refused=answers["refused"],
                seconds=seconds,
                wrong=sum(found.get(name) != value for name, value in last.items()),
            )


async def until(came: asyncio.Event, so: Callable[[], bool]) -> None:
    """Wait until something is so, as long as there is news of it."""
    while not so():
        came.clear()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await came.wait()
        except TimeoutError:
            return  # the counts tell


async def measure(size: Size) -> dict[str, float]:
    """Measure all."""
    result = await measure_system(size)
    say("very many devices")
    return {**result, **await measure_many(size)}


def is_good(result: Mapping[str, float]) -> bool:
    """Whether nothing was lost."""
    return result["values_wrong"] == 0 and (
        result["reports_taken"] + result["reports_refused"] == result["reports_sent"]
    )


async def main(role: str, size: Size) -> bool:
    """Measure and tell, or take part."""
    if role:
        boss = await Boss.found()
        with contextlib.suppress(EOFError):
            await serve_load(boss, await boss.hear())
        return True
    result = await measure(size)
    tell("twins", result)
    return is_good(result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=["load"], default="")
    parser.add_argument("--small", action="store_true", help="a few rounds, to see that it works")
    arguments = parser.parse_args()
    run(main(arguments.role, SMALL if arguments.small else Size()))
