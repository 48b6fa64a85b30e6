"""What tracing costs, and what it tells.

The cost: how many messages pass between an edge and the cloud, each in a trace of its own, with
tracing as it is set by default, against the same with tracing off; in turns, in the same run. Off
is the floor. Beside them, for information, with every trace recorded.

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
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import fedge_tracing as tracing
from bench.fabric import MESSAGES, ROLES, Pair, change, event, told_to_begin, windowed
from bench.reporting import tell
from fedge_cli.demo import SETTINGS, Story
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_fabric.streams import Numbering
from fedge_local.stack import Stack
from fedge_service import TraceSettings
from tests.fixtures.otlp import Receiver, explained, orphans, receiving, roots

ROUNDS = 11
EVERY = 3
"""In each third round all is recorded too, which takes twice as long."""
PODS = 20
REPOSITORY = Path(__file__).resolve().parents[1]
EDGE = "edge-1"
STATUS = "PATCH pods/status"
PER_SECOND: Mapping[str, float] = {"on": TraceSettings().per_second, "all": 0.0}


async def publish(url: str, way: str, count: int, kind: str) -> None:
    """Publish messages, each in a trace that begins with it."""
    configure(kind, node="" if way == "down" else "edge-1")
    exchanges = t.EDGE_EXCHANGES if way == "up" else t.CLOUD_EXCHANGES
    exchange, numbering = (t.UP if way == "up" else t.DOWN), Numbering("bench")
    fabric, tracer = Fabric(url, service="bench", exchanges=exchanges), tracing.Tracer("bench")

    async def one(number: int) -> None:
        envelope, key = event(numbering, number, "") if way == "up" else change(number, "")
        with tracer.root("bench"):
            await fabric.publish(
                envelope, exchange=exchange, routing_key=key, mandatory=way == "down"
            )

    async with fabric.running():
        await told_to_begin()
        await windowed(one, count)


async def consume(url: str, way: str, count: int, kind: str) -> None:
    """Consume them; what is traced is traced here too, and sent."""
    configure(kind, node="edge-1" if way == "down" else "")
    await ROLES["consume-ours"](url, way, count)


def configure(kind: str, *, node: str) -> None:
    """Trace as the services do, or not at all."""
    if kind != "off":
        settings = TraceSettings()
        tracing.configure(
            ratio=settings.ratio,
            per_second=PER_SECOND[kind],
            buffer=settings.buffer,
            node=node,
        )


class TracedPair(Pair):
    """The same brokers, other roles."""

    module = "bench.tracing"
    messages = 20_000  # long enough for the burst that is recorded at a begin to count little


Rates = dict[tuple[str, str], dict[int, float]]
"""Messages a second by way and kind, then by round."""


async def measure_cost() -> Rates:
    """Return messages a second."""
    rates: Rates = {}
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as folder:
        pair = TracedPair(Path(folder))
        try:
            await pair.start()
            for number in range(ROUNDS + 1):
                kinds = ("off", "on") if number % EVERY else ("off", "on", "all")
                for way in ("up", "down"):
                    for kind in kinds if number % 2 else reversed(kinds):
                        rate = await pair.rate(way, kind)
                        print(f"round {number}: {way} {kind} {rate:.0f}/s", flush=True)
                        if number:  # the first warms up
                            rates.setdefault((way, kind), {})[number] = rate
        finally:
            await pair.kill()
    return rates


def overhead(rates: Rates, kind: str) -> float:
    """Return by how many percent fewer pass, the middle one of all rounds, both ways."""
    ratios = [
        rates[way, kind][number] / rates[way, "off"][number]
        for way in ("up", "down")
        for number in rates[way, kind]
    ]
    return round((1 - median(ratios)) * 100, 1)


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
    rates = await measure_cost()
    tell(
        "tracing",
        {
            "overhead_percent": overhead(rates, "on"),
            "explained_percent": round(min(shares) * 100, 1),
            "orphans": orphaned,
            "explained_median_percent": round(median(shares) * 100, 1),
            "spans": spans,
            "overhead_all_percent": overhead(rates, "all"),
            "off_up_per_s": round(median(rates["up", "off"].values())),
            "off_down_per_s": round(median(rates["down", "off"].values())),
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure what tracing costs and tells.")
    parser.add_argument("--role")
    parser.add_argument("--way", choices=("up", "down"), default="up")
    parser.add_argument("--count", type=int, default=MESSAGES)
    arguments = parser.parse_args()
    if arguments.role:
        action, _, way_of_tracing = arguments.role.partition("-")
        work = {"publish": publish, "consume": consume}[action]
        url = os.environ["BENCH_URL"]
        asyncio.run(work(url, arguments.way, arguments.count, way_of_tracing))
    else:
        asyncio.run(main())
