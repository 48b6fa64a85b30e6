"""What becomes of a million events that are made while the line to the cloud is cut.

They are published at the edge's broker, which has the memory limit of a small gateway, so that it
makes the publisher wait now and then. Then the line is mended, breaks once more when half of the
events have left the edge, and all of them have to reach a consumer in the cloud, through shovel and
hub as every other. The consumer keeps the promise that hub gives it: it knows repeats by their
numbers, and checks that each key's events come in the order in which they were made.

What is lost, has its effect twice or comes after a later one of its key makes the run fail. Beside
the times it tells how much memory each process took at most before the outage, in it, while the
events went up, and after.

Run it with ``make bench-outage``.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.reporting import tell
from bench.running import Boss, Worker, free_ports, run, started
from bench.sampling import Sampling
from fedge_edged.reporting import Reporting
from fedge_fabric import Address, Envelope, MessageClass, UnavailableError
from fedge_fabric import topology as t
from fedge_fabric.definitions import User, cloud_definitions, edge_definitions
from fedge_fabric.fabric import Delivery, Fabric
from fedge_fabric.streams import Ledger, Numbering
from fedge_local.line_proxy import LineProxy
from fedge_local.processes import Machine
from fedge_local.programs import Program
from fedge_local.rabbitmq import EDGE_PLUGINS, RabbitMQ
from fedge_local.redis import Redis
from fedge_objects import NodeName
from fedge_service import backoff

EVENTS = 1_000_000
KEYS = 256
"""Each key's events are made one after the other, so as many are under way at once."""
NODE = NodeName("edge-1")
ADMIN = User(name="fedge", password="fedge")  # noqa: S106 - for this run
LINK = User(name=NODE, password="link")  # noqa: S106
LOOPBACK = "127.0.0.1"
EDGE_MEMORY_BYTES = 256_000_000
"""As the local stack's edges have it."""
QUIET_SECONDS = 5.0
"""How long is looked at what the processes take while nothing happens."""
STALLED_SECONDS = 120.0
"""With no event for so long, those that are missing count as lost."""
STARTS_WITHIN_SECONDS = 60.0
TELL_SECONDS = 0.5
HEARTBEAT_SECONDS = 10.0
_WORD = "bench"
_QUEUE = t.Queue(
    "bench.events", (t.Binding(t.REPORTED, f"node.*.event.{_WORD}.#"),), 256, ordered=True
)


class Clock:
    """The machine's."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()


@dataclass(slots=True)
class Making:
    """An application on the edge that makes events, each until the broker has confirmed it."""

    fabric: Fabric
    numbering: Numbering = field(default_factory=lambda: Numbering(_WORD))
    made: Counter[str] = field(default_factory=Counter)
    again: int = 0
    longest_seconds: float = 0.0

    async def make(self, count: int) -> None:
        """Make so many, the keys side by side."""
        numbers = iter(range(count))
        async with asyncio.TaskGroup() as tasks:
            for key in range(KEYS):
                tasks.create_task(self._make(f"meter-{key}", numbers), name=f"meter-{key}")

    async def _make(self, key: str, numbers: Iterator[int]) -> None:
        address = str(Address(NODE, MessageClass.EVENT, (_WORD, key)))
        for _ in numbers:
            reading = {"key": key, "number": self.made[key], "value": 21.5, "unit": "C"}
            event = self.numbering.number(
                Envelope(
                    type="fedge.bench.measured",
                    source=f"/node/{NODE}/{_WORD}",
                    subject=key,
                    data=reading,
                )
            )
            began = time.monotonic()
            async for waited in backoff(first_seconds=0.1, most_seconds=2):
                self.again += waited > 0
                try:
                    await self.fabric.publish(event, exchange=t.UP, routing_key=address)
                except UnavailableError:
                    continue
                break
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
            self.made[key] += 1


async def make_events(boss: Boss, url: str) -> None:
    """Make events when told; say meanwhile that the node is alive, as edged does."""
    events = Fabric(url, service=_WORD, exchanges=t.EDGE_EXCHANGES)
    edged = Fabric(url, service="edged", exchanges=t.EDGE_EXCHANGES)

    async def ignore(_: Delivery) -> None:
        """There are no pods whose statuses could be told."""

    edged.subscribe(t.edge_request("edged", NODE, ("statuses",)), ignore)
    making = Making(events)
    reporting = Reporting(node=NODE, incarnation=1, clock=Clock())
    async with events.running(), edged.running():
        living = asyncio.create_task(reporting.alive(edged, HEARTBEAT_SECONDS), name="alive")
        telling = asyncio.create_task(_say_how_many(boss, making, edged), name="progress")
        try:
            boss.tell("ready")
            while True:
                await making.make((await boss.hear())["count"])
                boss.tell(
                    "made",
                    made=making.made,
                    again=making.again,
                    longest_seconds=making.longest_seconds,
                )
        finally:
            for each in (living, telling):
                each.cancel()
            await asyncio.gather(living, telling, return_exceptions=True)


async def _say_how_many(boss: Boss, making: Making, fabric: Fabric) -> None:
    queue = t.up_queue(MessageClass.EVENT)
    while True:
        await asyncio.sleep(TELL_SECONDS)
        try:
            waiting = (await fabric.depths([queue]))[queue].messages
        except UnavailableError:
            continue
        boss.tell("making", count=making.made.total(), waiting=waiting)


@dataclass(slots=True)
class Taking:
    """A service in the cloud for which each event has its effect once: it counts them by key."""

    ledgers: dict[str, Ledger] = field(default_factory=dict)
    effects: dict[str, Ledger] = field(default_factory=dict)
    repeats: int = 0
    twice: int = 0
    disordered: int = 0
    count: int = 0

    async def take(self, delivery: Delivery) -> None:
        """Have an event's effect, unless it is known by its number in the stream."""
        envelope = delivery.envelope
        assert envelope.sequence is not None
        if not self.ledgers.setdefault(envelope.stream, Ledger()).add(envelope.sequence):
            self.repeats += 1
            return
        key, number = envelope.data["key"], envelope.data["number"]
        effects = self.effects.setdefault(key, Ledger())
        self.twice += effects.has(number)
        self.disordered += number < effects.next and not effects.has(number)
        effects.add(number)
        self.count += 1


async def take_events(boss: Boss, url: str) -> None:
    """Take events; say how many came, and at the end of which key."""
    taking = Taking()
    fabric = Fabric(url, service=_WORD, exchanges=t.CLOUD_EXCHANGES)
    fabric.subscribe(_QUEUE, taking.take)
    async with fabric.running():
        telling = asyncio.create_task(_say_what_came(boss, taking), name="progress")
        try:
            boss.tell("ready")
            while True:
                await boss.hear()
                boss.tell(
                    "taken",
                    missing={
                        key: {"next": each.next, "missing": each.missing}
                        for key, each in taking.effects.items()
                    },
                    repeats=taking.repeats,
                    twice=taking.twice,
                    disordered=taking.disordered,
                )
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)


async def _say_what_came(boss: Boss, taking: Taking) -> None:
    while True:
        await asyncio.sleep(TELL_SECONDS)
        boss.tell("taking", count=taking.count)


ROLES = {"make": make_events, "take": take_events}


class Setting:
    """A cloud and an edge with a line between them that can be cut."""

    def __init__(self, folder: Path) -> None:
        amqp, dist, edge_amqp, edge_dist, mqtt, line, redis, http = free_ports(8)
        machine = Machine()
        self.folder = folder
        self.line = LineProxy(listen=LOOPBACK, target=(LOOPBACK, amqp), port=line)
        self.cloud = RabbitMQ(
            name="cloud",
            folder=folder / "cloud",
            place=machine,
            definitions=cloud_definitions(admin=ADMIN, nodes={NODE: LINK}),
            listen=[(LOOPBACK, amqp)],
            dist_port=dist,
        )
        self.edge = RabbitMQ(
            name="edge",
            folder=folder / "edge",
            place=machine,
            definitions=edge_definitions(
                node=NODE, admin=ADMIN, link=LINK, cloud=f"{LOOPBACK}:{line}"
            ),
            plugins=EDGE_PLUGINS,
            listen=[(LOOPBACK, edge_amqp)],
            mqtt=(LOOPBACK, mqtt),
            dist_port=edge_dist,
            memory_bytes=EDGE_MEMORY_BYTES,
        )
        self.redis = Redis(folder=folder / "redis", place=machine, port=redis)
        self.cloud_url = f"amqp://{ADMIN.name}:{ADMIN.password}@{LOOPBACK}:{amqp}/"
        self.edge_url = f"amqp://{ADMIN.name}:{ADMIN.password}@{LOOPBACK}:{edge_amqp}/"
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
        self.meta = Program(
            name="meta",
            services=("meta",),
            folder=folder / "meta",
            place=machine,
            settings={
                "FEDGE_EDGE_NODE_NAME": NODE,
                "FEDGE_EDGE_AMQP_URL": self.edge_url,
                "FEDGE_EDGE_DATA_DIR": str(folder / "meta" / "data"),
                "FEDGE_META_CLOUD_ADDRESS": f"{LOOPBACK}:{line}",
                "FEDGE_META_BROKER_COMMAND": json.dumps(self.edge.asking("bench-links")),
            },
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run all but the line; kill it at the end."""
        async with started(self.cloud, self.edge, self.redis), started(self.hub, self.meta):
            yield

    def sampling(self, makes: Worker, takes: Worker) -> Sampling:
        """Return what looks at everything that runs."""
        servers = {
            "edge_broker": self.edge,
            "cloud_broker": self.cloud,
            "hub": self.hub,
            "meta": self.meta,
            "redis": self.redis,
        }

        def pid_of(name: str) -> int | None:
            process = servers[name].process
            return None if process is None else process.pid

        return Sampling(
            {
                **{name: lambda name=name: pid_of(name) for name in servers},  # type: ignore[misc]  # mypy sees no type of a default
                "publisher": lambda: makes.pid,
                "consumer": lambda: takes.pid,
            },
            {"edge_disk": self.edge.folder / "mnesia"},
        )

    async def status(self) -> Mapping[str, Any]:
        """Return what hub knows of the node."""
        async with (
            aiohttp.ClientSession(self.hub_url) as session,
            session.get(f"/nodes/{NODE}/status") as response,
        ):
            found: Mapping[str, Any] = await response.json() if response.status == 200 else {}
            return found

    def alarms(self, server: RabbitMQ) -> int:
        """Return how often a broker made publishers wait."""
        return server.log.read_text(errors="replace").count("resource limit alarm set")


@dataclass(slots=True)
class Measuring:
    """One outage."""

    setting: Setting
    makes: Worker
    takes: Worker
    sampling: Sampling
    came: int = 0
    left_at: float | None = None

    async def measure(self, count: int) -> dict[str, float | int | str]:
        """Return what became of so many events."""
        first = max(KEYS, count // 100)
        async with AsyncExitStack() as line:
            await line.enter_async_context(self.setting.line)
            await self._make(first)
            await self._until_came(first)
            await asyncio.sleep(QUIET_SECONDS)
            print(f"{first} came while the line was up; it is cut", flush=True)
        self.sampling.phase = "outage"
        began = time.monotonic()
        made = await self._make(count)
        making_seconds = time.monotonic() - began
        assert self.came == first, "events came while the line was cut"
        self.sampling.phase = "drain"
        began = time.monotonic()
        async with self.setting.line, asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(self._leave(count), name="leave")
            await self._until_came(first + count)
            draining_seconds = time.monotonic() - began
            leaving.cancel()
            self.sampling.phase = "after"
            await asyncio.sleep(QUIET_SECONDS)
            known = await self.setting.status()
            await self.takes.tell("tell")
            taken = await self.takes.hear("taken")
        lost = _lost(made["made"], taken["missing"])
        return {
            "events": count,
            "lost": lost,
            "twice": taken["twice"],
            "disordered": taken["disordered"],
            "repeats_recognised": taken["repeats"] + known["events"]["duplicates"],
            "hub_missing": known["events"]["missing"],
            "made_per_s": round(count / making_seconds),
            "made_again": made["again"],
            "longest_confirm_s": round(made["longest_seconds"], 1),
            "leave_s": round((self.left_at or time.monotonic()) - began, 1),
            "drain_s": round(draining_seconds, 1),
            "drain_per_s": round(count / draining_seconds),
            "edge_alarms": self.setting.alarms(self.setting.edge),
            "cloud_alarms": self.setting.alarms(self.setting.cloud),
            **self.sampling.peaks(),
        }

    async def _make(self, count: int) -> Mapping[str, Any]:
        await self.makes.tell("make", count=count)
        while (word := await self.makes.hear("making", "made"))["said"] == "making":
            print(f"{word['count']} made", flush=True)
        return word

    async def _leave(self, count: int) -> None:
        """Break the line when half has left the edge; take note when all has."""
        waiting, is_broken = count, False
        while waiting:
            waiting = (await self.makes.hear("making"))["waiting"]
            if waiting <= count // 2 and not is_broken:
                print("the line breaks and comes back", flush=True)
                self.setting.line.reset()
                is_broken = True
        self.left_at = time.monotonic()

    async def _until_came(self, count: int) -> None:
        """Wait until so many came, or no more come."""
        last = time.monotonic()
        while self.came < count and time.monotonic() - last < STALLED_SECONDS:
            came = (await self.takes.hear("taking"))["count"]
            if came > self.came:
                last = time.monotonic()
                print(f"{came} came", flush=True)
            self.came = came


def _lost(made: Mapping[str, int], taken: Mapping[str, Mapping[str, int]]) -> int:
    nothing = {"next": 0, "missing": 0}
    return sum(
        count - taken.get(key, nothing)["next"] + taken.get(key, nothing)["missing"]
        for key, count in made.items()
    )


async def measure(count: int) -> dict[str, float | int | str]:
    """Return what becomes of so many events through an outage."""
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as folder:
        setting = Setting(Path(folder))
        module = "bench.outage"
        async with (
            setting.running(),
            Worker.started(
                module, "--role", "take",
                given={"url": setting.cloud_url}, log=Path(folder) / "take.log",
            ) as takes,
            Worker.started(
                module, "--role", "make",
                given={"url": setting.edge_url}, log=Path(folder) / "make.log",
            ) as makes,
        ):  # fmt: skip
            async with asyncio.timeout(STARTS_WITHIN_SECONDS):
                await takes.hear("ready")
                await makes.hear("ready")
            sampling = setting.sampling(makes, takes)
            async with sampling.going_on():
                measuring = Measuring(setting, makes, takes, sampling)
                return await measuring.measure(count)


def is_good(result: Mapping[str, float | int | str]) -> bool:
    """Whether every event had its effect once and in order."""
    return not any(result[name] for name in ("lost", "twice", "disordered", "hub_missing"))


async def _serve(role: str) -> None:
    boss = await Boss.found()
    given = await boss.hear()
    try:
        await ROLES[role](boss, given["url"])
    except EOFError:
        return


async def _measure_and_tell(count: int) -> bool:
    result = await measure(count)
    tell("outage", result)
    return is_good(result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Send events through an outage.")
    parser.add_argument("--role", choices=ROLES)
    parser.add_argument("--events", type=int, default=EVENTS)
    arguments = parser.parse_args()
    if arguments.role:
        asyncio.run(_serve(arguments.role))
    else:
        run(_measure_and_tell(arguments.events))
