"""Devices: how fast a wish comes down and a report goes up, and how many devices one edge bears.

1. On a whole system of one cloud and one edge: a patch of a Device at the API until the delta is on
   the device's topic, and a report over MQTT until it is in the DeviceStatus at the API. Beside
   them the floor, measured in the same run: one write at the API until its watch tells of it, one
   message over the bare link between the brokers, one over MQTT.
2. On the same system thirty devices: first (``few``) a hundred reports a second of all together,
   then a hundred of each. What the API is made to write (requests, and commits to its disk), and
   how old the value there is at most.
3. Very many devices, on a whole system whose twin is a process of its own, and on an edge's broker
   and twin alone (``alone``): all reports must be taken and answered, and the last value of each
   device must be the last that was sent, at twin and at the API (`bench.many_devices`).

Run it with ``make bench-twins``; ``--small`` does a little of each and keeps no result.
"""

import argparse
import asyncio
import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import aiomqtt

from bench.devices import (
    DEADLINE_SECONDS,
    DEVICE_STATUSES,
    DEVICES,
    NAMESPACE,
    PROPERTY,
    TOPIC,
    Mqtt,
    Watched,
    beside,
    device,
    report,
    reported,
    serve_kinds,
)
from bench.many_devices import (
    LOOPBACK,
    Broker,
    Load,
    measure_alone,
    measure_many,
    player,
    serve_load,
    serve_steady,
)
from bench.pods import EDGE, node_is_ready, running_stack, say
from bench.reporting import p50, tell
from bench.running import Boss, run
from fedge_fabric import topology as t
from fedge_kube import CONFIG_MAPS, KubeClient
from fedge_local.edge import Edge
from fedge_local.processes import Place

ROUNDS = 200
WARM_UP = 10
FEW, FEW_SECONDS = 30, 10.0
FEW_TOGETHER_PER_SECOND = 100
"""Reports of all of them together at first."""
FIRST_SECONDS = 2.0
"""Ages are not looked at before: the first report of each device passes at once."""
PAUSE_SECONDS = 0.02
REPORT_PAUSE_SECONDS = 1.1
"""A device's next report must not wait for the end of what is told together."""
LOAD = Load(devices=10_000, per_second=2_000, seconds=30.0)
ROLES = {"load": serve_load, "steady": serve_steady}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    rounds: int = ROUNDS
    warm_up: int = WARM_UP
    few_seconds: float = FEW_SECONDS
    few_each_per_second: int = 100
    load: Load = LOAD


SMALL = Size(
    rounds=5, warm_up=2, few_seconds=4.0, few_each_per_second=20,
    load=Load(devices=200, per_second=400, seconds=3.0),
)  # fmt: skip


def p99(seconds: Sequence[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 1)


async def measure_ways(
    kube: KubeClient, mqtt: Mqtt, statuses: Watched, size: Size
) -> dict[str, float]:
    """Return how long a wish takes down, and a report up."""
    topic = f"{TOPIC}/one/twin/update"
    await mqtt.client.subscribe(f"{topic}/delta", qos=1)
    await kube.create(DEVICES, device("one"))
    await mqtt.until(lambda _, body: body.get("delta") == {PROPERTY: "0"})
    desired, reports = [], []
    for number in range(size.warm_up + size.rounds):
        value = str(number + 1)
        patch = {"properties": [{"name": PROPERTY, "desired": {"value": value}}]}
        began = time.perf_counter()
        await kube.patch(DEVICES, NAMESPACE, "one", {"spec": patch})
        at = await mqtt.until(lambda _, body, v=value: body.get("delta") == {PROPERTY: v})  # type: ignore[misc]  # mypy sees no type of a default
        desired.append(at - began)
        await asyncio.sleep(PAUSE_SECONDS)
    for number in range(size.warm_up + size.rounds):
        await asyncio.sleep(REPORT_PAUSE_SECONDS)
        value = f"r{number}"
        began = time.perf_counter()
        await mqtt.client.publish(topic, report(value), qos=1)
        at = await statuses.until("one", lambda status, v=value: reported(status) == v)  # type: ignore[misc]
        reports.append(at - began)
    await kube.delete(DEVICES, NAMESPACE, "one")
    return {
        "desired_p50_ms": p50(desired[size.warm_up :]),
        "desired_p99_ms": p99(desired[size.warm_up :]),
        "reported_p50_ms": p50(reports[size.warm_up :]),
        "reported_p99_ms": p99(reports[size.warm_up :]),
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
    kube: KubeClient, broker: Broker, statuses: Watched, folder: Path, size: Size
) -> dict[str, float]:
    """Return what a few devices cost the API, and how old the value there is at most."""
    found: dict[str, float] = {"few_devices": FEW}
    devices, seconds = Watched(kube, DEVICES), size.few_seconds
    rates = {"few_": FEW_TOGETHER_PER_SECOND, "": FEW * size.few_each_per_second}
    async with beside(devices.run()):
        await devices.listed.wait()
        for prefix, per_second in rates.items():
            names = [f"{prefix or 'busy_'}{number}".replace("_", "-") for number in range(FEW)]
            for name in names:
                await kube.create(DEVICES, device(name))
            for name in names:
                await statuses.until(name, lambda status: bool(status.get("status")))
            await asyncio.sleep(2)
            async with player(
                "steady", broker, folder,
                topic=TOPIC, names=names, per_second=per_second, seconds=seconds,
            ) as worker:  # fmt: skip
                await worker.hear("ready")
                before = statuses.events + devices.events
                await worker.tell("go")
                began = (await worker.hear("began"))["at"]
                store = folder / "cloud/apiserver/objects.db"
                oldest, commits = await look(statuses, names, store, began, per_second, seconds)
                writes = statuses.events + devices.events - before
                took = (await worker.hear("said"))["seconds"]
                total = int(per_second * seconds)
                for index, name in enumerate(names):
                    last = str((total - 1 - index) // FEW)
                    await statuses.until(name, lambda status, v=last: reported(status) == v)  # type: ignore[misc]
            for name in names:
                await kube.delete(DEVICES, NAMESPACE, name)
            found |= {
                f"{prefix}offered_per_s": round(total / took),
                f"{prefix}api_writes_per_s": round(writes / seconds, 1),
                f"{prefix}api_commits_per_s": round(commits / seconds, 1),
                f"{prefix}newest_age_ms_max": round(oldest * 1000),
            }
    return found


async def look(
    statuses: Watched, names: Sequence[str], store: Path, began: float, per_second: int,
    seconds: float,
) -> tuple[float, int]:  # fmt: skip
    """Return how old the API's values became at most, and how often it wrote its disk.

    A value is as old as the report is that should have replaced it: as the time when that was due.
    """
    oldest, commits, version = 0.0, 0, 0
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as objects:
        while (now := time.monotonic()) - began < seconds:
            for index, name in enumerate(names):
                shown = reported(statuses.objects()[name])
                following = 0 if shown is None else int(shown) + 1
                due = began + (following * len(names) + index) / per_second
                if now - began > FIRST_SECONDS:
                    oldest = max(oldest, now - due)
            # https://www.sqlite.org/pragma.html#pragma_data_version: another one after a commit
            [found] = objects.execute("PRAGMA data_version").fetchone()
            commits, version = commits + (found != version), found
            await asyncio.sleep(0.005)
    return oldest, commits


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
                    ways = await measure_ways(kube, mqtt, statuses, size)
                    say("the floor")
                    edge_url = f"amqp://{edge.account}@{LOOPBACK}:{amqp}/"
                    floor = await measure_floor(kube, mqtt, stack.amqp_url, edge_url, size.rounds)
                    say("thirty devices")
                    broker = Broker(host=host, port=port, user=user, password=password)
                    few = await measure_few(kube, broker, statuses, Path(folder), size)
    return {**ways, **floor, **few}


async def measure(size: Size) -> dict[str, float]:
    """Measure all."""
    result = await measure_system(size)
    say("very many devices")
    result |= await measure_many(size.load)
    say("very many devices of a twin alone")
    return {**result, **await measure_alone(size.load)}


def is_good(result: Mapping[str, float]) -> bool:
    """Whether nothing was lost."""
    return result["api_values_wrong"] == 0 and all(
        result[f"{where}values_wrong"] == 0
        and result[f"{where}reports_taken"] == result[f"{where}reports_sent"]
        for where in ("", "alone_")
    )


async def main(*, is_small: bool) -> bool:
    """Measure and tell."""
    result = await measure(SMALL if is_small else Size())
    if is_small:
        print(json.dumps(result))
    else:
        tell("twins", result)
    return is_good(result)


async def take_part(role: str) -> bool:
    """Play devices."""
    boss = await Boss.found()
    with contextlib.suppress(EOFError):
        await ROLES[role](boss, await boss.hear())
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=ROLES)
    parser.add_argument("--small", action="store_true", help="a little of each; nothing is kept")
    arguments = parser.parse_args()
    run(take_part(arguments.role) if arguments.role else main(is_small=arguments.small))
