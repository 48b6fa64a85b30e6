"""How fast pods start through fedge, against the same calls to the runtime alone.

The floor is what the Container Runtime Interface takes by itself on the same edge in the same run:
RunPodSandbox, CreateContainer, StartContainer, one pod at a time and twenty at once. Ours is the
time from the pod's creation at the Kubernetes API to Running seen at the API by a watch, through
controller, hub, both brokers, meta and edged and back. Rounds of both alternate. Deletion likewise:
StopContainer, StopPodSandbox and RemovePodSandbox of as many pods at once, against DELETE at the
API until the objects are gone.

Then a full node: what the process of the edge's services (meta, edged and twin) uses of the
processor and of memory while nothing changes, and, by the runtime's own clock, how long after its
death a container runs again.

The last part takes the edge's power with the cloud cut off and measures, from the start of the
edge's services, until the runtime runs ten pods again.

Run it with ``make bench-pods``.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.reporting import p50, tell
from fedge_cri import Container, ContainerSpec, ContainerState, RuntimeFaultError, SandboxSpec
from fedge_cri.client import CriRuntime
from fedge_kube import NODES, PODS, KubeClient
from fedge_local.stack import EdgeControl, Stack
from fedge_objects import JsonObject

ONE_ROUNDS = 15
BURST_ROUNDS = 3
BURST_PODS = 20
DELETE_ROUNDS = 3
DELETE_PODS = 35
FULL_PODS = 110
SETTLE_SECONDS = 10.0
IDLE_SECONDS = 60.0
RESTARTS = 15
RESTORED_PODS = 10
WARM_UP_ROUNDS = 2
IMAGE = "fedge.local/hello:demo"
EDGE = "edge-1"
NAMESPACE = "default"
DEADLINE_SECONDS = 120.0
GRACE_SECONDS = 1


def say(text: str) -> None:
    """Show progress."""
    print(text, flush=True)


class Raw:
    """The runtime alone."""

    def __init__(self, runtime: CriRuntime, logs: Path, cgroup_parent: str) -> None:
        self._runtime = runtime
        self._logs = logs
        self._cgroup_parent = cgroup_parent
        self._number = 0
        self._containers: dict[str, str] = {}

    async def start(self) -> str:
        """Start one pod with the three calls; return its sandbox."""
        self._number += 1
        name = f"raw-{self._number}"
        sandbox = SandboxSpec(
            name=name,
            namespace=NAMESPACE,
            uid=name,
            attempt=0,
            hostname=name,
            log_directory=str(self._logs / name),
            cgroup_parent=f"{self._cgroup_parent}/{name}",
        )
        container = ContainerSpec(name="main", attempt=0, image=IMAGE, log_path="main/0.log")
        sandbox_id = await self._runtime.run_sandbox(sandbox)
        container_id = await self._runtime.create_container(sandbox_id, container, sandbox)
        await self._runtime.start_container(container_id)
        self._containers[sandbox_id] = container_id
        return sandbox_id

    async def remove(self, sandbox_id: str) -> None:
        """Remove a pod."""
        container_id = self._containers.pop(sandbox_id)
        await self._runtime.stop_container(container_id, grace_seconds=GRACE_SECONDS)
        await self._runtime.stop_sandbox(sandbox_id)
        await self._runtime.remove_sandbox(sandbox_id)

    async def measure(self, pods: int) -> float:
        """Return the seconds that ``pods`` pods take at once."""
        began = time.perf_counter()
        made = await asyncio.gather(*(self.start() for _ in range(pods)))
        took = time.perf_counter() - began
        await asyncio.gather(*map(self.remove, made))
        return took

    async def measure_delete(self, pods: int) -> float:
        """Return the seconds that the removal of ``pods`` pods at once takes."""
        made = await asyncio.gather(*(self.start() for _ in range(pods)))
        began = time.perf_counter()
        await asyncio.gather(*map(self.remove, made))
        return time.perf_counter() - began


class Ours:
    """The whole way through fedge."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._number = 0
        self._pods: dict[str, JsonObject] = {}
        self._changed = asyncio.Condition()

    async def follow(self) -> None:
        """Keep up with the API's pods until cancelled."""
        listing = await self._kube.list(PODS)
        revision = listing.revision
        while True:
            async for kind, obj in self._kube.watch(PODS, revision):
                revision = int(obj["metadata"]["resourceVersion"])
                if kind == "BOOKMARK":
                    continue
                async with self._changed:
                    if kind == "DELETED":
                        self._pods.pop(obj["metadata"]["name"], None)
                    else:
                        self._pods[obj["metadata"]["name"]] = obj
                    self._changed.notify_all()

    async def create(self) -> str:
        """Create one pod at the API; return its name."""
        self._number += 1
        name = f"ours-{self._number}"
        await self._kube.create(
            PODS,
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "nodeName": EDGE,
                    "terminationGracePeriodSeconds": GRACE_SECONDS,
                    "containers": [{"name": "main", "image": IMAGE}],
                },
            },
        )
        return name

    async def until(self, so: Callable[[dict[str, JsonObject]], bool]) -> None:
        """Wait until the pods at the API are as wished."""
        async with asyncio.timeout(DEADLINE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: so(self._pods))

    async def start(self, pods: int) -> tuple[list[str], float]:
        """Create ``pods`` at once; return their names and the seconds until all run."""
        began = time.perf_counter()
        names = await asyncio.gather(*(self.create() for _ in range(pods)))
        await self.until(lambda seen: all(is_running(seen.get(name)) for name in names))
        return list(names), time.perf_counter() - began

    async def remove(self, names: list[str]) -> None:
        """Delete pods and wait until they are gone."""
        await asyncio.gather(*(self._kube.delete(PODS, NAMESPACE, name) for name in names))
        await self.until(lambda seen: not any(name in seen for name in names))

    async def measure(self, pods: int) -> float:
        """Return the seconds that ``pods`` pods take at once."""
        names, took = await self.start(pods)
        await self.remove(names)
        return took

    async def measure_delete(self, pods: int) -> float:
        """Return the seconds from the deletion of ``pods`` pods at once until all are gone."""
        names, _ = await self.start(pods)
        began = time.perf_counter()
        await self.remove(names)
        return time.perf_counter() - began


def is_running(pod: JsonObject | None) -> bool:
    """Whether the API holds that the pod runs."""
    return pod is not None and (pod.get("status") or {}).get("phase") == "Running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """A node with as many pods as it takes.

    Attributes:
        idle_cpu_percent: of one core, while nothing changes.
        rss_mb: of the process of the edge's services.
        restarts: seconds from the death of a container to its next start, first restarts only.
    """

    idle_cpu_percent: float
    rss_mb: float
    restarts: Sequence[float]


async def measure_full(edge: EdgeControl, ours: Ours, runtime: CriRuntime) -> Full:
    """Fill the node and see what it costs."""
    names: list[str] = []
    while len(names) < FULL_PODS:
        more, _ = await ours.start(min(FULL_PODS - len(names), DELETE_PODS))
        names += more
    process = edge.parts.services.process
    if process is None:
        raise RuntimeError("the edge's services do not run")
    await asyncio.sleep(SETTLE_SECONDS)
    before = cpu_seconds(process.pid)
    await asyncio.sleep(IDLE_SECONDS)
    cpu = (cpu_seconds(process.pid) - before) / IDLE_SECONDS * 100
    say(f"full: {cpu:.2f} % of a core, {rss_mb(process.pid):.1f} MB")
    took = [await measure_restart(edge, runtime, name) for name in names[:RESTARTS]]
    memory = rss_mb(process.pid)
    await ours.remove(names)
    return Full(idle_cpu_percent=cpu, rss_mb=memory, restarts=took)


async def measure_restart(edge: EdgeControl, runtime: CriRuntime, pod: str) -> float:
    """Kill a pod's container; return the seconds between its end and its next start."""

    async def attempts() -> list[Container]:
        found = [
            each
            for each in await runtime.list_containers()
            if each.labels.get("io.kubernetes.pod.name") == pod
        ]
        return sorted(found, key=lambda each: each.attempt)

    [first] = await attempts()
    await edge.parts.containerd.ctr("tasks", "kill", "-s", "9", first.id)
    async with asyncio.timeout(DEADLINE_SECONDS):
        newest = first
        while newest.id == first.id or newest.state is not ContainerState.RUNNING:
            await asyncio.sleep(0.05)
            newest = (await attempts())[-1]
    ended = await runtime.container_status(first.id)
    again = await runtime.container_status(newest.id)
    return (again.started_at - ended.finished_at) / 1e9


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure_restore(edge: EdgeControl, ours: Ours) -> float:
    """Return the seconds from the start of the edge's services until all pods run again."""
    names, _ = await ours.start(RESTORED_PODS)
    await edge.cut()
    await edge.power_cut()
    await edge.start()
    began = time.perf_counter()
    async with CriRuntime.connected(edge.parts.containerd.socket) as runtime:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await running_pods(runtime, names) < RESTORED_PODS:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    took = time.perf_counter() - began
    await edge.heal()
    return took


async def running_pods(runtime: CriRuntime, names: list[str]) -> int:
    """Return how many of the pods run, as the runtime sees it."""
    try:
        containers = await runtime.list_containers()
    except RuntimeFaultError:
        return 0
    return sum(
        each.state is ContainerState.RUNNING and each.labels.get("io.kubernetes.pod.name") in names
        for each in containers
    )


@asynccontextmanager
async def running_stack(folder: Path) -> AsyncIterator[Stack]:
    """Start a stack of its own and stop it at the end."""
    stack = Stack(folder, edges=(EDGE,))
    try:
        await stack.up(lambda step: say(f"  {step.where} {step.name} {step.state}"))
        yield stack
    finally:
        await stack.down()


async def node_is_ready(kube: KubeClient) -> None:
    """Wait until the edge has registered and is Ready."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        listing = await kube.list(NODES)
        nodes, revision = listing.items, listing.revision
        while not any(
            each["type"] == "Ready" and each["status"] == "True"
            for node in nodes
            for each in (node.get("status") or {}).get("conditions") or ()
        ):
            async for _, node in kube.watch(NODES, revision):
                revision, nodes = int(node["metadata"]["resourceVersion"]), [node]
                break


async def main() -> None:
    """Measure and tell."""
    with tempfile.TemporaryDirectory(prefix="fedge-bench-", dir="/var/tmp") as folder:
        async with (
            running_stack(Path(folder)) as stack,
            KubeClient.connected(stack.kubeconfig) as kube,
            CriRuntime.connected(stack.edge(EDGE).parts.containerd.socket) as runtime,
        ):
            await node_is_ready(kube)
            edge = stack.edge(EDGE)
            raw = Raw(runtime, Path(folder) / "raw-logs", edge.parts.host.cgroup_parent)
            ours = Ours(kube)
            following = asyncio.create_task(ours.follow(), name="follow pods")
            for _ in range(WARM_UP_ROUNDS):
                await raw.measure(1)
                await ours.measure(1)
            raw_one, our_one = [], []
            for number in range(ONE_ROUNDS):
                raw_one.append(await raw.measure(1))
                our_one.append(await ours.measure(1))
                say(f"one {number}: raw {raw_one[-1]:.3f} s, ours {our_one[-1]:.3f} s")
            raw_burst, our_burst = [], []
            for number in range(BURST_ROUNDS):
                raw_burst.append(await raw.measure(BURST_PODS))
                our_burst.append(await ours.measure(BURST_PODS))
                say(f"burst {number}: raw {raw_burst[-1]:.2f} s, ours {our_burst[-1]:.2f} s")
            raw_delete, our_delete = [], []
            for number in range(DELETE_ROUNDS):
                raw_delete.append(await raw.measure_delete(DELETE_PODS))
                our_delete.append(await ours.measure_delete(DELETE_PODS))
                say(f"delete {number}: raw {raw_delete[-1]:.2f} s, ours {our_delete[-1]:.2f} s")
            full = await measure_full(edge, ours, runtime)
            restore = await measure_restore(edge, ours)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    tell(
        "pods",
        {
            "one_ratio": round(p50(our_one) / p50(raw_one), 2),
            "burst_ratio": round(median(our_burst) / median(raw_burst), 2),
            "delete_ratio": round(median(our_delete) / median(raw_delete), 2),
            "one_p50_ms": p50(our_one),
            "burst_s": round(median(our_burst), 2),
            "idle_cpu_percent": round(full.idle_cpu_percent, 2),
            "rss_mb": round(full.rss_mb, 1),
            "restart_ms": p50(full.restarts),
            "worst_restart_ms": round(max(full.restarts) * 1000, 1),
            "raw_one_p50_ms": p50(raw_one),
            "raw_burst_s": round(median(raw_burst), 2),
            "delete_s": round(median(our_delete), 2),
            "raw_delete_s": round(median(raw_delete), 2),
            "offline_restore_10_pods_s": round(restore, 2),
        },
    )


if __name__ == "__main__":
    asyncio.run(main())
