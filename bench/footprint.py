"""What the edge's image takes of a gateway: memory, processor, disk, and time until it works.

A whole system is started whose edge runs from the image, with one pod. Memory is the proportional
set size of everything in the container: idle, the highest during a burst of 30,000 events that a
program publishes at the edge's broker as fast as it confirms them, and a minute after. Idle
processor time and writes to the volume are of the quiet time before. Then the edge loses its power.

Run it with ``make bench-footprint``.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.outage import Making
from bench.pods import cpu_seconds
from bench.reporting import tell
from bench.sampling import own_memory_mb
from fedge_cli.demo import EDGE, Story
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_local.contained import CONTAINER, NAMESPACE
from fedge_local.containerd import SOCKET
from fedge_local.edge import AMQP_PORT
from fedge_local.processes import tree
from fedge_local.stack import Stack
from images.cached import edge_image

MESSAGES = 30_000
SETTLE_SECONDS = 240.0
"""Until the broker has written down what changed when it started, every 3 minutes:
https://www.erlang.org/doc/apps/mnesia/mnesia.html (``dump_log_time_threshold``)."""
QUIET_SECONDS = 300.0
AFTER_SECONDS = 60.0
SAMPLE_SECONDS = 0.25
REPOSITORY = Path(__file__).resolve().parents[1]


def say(text: str) -> None:
    """Tell what is going on."""
    sys.stderr.write(f"{text}\n")


async def container_pid(story: Story) -> int:
    """Return the pid of the container's first process, as this machine knows it."""
    edge = story.stack.edge(EDGE)
    listed = await edge.parts.host.run(
        "ctr", f"--address={SOCKET}", f"--namespace={NAMESPACE}", "tasks", "list"
    )
    [inner] = [int(line.split()[1]) for line in listed.splitlines() if line.startswith(CONTAINER)]
    init = edge.parts.host.init
    assert init is not None
    return next(pid for pid in tree(init.pid) if numbers_of(pid)[1:] == [inner, 1])


def numbers_of(pid: int) -> list[int]:
    """Return the pids of a process: this machine's, the edge host's, the container's."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = next(line.split()[1:] for line in status if line.startswith("NSpid:"))
    return [int(each) for each in found]


def parts_mb(pid: int) -> tuple[float, float, float]:
    """Return the memory of all in the container, of its broker and of its services."""
    total = broker = services = 0.0
    for each in tree(pid):
        memory = own_memory_mb(each)
        total += memory
        try:
            command = Path(f"/proc/{each}/cmdline").read_bytes()
        except OSError:
            continue
        broker += memory if b"/beam.smp" in command else 0
        services += memory if b"fedge_service" in command else 0
    return total, broker, services


def written_bytes(pid: int) -> int:
    """Return what all in the container have caused to be written to a disk.

    https://man7.org/linux/man-pages/man5/proc_pid_io.5.html
    """
    written = 0
    for each in tree(pid):
        for line in Path(f"/proc/{each}/io").read_text().splitlines():
            name, _, value = line.partition(": ")
            written += int(value) if name == "write_bytes" else 0
    return written


async def publish(url: str) -> None:
    """Publish the burst; run inside the edge's host."""
    async with (fabric := Fabric(url, service="bench", exchanges=t.EDGE_EXCHANGES)).running():
        await Making(fabric).make(MESSAGES)


async def burst(story: Story, pid: int) -> float:
    """Have the burst published, and return the most memory meanwhile and until it is gone."""
    edge = story.stack.edge(EDGE)
    password = (edge.parts.folder / "data/broker-password").read_text()
    url = f"amqp://fedge:{password}@127.0.0.1:{AMQP_PORT}/"
    work = asyncio.create_task(
        edge.parts.host.run(
            "/usr/bin/env", f"PYTHONPATH={REPOSITORY}",
            sys.executable, "-m", "bench.footprint", "--publish", url, timeout_seconds=600,
        )
    )  # fmt: skip
    most = 0.0
    while not work.done():
        most = max(most, parts_mb(pid)[0])
        await asyncio.sleep(SAMPLE_SECONDS)
    await work
    return most


async def measure() -> None:
    """Measure everything, and tell it."""
    built = edge_image()
    with tempfile.TemporaryDirectory(prefix="fedge-footprint-") as folder:
        stack = Stack(Path(folder), edges=(EDGE,), settings={}, edge_image=built.archive)
        story = Story(stack, repository=REPOSITORY)
        try:
            await story.start(lambda _: None)
            await story.node_ready("True")
            say("the system runs; the container is started anew, to see how long that takes")
            edge = stack.edge(EDGE)
            await edge.parts.services.stop()
            await story.node_ready("Unknown", seconds=180)
            began = time.monotonic()
            await edge.parts.services.start()
            await story.node_ready("True")
            ready_seconds = time.monotonic() - began
            story.apply_example()
            await story.pod_running(restarts=0)
            pid = await container_pid(story)
            say(f"ready after {ready_seconds:.1f} s; settling")
            await asyncio.sleep(SETTLE_SECONDS)
            cpu = sum(map(cpu_seconds, tree(pid)))
            await asyncio.to_thread(os.sync)
            wrote = written_bytes(pid)
            await asyncio.sleep(QUIET_SECONDS)
            await asyncio.to_thread(os.sync)
            cpu = sum(map(cpu_seconds, tree(pid))) - cpu
            wrote = written_bytes(pid) - wrote
            idle, broker, services = parts_mb(pid)
            say(f"idle {idle:.1f} MB: broker {broker:.1f}, services {services:.1f}")
            peak = await burst(story, pid)
            say(f"burst {peak:.1f} MB")
            await asyncio.sleep(AFTER_SECONDS)
            after = parts_mb(pid)[0]
            await edge.cut()
            await edge.power_cut()
            back = await story.restore_power(lambda _: None)
            tell(
                "footprint",
                {
                    "pss_idle_mb": round(idle, 1),
                    "pss_burst_mb": round(peak, 1),
                    "pss_after_mb": round(after, 1),
                    "broker_mb": round(broker, 1),
                    "services_mb": round(services, 1),
                    "image_mb": round(built.archive.stat().st_size / 1e6, 1),
                    "ready_s": round(ready_seconds, 1),
                    "restore_s": round(back.seconds, 2),
                    "cpu_idle_percent": round(cpu / QUIET_SECONDS * 100, 2),
                    "disk_idle_kb_per_h": round(wrote / 1e3 * 3600 / QUIET_SECONDS, 1),
                },
            )
        finally:
            await stack.down()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", metavar="URL", help="only publish the burst, at this broker")
    given = parser.parse_args()
    asyncio.run(publish(given.publish) if given.publish else measure())


if __name__ == "__main__":
    main()
