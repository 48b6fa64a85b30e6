"""What tracing costs, and what it tells.

The cost: how many messages pass between an edge and the cloud, each in a trace of its own, with
tracing as it is set by default, against the same with tracing off; in turns of a second, in the
same processes. Off is the floor. Beside them, for information, with every trace recorded.

The use: pods are applied, through a whole system; the share of the time from the command to the
status at the API that the spans of each trace cover, the least of them, and how many spans have a
parent that did not arrive.

Run it with ``make bench-tracing``.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import fedge_tracing as tracing
from bench.fabric import EVENTS, OBJECTS, Pair, change, event, line, windowed
from bench.reporting import tell
from fedge_cli.demo import SETTINGS, Story
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_fabric.streams import Numbering
from fedge_local.stack import Stack
from fedge_service import TraceSettings
from tests.fixtures.otlp import Receiver, explained, orphans, receiving, roots

ROUNDS = {"on": 60, "all": 6}
WARM_UP = 2
"""Rounds that do not count."""
PODS = 20
REPOSITORY = Path(__file__).resolve().parents[1]
EDGE = "edge-1"
STATUS = "PATCH pods/status"


async def turns(kind: str, act: Callable[[int, bool], Awaitable[None]], count: int) -> None:
    """Do something in turns, as one is told: each traced as the kind says, or not at all.

    Each turn is a line from outside, ``on`` or ``off``; it is answered when it is over.
    """
    recording = tracing.state()
    assert recording is not None
    print("ready", flush=True)
    while turn := (await asyncio.to_thread(sys.stdin.readline)).strip():
        tracing.resume(recording)
        while kind != "all" and recording.head.takes():
            pass  # what gathered while tracing was off would be recorded now, and too much
        if turn == "off":
            tracing.stop()
        await act(count, turn == "on")


async def publish(url: str, way: str, count: int, kind: str) -> None:
    """Publish messages, each in a trace that begins with it."""
    configure(kind, node="" if way == "down" else "edge-1")
    exchanges = t.EDGE_EXCHANGES if way == "up" else t.CLOUD_EXCHANGES
    exchange, numbering = (t.UP if way == "up" else t.DOWN), Numbering("bench")
    fabric, tracer = Fabric(url, service="bench", exchanges=exchanges), tracing.Tracer("bench")
    published = 0

    async def one(_: int) -> None:
        nonlocal published
        published += 1
        envelope, key = event(numbering, published, "") if way == "up" else change(published, "")
        with tracer.root("bench"):
            await fabric.publish(
                envelope, exchange=exchange, routing_key=key, mandatory=way == "down"
            )

    async def turn(count: int, _: bool) -> None:
        await windowed(one, count)

    async with fabric.running():
        await turns(kind, turn, count)


async def consume(url: str, way: str, count: int, kind: str) -> None:
    """Consume them; what is traced is traced here too, and sent."""
    configure(kind, node="edge-1" if way == "down" else "")
    left, done = 0, asyncio.Event()

    async def take(_: Delivery) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async def turn(count: int, _: bool) -> None:
        nonlocal left
        left = count
        done.clear()
        print("takes", flush=True)
        await done.wait()
        print("done", flush=True)

    exchanges = t.CLOUD_EXCHANGES if way == "up" else t.EDGE_EXCHANGES
    fabric = Fabric(url, service="bench", exchanges=exchanges)
    fabric.subscribe(EVENTS if way == "up" else OBJECTS, take)
    async with fabric.running():
        await turns(kind, turn, count)


def configure(kind: str, *, node: str) -> None:
    """Trace as the services do, or all."""
    settings = TraceSettings()
    tracing.configure(
        ratio=settings.ratio,
        per_second=0.0 if kind == "all" else settings.per_second,
        buffer=settings.buffer,
        node=node,
    )


class TracedPair(Pair):
    """The same brokers, other roles."""

    module = "bench.tracing"
    messages = 4_000

    async def ratios(self, way: str, kind: str, rounds: int) -> tuple[list[float], list[float]]:
        """Return the rates of rounds relative to those without tracing, and those without."""
        source, target = self.urls(way)
        consumer = await self._spawn(f"consume-{kind}", target, way, self.messages)
        publisher = await self._spawn(f"publish-{kind}", source, way, self.messages)
        found, without = [], []
        try:
            for number in range(rounds + WARM_UP):
                rates = {}
                for turn in ("on", "off") if number % 2 else ("off", "on"):
                    await say(consumer, turn)
                    await line(consumer, "takes")
                    began = time.perf_counter()
                    await say(publisher, turn)
                    await line(consumer, "done")
                    rates[turn] = self.messages / (time.perf_counter() - began)
                print(f"{way} {kind}: {rates['on']:.0f}/s, off {rates['off']:.0f}/s", flush=True)
                if number >= WARM_UP:
                    found.append(rates["on"] / rates["off"])
                    without.append(rates["off"])
        finally:
            for each in (consumer, publisher):
                assert each.stdin is not None
                each.stdin.close()
                assert await each.wait() == 0
        return found, without


async def say(process: asyncio.subprocess.Process, what: str) -> None:
    """Tell a process whose turn it is."""
    assert process.stdin is not None
    process.stdin.write(f"{what}\n".encode())
    await process.stdin.drain()


@dataclass(slots=True)
class Cost:
    """What tracing costs.

    Attributes:
        on: by how many percent fewer messages pass, the middle one of all rounds, both ways.
        all: the same with all recorded.
        up: messages a second without tracing.
        down: the same.
    """

    on: float
    all: float
    up: float
    down: float


async def measure_cost() -> Cost:
    """Measure both ways, on and off in turns."""
    ratios: dict[str, list[float]] = {kind: [] for kind in ROUNDS}
    without: dict[str, list[float]] = {"up": [], "down": []}
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as folder:
        pair = TracedPair(Path(folder))
        try:
            await pair.start()
            for kind, rounds in ROUNDS.items():
                for way in ("up", "down"):
                    found, off = await pair.ratios(way, kind, rounds)
                    ratios[kind] += found
                    without[way] += off
        finally:
            await pair.kill()
    percent = {kind: round((1 - median(each)) * 100, 1) for kind, each in ratios.items()}
    return Cost(percent["on"], percent["all"], median(without["up"]), median(without["down"]))


async def measure_use() -> tuple[list[float], int, int]:
    """Return the share that is explained of each pod's start, orphans, and spans in all."""
    shares: list[float] = []
    with receiving() as receiver, tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        settings = {**SETTINGS, "FEDGE_HUB_SPANS_OTLP_ENDPOINT": receiver.url}
        stack = Stack(Path(folder), edges=(EDGE,), settings=settings)
        try:
            story = Story(stack, repository=REPOSITORY)
            await story.start(lambda _: None)
            await story.node_ready("True")
            for number in range(PODS):
                trace_id = await apply(stack, Path(folder) / "pod.json", f"bench-{number}")
                spans = await receiver.whole(
                    trace_id, lambda found: STATUS in {each.name for each in found}
                )
                end = max(each.end for each in spans if each.name == STATUS)
                shares.append(explained(spans, roots(spans)[0].start, end))
                print(f"pod {number}: {len(spans)} spans, {shares[-1]:.3f}", flush=True)
        finally:
            await stack.down()
        return shares, lost(receiver), len(receiver.spans)


def lost(receiver: Receiver) -> int:
    """Return how many spans of all traces have a parent that did not arrive."""
    return sum(
        len(orphans(receiver.of(each))) for each in {span.trace_id for span in receiver.spans}
    )


async def apply(stack: Stack, path: Path, name: str) -> str:
    """Apply a pod with the command, and return the id of its trace."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "fedge.local/hello:demo"}]},
    }
    await asyncio.to_thread(path.write_text, json.dumps(manifest))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fedge_cli", "apply", "-f", str(path),
        env={**os.environ, "KUBECONFIG": str(stack.kubeconfig)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    found = re.search(rb"^trace ([0-9a-f]{32})$", said, re.MULTILINE)
    assert found is not None, said.decode()
    return found[1].decode()


async def main() -> None:
    """Measure and tell."""
    shares, orphaned, spans = await measure_use()
    cost = await measure_cost()
    tell(
        "tracing",
        {
            "overhead_percent": cost.on,
            "explained_percent": round(min(shares) * 100, 1),
            "orphans": orphaned,
            "explained_median_percent": round(median(shares) * 100, 1),
            "spans": spans,
            "overhead_all_percent": cost.all,
            "off_up_per_s": round(cost.up),
            "off_down_per_s": round(cost.down),
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what tracing costs and tells.")
    parser.add_argument("--role")
    parser.add_argument("--way", choices=("up", "down"), default="up")
    parser.add_argument("--count", type=int, default=TracedPair.messages)
    arguments = parser.parse_args()
    if arguments.role:
        action, _, way_of_tracing = arguments.role.partition("-")
        work = {"publish": publish, "consume": consume}[action]
        url = os.environ["BENCH_URL"]
        asyncio.run(work(url, arguments.way, arguments.count, way_of_tracing))
    else:
        asyncio.run(main())
