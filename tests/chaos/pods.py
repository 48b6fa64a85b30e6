"""Kills at random: no two containers of the same pod and name may ever run at once.

The edge's services, its containerd and the containers' processes are killed with SIGKILL, pods are
deleted and made anew, in an order that a seed gives. Two witnesses are asked all the while: the
kernel, which processes of each container live (they bear a mark in their environment), and the
runtime, from when until when each container ran by its own records.

``make chaos-pods SECONDS=600 SEED=7`` runs it by itself.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fedge_cri import ContainerState, RuntimeFaultError
from fedge_cri.client import CriRuntime
from fedge_kube import NODES, PODS, KubeClient, NotFoundError
from fedge_local.processes import Process
from fedge_local.stack import EdgeControl, Stack
from fedge_objects import JsonObject

MARK = "FEDGE_CHAOS"
IMAGE = "fedge.local/busybox:1"
NAMESPACE = "default"
POD_NAMES = ("chaos-0", "chaos-1", "chaos-2")
CONTAINER_NAMES = ("one", "two")
RECOVERS_WITHIN_SECONDS = 90.0
_LOOK_SECONDS = 0.02


@dataclass(slots=True)
class Witness:
    """What was seen.

    Attributes:
        doubles: two living processes of one container of one pod.
        runs: by pod's uid and container's name, from when until when attempts ran, in
            nanoseconds since the epoch, by the runtime's records; 0 is not ended.
        looks: how often the kernel was asked.
    """

    doubles: list[str] = field(default_factory=list)
    runs: dict[tuple[str, str], dict[str, tuple[int, int]]] = field(default_factory=dict)
    looks: int = 0

    def overlaps(self) -> list[str]:
        """Return the attempts that ran while an earlier one of the same container did."""
        found = []
        for (uid, name), attempts in self.runs.items():
            ordered = sorted(each for each in attempts.values() if each[0])
            for earlier, later in itertools.pairwise(ordered):
                if not earlier[1] or earlier[1] > later[0]:
                    found.append(f"{uid}/{name}: {earlier} and {later}")
        return found

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Ask the kernel again and again, in a thread of its own."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), name="witness")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(_LOOK_SECONDS):
            self.looks += 1
            for mark, pids in marked().items():
                alive = [pid for pid in pids if mark_of(pid) == mark]
                if len(alive) > 1:
                    self.doubles.append(f"{mark}: {alive}")

    async def ask_runtime(self, runtime: CriRuntime) -> None:
        """Take what the runtime has recorded so far."""
        for each in await runtime.list_containers():
            uid = each.labels.get("io.kubernetes.pod.uid", "")
            name = each.labels.get("io.kubernetes.pod.name", "")
            if name in POD_NAMES and each.state is not ContainerState.CREATED:
                status = await runtime.container_status(each.id)
                attempts = self.runs.setdefault((uid, each.name), {})
                attempts[each.id] = (status.started_at, status.finished_at)


def mark_of(pid: int) -> str:
    """Return the mark of a process that lives; empty if it has none."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""  # it is gone
    for each in environment.split(b"\0"):
        if each.startswith(MARK.encode() + b"="):
            return each.decode().partition("=")[2]
    return ""


def marked() -> dict[str, list[int]]:
    """Return the processes of the pods' containers, by mark."""
    found: dict[str, list[int]] = {}
    with os.scandir("/proc") as entries:
        pids = [int(each.name) for each in entries if each.name.isdecimal()]
    for pid in pids:
        mark = mark_of(pid)
        if mark:
            found.setdefault(mark, []).append(pid)
    return found


class Chaos:
    """Breaks an edge at random, and has it mended."""

    def __init__(self, edge: EdgeControl, kube: KubeClient, *, seed: int) -> None:
        self._edge = edge
        self._kube = kube
        self._random = random.Random(seed)  # noqa: S311 - to be the same again
        self.witness = Witness()
        self.done: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Break things for so long, then wait until all is as it should be.

        Raises:
            TimeoutError: it does not become so.
        """
        for name in POD_NAMES:
            await self._create(name)
        await self._recovered()
        deadline = time.monotonic() + seconds
        with self.witness.watching():
            while time.monotonic() < deadline:
                await self._do_something()
                await self._ask()
            await self._recovered()
            await self._ask()
        for name in POD_NAMES:
            await self._kube.delete(PODS, NAMESPACE, name, grace_seconds=0)

    async def _do_something(self) -> None:
        does = {
            "kill services": self._kill_services,
            "kill containerd": self._kill_containerd,
            "kill container": self._kill_container,
            "make anew": self._make_anew,
        }
        what = self._random.choices(list(does), weights=(3, 2, 4, 2))[0]
        self.done[what] += 1
        await does[what]()
        await asyncio.sleep(self._random.choice((0.0, 0.1, 0.5, 2.0)))  # the kills' own timing

    async def _kill_services(self) -> None:
        await self._edge.parts.services.kill()
        await asyncio.sleep(self._random.choice((0.0, 0.5)))
        await self._edge.parts.services.start()

    async def _kill_containerd(self) -> None:
        await self._edge.parts.containerd.kill()
        await asyncio.sleep(self._random.choice((0.0, 0.5)))
        await self._edge.parts.containerd.start()
        await self._edge.parts.containerd.ready()

    async def _kill_container(self) -> None:
        pids = sorted(pid for found in marked().values() for pid in found)
        if not pids:
            return
        try:
            process = Process.of(self._random.choice(pids))
        except ProcessLookupError:
            return
        if mark_of(process.pid):
            process.signal(signal.SIGKILL)

    async def _make_anew(self) -> None:
        name = self._random.choice(POD_NAMES)
        try:
            await self._kube.delete(PODS, NAMESPACE, name)
        except NotFoundError:
            pass  # it was not made yet
        else:
            await self._gone(name)
        await self._create(name)

    async def _gone(self, name: str) -> None:
        async with asyncio.timeout(RECOVERS_WITHIN_SECONDS):
            while any(each["metadata"]["name"] == name for each in await self._pods()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def _create(self, name: str) -> None:
        containers = [
            {
                "name": each,
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/busybox", "sleep", "100000"],
                "env": [
                    {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
                    {"name": MARK, "value": f"$(UID)/{name}/{each}"},
                ],
            }
            for each in CONTAINER_NAMES
        ]
        await self._kube.create(
            PODS,
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "nodeName": self._edge.name,
                    "terminationGracePeriodSeconds": 0,
                    "containers": containers,
                },
            },
        )

    async def _pods(self) -> list[JsonObject]:
        return [
            each
            for each in (await self._kube.list(PODS)).items
            if each["metadata"]["name"] in POD_NAMES
        ]

    async def _recovered(self) -> None:
        """Wait until each container runs once, as the kernel and the API say."""
        async with asyncio.timeout(RECOVERS_WITHIN_SECONDS * 5):  # a back-off may be five minutes
            while True:
                pods = await self._pods()
                wanted = {
                    f"{each['metadata']['uid']}/{each['metadata']['name']}/{name}"
                    for each in pods
                    for name in CONTAINER_NAMES
                }
                phases = {(each.get("status") or {}).get("phase") for each in pods}
                found = await asyncio.to_thread(marked)
                if wanted == found.keys() and len(pods) == len(POD_NAMES) and phases == {"Running"}:
                    return
                await asyncio.sleep(0.2)

    async def _ask(self) -> None:
        try:
            async with CriRuntime.connected(self._edge.parts.containerd.socket) as runtime:
                await self.witness.ask_runtime(runtime)
        except RuntimeFaultError:
            return  # it was killed just now: the next look tells


async def main(seconds: float, seed: int) -> int:
    """Run it on a system of its own; return how many doubles were seen."""
    with tempfile.TemporaryDirectory(prefix="fedge-chaos-", dir="/var/tmp") as folder:
        stack = Stack(Path(folder), edges=("edge-1",))
        try:
            await stack.up(lambda _: None)
            async with KubeClient.connected(stack.kubeconfig) as kube:
                async with asyncio.timeout(RECOVERS_WITHIN_SECONDS):
                    while not (await kube.list(NODES)).items:  # noqa: ASYNC110
                        await asyncio.sleep(0.2)
                chaos = Chaos(stack.edge("edge-1"), kube, seed=seed)
                await chaos.run(seconds)
        finally:
            await stack.down()
    witness = chaos.witness
    for each in (*witness.doubles, *witness.overlaps()):
        sys.stdout.write(f"{each}\n")
    result = {
        "seed": seed,
        "seconds": seconds,
        **{name.replace(" ", "_"): count for name, count in chaos.done.items()},
        "attempts": sum(len(each) for each in witness.runs.values()),
        "looks": witness.looks,
        "doubles": len(witness.doubles),
        "overlaps": len(witness.overlaps()),
    }
    sys.stdout.write(f"{json.dumps(result)}\n")
    return len(witness.doubles) + len(witness.overlaps())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill parts of an edge at random.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    raise SystemExit(1 if asyncio.run(main(arguments.seconds, arguments.seed)) else 0)
