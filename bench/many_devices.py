"""Very many devices that report at once, played by processes of their own.

``measure_many`` does it on a whole system, whose twin is a process of its own here: the devices are
created through the Kubernetes API, and their last values must be shown there in the end.
``measure_alone`` does it on an edge's broker and twin with nothing else on the machine: what twin
can do by itself.
"""

import asyncio
import contextlib
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt

from bench.devices import (
    ALL_TOPICS,
    DEADLINE_SECONDS,
    DEVICE_STATUSES,
    DEVICES,
    PROPERTY,
    Mqtt,
    Watched,
    beside,
    device,
    report,
    reported,
    serve_kinds,
)
from bench.pods import EDGE, cpu_seconds, node_is_ready, rss_mb, running_stack, say
from bench.running import Boss, Word, Worker, free_ports, started
from fedge_devices import DEVICES as DEVICES_RESOURCE
from fedge_fabric.definitions import User, edge_definitions
from fedge_kube import KubeClient, Resource
from fedge_local.edge import Edge
from fedge_local.processes import Machine
from fedge_local.programs import Program
from fedge_local.rabbitmq import EDGE_PLUGINS, RabbitMQ
from fedge_objects import Change, NodeName, ObjectKey, Version
from fedge_store import ObjectStore

LOADERS = 2
CREATORS = 32
CAUGHT_UP_SECONDS = 400.0
"""As long as the API may take to show all that was said."""
LOOK_SECONDS = 0.2
LOOPBACK = "127.0.0.1"
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
ADMIN = User(name="fedge", password="bench")  # noqa: S106 - lives as long as the benchmark
LINK = User(name=EDGE, password="bench")  # noqa: S106

Shares = Mapping[str, Sequence[str]]
"""Devices by namespace; each has a process that plays them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where devices speak."""

    host: str
    port: int
    user: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much is said.

    Attributes:
        devices: in all.
        per_second: reports of all devices together.
        seconds: for so long.
    """

    devices: int
    per_second: int
    seconds: float

    def shares(self) -> Shares:
        """Share the devices out."""
        return {
            f"load-{number}": [f"device-{each}" for each in range(number, self.devices, LOADERS)]
            for number in range(LOADERS)
        }


async def measure_many(load: Load) -> dict[str, float]:
    """Measure on a whole system."""
    shares = load.shares()
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as folder:
        async with (
            running_stack(Path(folder)) as stack,
            KubeClient.connected(stack.kubeconfig) as kube,
        ):
            await serve_kinds(kube)
            await node_is_ready(kube)
            edge: Edge = stack.edge(EDGE).parts
            twin = await separated(edge)
            host, port = edge.mqtt_address
            user, password = edge.account.split(":")
            broker = Broker(host=host, port=port, user=user, password=password)
            statuses, devices = Watched(kube, DEVICE_STATUSES), Watched(kube, DEVICES)
            async with beside(statuses.run(), devices.run()):
                await statuses.listed.wait()
                await devices.listed.wait()
                created, known = await create(kube, broker, shares)
                say(f"  {load.devices} devices: created in {created:.1f} s, known in {known:.1f} s")
                took = await until_shown(lambda: len(statuses.objects()) >= load.devices)
                say(f"  statuses of {len(statuses.objects())} after {took:.1f} s more")
                assert twin.process is not None
                writes, began = statuses.events + devices.events, time.monotonic()
                result, last = await play(load, shares, broker, twin.process.pid, Path(folder))
                writes_per_s = (statuses.events + devices.events - writes) / (
                    time.monotonic() - began
                )

                def wrong() -> int:
                    shown = statuses.objects()
                    return sum(reported(shown[name]) != value for name, value in last.items())

                caught_up = await until_shown(lambda: wrong() == 0)
                return {
                    **result,
                    "create_s": round(created, 1),
                    "known_at_edge_s": round(known, 1),
                    "load_api_writes_per_s": round(writes_per_s, 1),
                    "api_caught_up_s": round(caught_up, 1),
                    "api_values_wrong": wrong(),
                }


async def measure_alone(load: Load) -> dict[str, float]:
    """Measure an edge's broker and twin alone, with no cloud."""
    amqp, dist, mqtt, cloud = free_ports(4)
    node = NodeName(EDGE)
    shares = load.shares()
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        server = RabbitMQ(
            name="edge",
            folder=folder / "broker",
            place=Machine(),
            definitions=edge_definitions(
                node=node, admin=ADMIN, link=LINK, cloud=f"{LOOPBACK}:{cloud}"
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
                "FEDGE_EDGE_NODE_NAME": node,
                "FEDGE_EDGE_AMQP_URL": f"amqp://{account}@{LOOPBACK}:{amqp}/",
                "FEDGE_EDGE_DATA_DIR": str(folder / "data"),
                "FEDGE_TWIN_MQTT_URL": f"mqtt://{account}@{LOOPBACK}:{mqtt}",
            },
        )
        await give(folder / "data" / "meta.db", shares)
        broker = Broker(host=LOOPBACK, port=mqtt, user=ADMIN.name, password=ADMIN.password)
        async with started(server), started(twin):
            assert twin.process is not None
            result, _ = await play(load, shares, broker, twin.process.pid, folder)
    return {f"alone_{name}": value for name, value in result.items()}


async def separated(edge: Edge) -> Program:
    """Run an edge's services anew, with twin in a process of its own; return that."""
    await edge.services.stop()
    rest, twin = (
        Program(
            name=name,
            services=services,
            folder=edge.folder / name,
            place=edge.host,
            settings=edge.services.variables(),
        )
        for name, services in (("meta-edged", ("meta", "edged")), ("twin", ("twin",)))
    )
    for each in (rest, twin):
        await each.start()
    for each in (rest, twin):
        await each.ready()
    return twin


async def create(kube: KubeClient, broker: Broker, shares: Shares) -> tuple[float, float]:
    """Create devices at the API; return when all are, and when their node knows all."""
    for namespace in shares:
        await kube.create(
            NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        )
    objects = (
        device(name, None, namespace=namespace) for namespace, names in shares.items()
        for name in names
    )  # fmt: skip
    missing = {f"{namespace}/{name}" for namespace, names in shares.items() for name in names}

    async def create_some() -> None:
        for each in objects:
            await kube.create(DEVICES, each)

    def is_all(_: str, body: Any) -> bool:
        missing.difference_update(each["id"] for each in body["added_devices"])
        return not missing

    async with aiomqtt.Client(
        broker.host, broker.port, username=broker.user, password=broker.password
    ) as client:
        mqtt = Mqtt(client)
        async with beside(mqtt.run()):
            await client.subscribe(f"$hw/events/node/{EDGE}/membership/updated", qos=1)
            began = time.monotonic()
            await asyncio.gather(*(create_some() for _ in range(CREATORS)))
            created = time.monotonic() - began
            await mqtt.until(is_all, seconds=CAUGHT_UP_SECONDS)
            return created, time.monotonic() - began


async def until_shown(so: Callable[[], bool]) -> float:
    """Look until something is so, or has taken too long; return the seconds it took."""
    began = time.monotonic()
    while not so() and time.monotonic() - began < CAUGHT_UP_SECONDS:  # noqa: ASYNC110 - a look is dear
        await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - began


async def give(path: Path, shares: Shares) -> None:
    """Keep devices as meta does."""
    numbers = itertools.count(1)
    async with ObjectStore.opened(path) as store:
        for namespace, names in shares.items():
            for name, number in zip(names, numbers, strict=False):
                obj = device(name, None, namespace=namespace)
                obj["metadata"]["uid"] = f"uid-{number}"
                key = ObjectKey(DEVICES_RESOURCE, namespace, name)
                change = Change(key=key, version=Version(number, number), object=obj)
                await store.apply(change, [])


async def play(
    load: Load, shares: Shares, broker: Broker, twin_pid: int, folder: Path
) -> tuple[dict[str, float], dict[str, str]]:
    """Have processes play the devices; return what was found, and each device's last value."""
    async with contextlib.AsyncExitStack() as running:
        loaders = [
            await running.enter_async_context(
                player(
                    "load", broker, folder,
                    per_second=load.per_second / LOADERS,
                    seconds=load.seconds,
                    namespace=namespace,
                    names=list(names),
                )
            )
            for namespace, names in shares.items()
        ]  # fmt: skip
        for each in loaders:
            await each.hear("ready")
        before, began = cpu_seconds(twin_pid), time.monotonic()
        for each in loaders:
            await each.tell("go")
        for each in loaders:
            await each.hear("said")
        busy = (cpu_seconds(twin_pid) - before) / (time.monotonic() - began)
        words = [await each.hear("done") for each in loaders]
        memory = rss_mb(twin_pid)
    took = max(word["seconds"] for word in words)
    taken = sum(word["taken"] for word in words)
    result = {
        "devices": load.devices,
        "reports_per_s": round(taken / took),
        "reports_sent": sum(word["sent"] for word in words),
        "reports_taken": taken,
        "reports_refused": sum(word["refused"] for word in words),
        "values_wrong": sum(word["wrong"] for word in words),
        "twin_cpu_percent": round(busy * 100, 1),
        "twin_rss_mb": round(memory, 1),
    }
    return result, {name: value for word in words for name, value in word["last"].items()}


@asynccontextmanager
async def player(role: str, broker: Broker, folder: Path, **given: Any) -> AsyncIterator[Worker]:
    """Have a process that plays devices."""
    where = {
        "host": broker.host, "port": broker.port, "user": broker.user, "password": broker.password
    }  # fmt: skip
    async with Worker.started(
        "bench.twins", "--role", role, given={**given, **where}, log=folder / "players.log"
    ) as worker:
        yield worker


@asynccontextmanager
async def connected(given: Word) -> AsyncIterator[aiomqtt.Client]:
    """Connect as a player was told to.

    More messages in flight cost the library more: it looks at each when one is confirmed.
    """
    async with aiomqtt.Client(
        given["host"], given["port"], username=given["user"], password=given["password"],
        max_inflight_messages=100,
    ) as client:  # fmt: skip
        yield client


async def serve_steady(boss: Boss, given: Word) -> None:
    """Be a few devices that report in turn, each report with the next number of its device."""
    names: list[str] = given["names"]
    async with connected(given) as client:
        publish = client._client.publish  # noqa: SLF001 - the library's own waits for each
        boss.tell("ready")
        await boss.hear()
        began = time.monotonic()
        boss.tell("began", at=began)
        total = int(given["seconds"] * given["per_second"])
        async for number in paced(total, began, given["per_second"]):
            name = names[number % len(names)]
            publish(f"{given['topic']}/{name}/twin/update", report(str(number // len(names))), 1)
        boss.tell("said", seconds=time.monotonic() - began)
        with contextlib.suppress(EOFError):
            await boss.hear()


async def serve_load(boss: Boss, given: Word) -> None:
    """Be many devices that report at random."""
    names: list[str] = given["names"]
    topic = f"{ALL_TOPICS}/{given['namespace']}"
    answers: Counter[str] = Counter()
    last: dict[str, str] = {}
    came = asyncio.Event()
    found: dict[str, str | None] = {}

    async def hear(messages: AsyncIterator[aiomqtt.Message]) -> None:
        async for message in messages:
            *_, name, _, what, _ = str(message.topic).split("/")
            assert isinstance(message.payload, bytes)
            if what == "get":
                twin = json.loads(message.payload).get("twin", {})
                found[name] = (twin.get(PROPERTY, {}).get("actual") or {}).get("value")
            else:  # values are numbers here, so that it need not be read whole
                answers["refused" if b'"code"' in message.payload else "taken"] += 1
            came.set()

    async with connected(given) as client:
        for what in ("update", "get"):
            await client.subscribe(f"{topic}/+/twin/{what}/result", qos=0)
        publish = client._client.publish  # noqa: SLF001 - the library's own waits for each
        async with beside(hear(client.messages)):
            boss.tell("ready")
            await boss.hear()
            began = time.monotonic()
            total = int(given["seconds"] * given["per_second"])
            async for number in paced(total, began, given["per_second"]):
                name = random.choice(names)  # noqa: S311 - nothing secret
                last[name] = str(number)
                publish(f"{topic}/{name}/twin/update", report(last[name]), 1)
            await until(came, lambda: answers.total() >= total)
            seconds = time.monotonic() - began
            boss.tell("said")
            for name in last:
                publish(f"{topic}/{name}/twin/get", "{}", 1)
            await until(came, lambda: len(found) >= len(last))
            boss.tell(
                "done",
                sent=total,
                taken=answers["taken"],
                refused=answers["refused"],
                seconds=seconds,
                wrong=sum(found.get(name) != value for name, value in last.items()),
                last=last,
            )


async def paced(total: int, began: float, per_second: float) -> AsyncIterator[int]:
    """Count, as fast as wished."""
    number = 0
    while number < total:
        for each in range(number, min(total, int((time.monotonic() - began) * per_second) + 1)):
            number = each + 1
            yield each
        await asyncio.sleep(0.005)


async def until(came: asyncio.Event, so: Callable[[], bool]) -> None:
    """Wait until something is so, as long as there is news of it."""
    while not so():
        came.clear()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await came.wait()
        except TimeoutError:
            return  # the counts tell
