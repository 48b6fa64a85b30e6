"""Faults at random over everything, under load: nothing may diverge, be lost, run twice or restart.

``make chaos FAULTS=200 SEED=7`` runs it by itself. A seed gives the order of the faults, their
kinds and how long they last; what the processes do meanwhile is their own.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import structlog
import yaml
from redis.asyncio import Redis

from fedge_cli.demo import SETTINGS
from fedge_device.kinds.resources import DEVICE_MODELS, DEVICES
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_fabric.streams import Ledger
from fedge_kube import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    NODES,
    PODS,
    KubeClient,
    KubeError,
    NotFoundError,
)
from fedge_local import faults
from fedge_local.edge import AMQP_PORT, MQTT_PORT
from fedge_local.fault_records import FaultKind
from fedge_local.faults import CLOUD, Direction, Part
from fedge_local.processes import Process
from fedge_local.stack import Stack
from fedge_objects import JsonObject
from tests.chaos import load
from tests.chaos.checker import (
    PREFIX,
    Arrivals,
    Edge,
    Promise,
    State,
    accepted_events,
    accepted_readings,
    compare_events,
)
from tests.chaos.pods import IMAGE, MARK, Witness, marked

EDGE = "edge-1"
NAMESPACE = "default"
STABLE = ("stable-0", "stable-1")
DEVICE_NAMES = ("meter-0", "meter.1")
EVENT_KEYS = ("a", "b", "c.d")
MAPS = tuple(f"{PREFIX}{number}" for number in range(8))
DISK_BYTES = 256 * 2**20
CONVERGES_WITHIN_SECONDS = 60.0
"""After so long it counts as diverged."""
_REPOSITORY = Path(__file__).resolve().parents[2]
_QUEUE = t.Queue(
    "chaos.events", (t.Binding(t.REPORTED, f"node.*.event.{load.WORD}.#"),), 256, ordered=True
)


def say(text: str) -> None:
    """Tell how it goes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Consumer:
    """Takes the events in the cloud, as a user's service would."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals

    async def take(self, delivery: Delivery) -> None:
        """Have an event's effect, once."""
        envelope = delivery.envelope
        text = self._arrivals.ledger(envelope.stream)
        ledger = Ledger() if text is None else Ledger.parse(text)
        assert envelope.sequence is not None
        if not ledger.add(envelope.sequence):
            self._arrivals.repeats += 1
            return
        data = envelope.data
        self._arrivals.take(data["key"], data["number"], envelope.stream, ledger.as_text())


@dataclass(slots=True)
class Writer:
    """Changes objects at the API, one after the other, and knows what was accepted."""

    kube: KubeClient
    chance: random.Random
    written: dict[str, int] = field(default_factory=dict)
    desired: dict[str, int] = field(default_factory=dict)
    count: int = 0
    churned: str = ""
    _go: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Write until cancelled, whenever it may."""
        while True:
            self._idle.set()
            await self._go.wait()
            self._idle.clear()
            await self._until_accepted(self._something())
            await asyncio.sleep(0.1)  # the load's own pace

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write meanwhile; what was begun is finished at the end."""
        self._go.set()
        try:
            yield
        finally:
            self._go.clear()

    async def stopped(self) -> None:
        """Wait until what was begun was accepted."""
        await self._idle.wait()

    async def _until_accepted(self, change: "Callable[[], object]") -> None:
        while True:
            try:
                await change()  # type: ignore[misc]
            except KubeError:
                await asyncio.sleep(0.2)
            else:
                return

    def _something(self) -> "Callable[[], object]":
        self.count += 1
        number, what = self.count, self.chance.random()
        if what < 0.2:
            device = self.chance.choice(DEVICE_NAMES)
            return lambda: self._wish(device, number)
        if what < 0.23:
            return lambda: self._churn(number)
        name = self.chance.choice(MAPS)
        if what < 0.35:
            return lambda: self._delete(name)
        return lambda: self._put(name, number)

    async def _put(self, name: str, number: int) -> None:
        data = {"n": str(number), "padding": "x" * self.chance.choice((10, 1000, 30_000))}
        try:
            await self.kube.patch(CONFIG_MAPS, NAMESPACE, name, {"data": data})
        except NotFoundError:
            await self.kube.create(
                CONFIG_MAPS,
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": name, "namespace": NAMESPACE},
                    "data": data,
                },
            )
        self.written[name] = number

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(NotFoundError):
            await self.kube.delete(CONFIG_MAPS, NAMESPACE, name)
        self.written.pop(name, None)

    async def _wish(self, device: str, number: int) -> None:
        wish = [{"name": "reading"}, {"name": "level", "desired": {"value": str(number)}}]
        await self.kube.patch(DEVICES, NAMESPACE, device, {"spec": {"properties": wish}})
        self.desired[device] = number

    async def _churn(self, number: int) -> None:
        if self.churned:
            with contextlib.suppress(NotFoundError):
                await self.kube.delete(PODS, NAMESPACE, self.churned, grace_seconds=0)
        self.churned = f"churn-{number}"
        await self.kube.create(PODS, pod(self.churned))


def pod(name: str, **spec: object) -> JsonObject:
    """Return a pod whose process bears a mark."""
    env = [
        {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": MARK, "value": f"$(UID)/{name}/main"},
    ]
    main = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/busybox", "sleep", "100000"],
        "env": env,
    }
    if "volumes" in spec:
        main["volumeMounts"] = [{"name": "maps", "mountPath": "/maps"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "nodeName": EDGE,
            "terminationGracePeriodSeconds": 0,
            "containers": [main],
            **spec,
        },
    }


def stable_pod(name: str) -> JsonObject:
    """Return a pod that sees all config maps, those that are there."""
    sources = [
        {"configMap": {"name": each, "optional": True, "items": [{"key": "n", "path": each}]}}
        for each in MAPS
    ]
    return pod(name, volumes=[{"name": "maps", "projected": {"sources": sources}}])


Maker = Callable[[Stack], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: of the kind.
        make: makes it, and heals it at its end.
        kind: of two of one kind only one can be made at a time.
        most_seconds: how long it lasts at most.
        processes: of which node it takes processes; two such are not made at once.
        restarts: whether containers end with it.
    """

    name: str
    make: Maker
    kind: FaultKind | None = None
    most_seconds: float = 8.0
    processes: str = ""
    restarts: bool = False


@asynccontextmanager
async def _flushed(stack: Stack) -> AsyncIterator[None]:
    async with Redis.from_url(f"redis://127.0.0.1:{stack.ports['redis']}/0") as redis:
        await redis.flushall()
        yield


def _killed(name: str, where: str, part: Part, most_seconds: float = 3.0) -> Fault:
    return Fault(
        name,
        lambda stack: faults.kill(stack, where, what=part),
        most_seconds=most_seconds,
        processes=where,
        restarts=part is Part.ALL,
    )


def _halfopen(direction: Direction) -> Fault:
    return Fault(
        f"half-open {direction}",
        lambda stack: faults.halfopen(stack, EDGE, direction=direction),
        FaultKind.HALFOPEN,
        12.0,
    )


def _stepped(name: str, seconds: int) -> Fault:
    return Fault(
        name, lambda stack: faults.clock(stack, EDGE, step_seconds=seconds), FaultKind.CLOCK
    )


def _paused(name: str, where: str, part: Part) -> Fault:
    return Fault(name, lambda stack: faults.pause(stack, where, what=part), processes=where)


_KINDS = (
    Fault("link cut", lambda stack: faults.cut(stack, EDGE), FaultKind.CUT, 15.0),
    Fault("link cut briefly", lambda stack: faults.cut(stack, EDGE), FaultKind.CUT, 3.0),
    *map(_halfopen, Direction),
    Fault("link lossy", lambda stack: faults.lossy(stack, EDGE, percent=30)),
    Fault(
        "link slow",
        lambda stack: faults.slow(stack, EDGE, delay_seconds=0.3, bytes_per_second=65536),
    ),
    _killed("cloud broker killed", CLOUD, Part.BROKER),
    _killed("Redis killed", CLOUD, Part.REDIS),
    Fault("Redis flushed", _flushed, most_seconds=1.0),
    _killed("hub killed", CLOUD, Part.HUB),
    _killed("controller killed", CLOUD, Part.CONTROLLER),
    _killed("device killed", CLOUD, Part.DEVICE),
    _killed("API server killed", CLOUD, Part.APISERVER),
    _paused("hub paused", CLOUD, Part.HUB),
    _killed("edge broker killed", EDGE, Part.BROKER),
    _killed("edge services killed", EDGE, Part.SERVICES),
    _killed("edge services killed briefly", EDGE, Part.SERVICES, 0.5),
    _paused("edge services paused", EDGE, Part.SERVICES),
    _killed("containerd killed", EDGE, Part.CONTAINERD),
    _killed("edge power cut", EDGE, Part.ALL),
    Fault("edge disk full", lambda stack: faults.fill_disk(stack, EDGE)),
    _stepped("edge clock an hour ahead", 3600),
    _stepped("edge clock an hour behind", -3600),
)
FAULTS = {each.name: each for each in _KINDS}
"""Every kind of fault by its name, which ``docs/guarantees.md`` uses too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a fault, or of two at once.

    Attributes:
        names: kinds of the faults.
        seconds: from the healing until all was as it should be.
        broken: what was not so in the end, by the promise.
    """

    names: tuple[str, ...]
    seconds: float
    broken: Mapping[Promise, Sequence[str]]


@dataclass(slots=True)
class Result:
    """What came of it."""

    outcomes: list[Outcome] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)

    @property
    def kinds(self) -> Counter[str]:
        """How often each kind of fault was made."""
        return Counter(name for each in self.outcomes for name in each.names)

    @property
    def slowest(self) -> Outcome:
        """The one after which it took longest."""
        return max(self.outcomes, key=lambda each: each.seconds)

    def broken(self, *promises: Promise) -> list[str]:
        """Return what broke promises."""
        return [
            f"{' + '.join(each.names)}: {text}"
            for each in self.outcomes
            for promise in promises
            for text in each.broken.get(promise, ())
        ]


class Chaos:
    """Breaks a whole system at random."""

    def __init__(self, stack: Stack, kube: KubeClient, *, seed: int, pace: float) -> None:
        """Take note of the system.

        Args:
            stack: the system.
            kube: its API.
            seed: of everything that is chosen.
            pace: by which the time that each fault lasts is multiplied.
        """
        self._pace = pace
        self._stack = stack
        self._kube = kube
        self._chance = random.Random(seed)  # noqa: S311 - to be the same again
        self._book = stack.folder / "accepted.book"
        self._load: Process | None = None
        self._lost: set[str] = set()
        self.arrivals = Arrivals(stack.folder / "arrived.db")
        self.writer = Writer(kube, random.Random(seed + 1))  # noqa: S311
        self.witness = Witness()
        self.result = Result()

    @property
    def _state(self) -> State:
        parts = self._stack.edge(EDGE).parts
        data = parts.host.seen_from_outside(parts.folder / "data")
        return State(self._kube, Edge(name=EDGE, data=data, book=self._book))

    @asynccontextmanager
    async def loaded(self) -> AsyncIterator[None]:
        """Put the system under load, and watch it meanwhile."""
        await self._set_up()
        consumer = Fabric(self._stack.amqp_url, service="chaos", exchanges=t.CLOUD_EXCHANGES)
        consumer.subscribe(_QUEUE, Consumer(self.arrivals).take)
        async with consumer.running(), asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self.writer.run(), name="write")
            with self.witness.watching():
                await self._start_load()
                await self._settled()
                yield
            writing.cancel()

    async def run(self, count: int, names: Sequence[str] = tuple(FAULTS)) -> None:
        """Make so many faults, one after the other, some with a second one beside it.

        Args:
            count: how many.
            names: of the kinds to choose from.
        """
        kinds = [FAULTS[name] for name in names]
        while self.result.kinds.total() < count:
            first, second = self._chance.choice(kinds), self._chance.choice(kinds)
            is_pair = (
                self._chance.random() < 0.3
                and second.name != first.name
                and (first.kind is None or second.kind != first.kind)
                and not (first.processes and first.processes == second.processes)
            )
            await self.make(first, second) if is_pair else await self.make(first)

    async def run_each(self) -> None:
        """Make every kind of fault once, in any order."""
        for name in self._chance.sample(sorted(FAULTS), len(FAULTS)):
            await self.make(FAULTS[name])

    async def make(self, *chosen: Fault) -> None:
        """Make faults, heal them, wait until all is as it should be, and take note of the rest."""
        before, known = _running(), self._wrong_events()
        doubles = len(self.witness.doubles)
        async with AsyncExitStack() as made, self.writer.writing():
            for each in chosen:
                await made.enter_async_context(each.make(self._stack))
                await asyncio.sleep(self._chance.uniform(0.2, each.most_seconds) * self._pace)
            await made.aclose()
            await self._mend()
            healed = time.monotonic()
        broken = await self._settled(healed)
        seconds = time.monotonic() - healed
        events = [each for each in self._wrong_events() if each not in known]
        pods = [f"runs twice: {each}" for each in self.witness.doubles[doubles:]]
        if not any(each.restarts for each in chosen):
            after = _running()
            pods += [
                f"{mark} ran anew" for mark, run in before.items() if after.get(mark, run) != run
            ]
        if events:
            broken[Promise.EVENTS] = [*broken.get(Promise.EVENTS, ()), *events]
        if pods:
            broken[Promise.PODS] = pods
        names = tuple(each.name for each in chosen)
        self.result.outcomes.append(Outcome(names=names, seconds=seconds, broken=broken))
        say(f"{self.result.kinds.total():4} {' + '.join(names)}: {seconds:.1f} s")
        for promise, texts in broken.items():
            for text in texts[:10]:
                say(f"     BROKEN {promise}: {text[:300]}")

    def _wrong_events(self) -> list[str]:
        """Return events that had their effect twice or too late."""
        found = compare_events(accepted_events(self._book), self.arrivals.numbers())
        return [f"{each} twice" for each in found.twice] + [
            f"{each} after a later one" for each in found.disordered
        ]

    async def _settled(self, healed: float | None = None) -> dict[Promise, list[str]]:
        """Wait until everything is as it should be; return what is not after a long time."""
        healed = healed or time.monotonic()
        events, readings = accepted_events(self._book), accepted_readings(self._book)
        await self.writer.stopped()
        found, missing = {Promise.OBJECTS: ["nothing was looked at yet"]}, set[str]()
        while found and time.monotonic() - healed < CONVERGES_WITHIN_SECONDS:
            with contextlib.suppress(KubeError):
                found = await self._state.differences(
                    readings, self.writer.desired, self.writer.written
                )
                missing = set(compare_events(events, self.arrivals.numbers()).lost) - self._lost
                if missing:
                    found[Promise.EVENTS] = [f"{each} lost" for each in sorted(missing)]
            if found:
                await asyncio.sleep(0.1)
                await self._mend()
        self._lost |= missing  # told once
        return found

    async def _mend(self) -> None:
        """Do what a supervisor does: start again what ended by itself."""
        ended = [each for each in self._stack.status() if each.pid is None]
        for each in ended:
            self.result.mended[f"{each.where} {each.name}"] += 1
        if ended:
            await self._stack.up(lambda _: None)
        if self._load is None or not self._load.is_alive:
            await self._start_load()

    async def _start_load(self) -> None:
        parts = self._stack.edge(EDGE).parts
        argv = [
            sys.executable, "-m", "tests.chaos.load", "--node", EDGE, "--book", str(self._book),
            "--amqp", str(AMQP_PORT), "--mqtt", str(MQTT_PORT),
            "--keys", *EVENT_KEYS, "--devices", *DEVICE_NAMES,
        ]  # fmt: skip
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(_REPOSITORY),
            load.ACCOUNT: parts.account,
        }
        self._load = await parts.host.spawn(argv, env=env, log=self._stack.folder / "load.log")

    async def _set_up(self) -> None:
        async with asyncio.timeout(CONVERGES_WITHIN_SECONDS):
            while not (await self._kube.list(NODES)).items:  # noqa: ASYNC110 - a few times only
                await asyncio.sleep(0.2)
        for path in sorted((_REPOSITORY / "deploy/k8s/base/crds").glob("devices.*.yaml")):
            await self._kube.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()))
        api = {"apiVersion": "devices.kubeedge.io/v1beta1"}
        properties = [
            {"name": name, "type": "INT", "accessMode": "ReadWrite"}
            for name in ("reading", "level")
        ]
        await self._kube.create(
            DEVICE_MODELS,
            {
                **api,
                "kind": "DeviceModel",
                "metadata": {"name": "meter", "namespace": NAMESPACE},
                "spec": {"protocol": "mqtt", "properties": properties},
            },
        )
        for name in DEVICE_NAMES:
            await self._kube.create(
                DEVICES,
                {
                    **api,
                    "kind": "Device",
                    "metadata": {"name": name, "namespace": NAMESPACE},
                    "spec": {
                        "deviceModelRef": {"name": "meter"},
                        "nodeName": EDGE,
                        "protocol": {"protocolName": "mqtt"},
                        "properties": [{"name": "reading"}, {"name": "level"}],
                    },
                },
            )
        for name in STABLE:
            await self._kube.create(PODS, stable_pod(name))


def _running() -> dict[str, tuple[tuple[int, int], ...]]:
    """Return the processes of each container by its mark: pids and when they began."""
    return {mark: tuple(_began(pids)) for mark, pids in marked().items()}


def _began(pids: list[int]) -> Iterator[tuple[int, int]]:
    for pid in sorted(pids):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        yield pid, int(fields[19])


@asynccontextmanager
async def running(seed: int, *, pace: float = 1.0) -> AsyncIterator[Chaos]:
    """Start a system of its own, put it under load, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="fedge-chaos-", dir="/var/tmp") as folder:
        stack = Stack(
            Path(folder),
            edges=(EDGE,),
            settings=SETTINGS,
            edge_disk_bytes=DISK_BYTES,
            fake_clock=True,
        )
        try:
            await stack.up(lambda _: None)
            async with KubeClient.connected(stack.kubeconfig) as kube:
                chaos = Chaos(stack, kube, seed=seed, pace=pace)
                async with chaos.loaded():
                    yield chaos
            if chaos.result.broken(*Promise):
                _keep_logs(stack.folder)
        except BaseException:
            _keep_logs(stack.folder)
            raise
        finally:
            await stack.down()


async def run(count: int, seed: int, names: Sequence[str]) -> dict[str, float | int | str]:
    """Make so many faults of some kinds and return what came of it."""
    async with running(seed) as chaos:
        await chaos.run(count, names)
        arrived = sum(map(len, chaos.arrivals.numbers().values()))
    result = chaos.result
    for each in result.broken(*Promise):
        say(f"WRONG {each}")
    for name, times in sorted(result.kinds.items()):
        say(f"  {times:3} times {name}")
    events = result.broken(Promise.EVENTS)
    return {
        "faults": result.kinds.total(),
        "diverged": sum(
            bool(each.broken.keys() & {Promise.OBJECTS, Promise.REPORTS})
            for each in result.outcomes
        ),
        "events_lost": sum(each.endswith(" lost") for each in events),
        "events_twice": sum(each.endswith(" twice") for each in events),
        "events_disordered": sum(each.endswith(" after a later one") for each in events),
        "events": arrived,
        "repeats_recognised": chaos.arrivals.repeats,
        "changes": chaos.writer.count,
        "pods_restarted": sum(each.endswith(" ran anew") for each in result.broken(Promise.PODS)),
        "pods_doubled": len(chaos.witness.doubles),
        "slowest_convergence_s": round(result.slowest.seconds, 1),
        "slowest_fault": " + ".join(result.slowest.names),
        "median_convergence_s": round(median(each.seconds for each in result.outcomes), 1),
        "mended_by_supervisor": result.mended.total(),
        "seed": seed,
    }


async def _until_asked_to_end(
    count: int, seed: int, names: Sequence[str]
) -> dict[str, float | int | str]:
    """Run it; stop everything that was started when this process is told to end."""
    task = asyncio.current_task()
    assert task is not None
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, task.cancel)
    return await run(count, seed, names)


def _be_quiet() -> None:
    """Leave out what the libraries tell of connections that we cut."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _keep_logs(folder: Path) -> None:
    """Keep the logs of a run that went wrong beside its folder."""
    kept = Path(tempfile.mkdtemp(prefix="fedge-chaos-logs-", dir="/var/tmp"))
    for path in folder.rglob("*.log"):
        if path.is_file():
            (kept / str(path.relative_to(folder)).replace("/", "_")).write_bytes(path.read_bytes())
    say(f"logs are kept in {kept}")


def is_good(result: dict[str, float | int | str]) -> bool:
    """Whether nothing of what must not happen happened."""
    bad = ("diverged", "events_lost", "events_twice", "events_disordered")
    return not any(result[name] for name in (*bad, "pods_restarted", "pods_doubled"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Break everything at random.")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=tuple(FAULTS))
    arguments = parser.parse_args()
    _be_quiet()
    say(f"seed {arguments.seed}")
    outcome = asyncio.run(_until_asked_to_end(arguments.faults, arguments.seed, arguments.only))
    say(json.dumps(outcome))
    raise SystemExit(0 if is_good(outcome) else 1)
