"""How fast gateways join: one from its token to Ready, and five hundred at once on one hub.

A whole system runs: API server, RabbitMQ, Redis, hub with its records as Secrets. First one edge
joins: measured from the command that makes its token to the Node's condition Ready. Then 500
gateways at once, as threads of this process, each with a key and a certificate request of its own;
the floor is as many bare requests over TLS at once to the same port (``GET /healthz``), which hub
answers from memory. A join takes two of these, and each join's user must be able to log in when it
is answered: a sample logs in.

Run it with ``make bench-joins``.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.reporting import tell
from bench.running import run
from fedge_enrolment import joining
from fedge_enrolment.checks import login
from fedge_enrolment.dialling import Address, context_of, request
from fedge_enrolment.identity import Identity
from fedge_enrolment.names import ENROLMENT_PORT
from fedge_enrolment.tokens import JoinToken
from fedge_local import commands
from fedge_local.errors import CommandFailedError
from fedge_local.stack import Stack
from fedge_objects import NodeName
from fedge_service import backoff

GATEWAYS = 500
READY_WITHIN_SECONDS = 15.0
SAMPLE = 20
EDGE = "gw-1"
SETTINGS = {"FEDGE_EDGE_HEARTBEAT_SECONDS": "10"}
GIVES_UP_SECONDS = 120.0


async def fedge(stack: Stack, *words: str) -> str:
    command = [sys.executable, "-m", "fedge_cli", *words, f"--kubeconfig={stack.kubeconfig}"]
    return await commands.run(command, timeout_seconds=GIVES_UP_SECONDS)


async def is_ready(stack: Stack) -> bool:
    try:
        found = json.loads(await fedge(stack, "get", "node", EDGE, "-o", "json"))
    except CommandFailedError:
        return False
    conditions = found.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


async def token_to_ready(folder: Path) -> tuple[Stack, float]:
    """Start a cloud, then let one edge join; return how long the edge took."""
    await Stack(folder, edges=(), settings=SETTINGS).up()
    stack = Stack(folder, edges=(EDGE,), settings=SETTINGS)
    began = time.monotonic()
    await stack.up()
    async with asyncio.timeout(GIVES_UP_SECONDS):
        async for _ in backoff(first_seconds=0.1, most_seconds=0.2):
            if await is_ready(stack):
                break
    return stack, time.monotonic() - began


def all_at_once(work: Callable[[int], None], count: int) -> tuple[float, list[float]]:
    """Do work in as many threads; return how long all took, and each."""
    began = time.monotonic()

    def timed(number: int) -> float:
        work(number)
        return time.monotonic() - began

    with ThreadPoolExecutor(count) as threads:
        each = list(threads.map(timed, range(count)))
    return time.monotonic() - began, each


async def measure(gateways: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="fedge-joins-") as text:
        folder = Path(text)
        stack, ready_seconds = await token_to_ready(folder / "stack")
        try:
            asked = await fedge(stack, "token", "create", f"--uses={gateways}")
            token = JoinToken.decode(asked)
            address = Address.parse(token.cloud, ENROLMENT_PORT)
            authority, _ = joining.fetch_authority(address, token)
            context = context_of(authority)

            def bare(_: int) -> None:
                joining.patiently(lambda: request(address, context, "GET", "/healthz"), 60)

            def join(number: int) -> None:
                identity = Identity(folder / "gateways" / str(number))
                name = NodeName(f"many-{number}")
                joining.join(identity, token, node=name, patience_seconds=60)

            floor, _ = await asyncio.to_thread(all_at_once, bare, gateways)
            took, each = await asyncio.to_thread(all_at_once, join, gateways)
            nodes = json.loads(await fedge(stack, "node", "list", "-o", "json"))
            joined = sum(node["node"].startswith("many-") for node in nodes)
            for number in range(0, gateways, max(1, gateways // SAMPLE)):
                identity = Identity(folder / "gateways" / str(number))
                joined_as = identity.joined()
                assert joined_as is not None
                broker = Address.parse(joined_as.broker, 0)
                await asyncio.to_thread(login, broker, identity)
        finally:
            await stack.down()
    result = {
        "token_to_ready_s": round(ready_seconds, 2),
        "joins": gateways,
        "joined": joined,
        "joins_s": round(took, 2),
        "joins_per_s": round(gateways / took, 1),
        "join_p50_s": round(statistics.median(each), 2),
        "join_worst_s": round(max(each), 2),
        "bare_requests_s": round(floor, 2),
        "ratio": round(took / floor, 2),
    }
    tell("joins", result)
    return joined == gateways and ready_seconds < READY_WITHIN_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, default=GATEWAYS)
    run(measure(parser.parse_args().gateways))


if __name__ == "__main__":
    main()
