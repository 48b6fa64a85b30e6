"""A node on a runtime in memory: edged's pods without its broker, in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from fedge_cri import RuntimeFaultError
from fedge_cri.fake import FakeRuntime
from fedge_edged.actions import Actions, NodeActions
from fedge_edged.context import Tools
from fedge_edged.environment import Environment
from fedge_edged.images import Images
from fedge_edged.node_pods import NodeObjects, NodePods
from fedge_edged.specs import Specs
from fedge_edged.verdicts import Records
from fedge_edged.volumes import Volumes
from fedge_objects import Change, JsonObject, ObjectKey
from tests.unit.edged.kit import IMAGE, Ears, LoopClock, change

P = ParamSpec("P")
R = TypeVar("R")

RELIST_SECONDS = 60.0
_ORDER = ("configmaps", "secrets", "pods")


class AtOnce(ThreadPoolExecutor):
    """Does in place what threads would do: virtual time does not wait for threads."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        done: Future[R] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001 - it belongs to whoever waits for the result
            done.set_exception(exc)
        return done


class Node:
    """What outlives a restart of edged: the runtime, the store, the disk; and what was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = FakeRuntime(clock=LoopClock().now)
        self.runtime.add_image(IMAGE)
        self.ears = Ears()
        self.store: dict[ObjectKey, Change] = {}
        self.actions: Actions | None = None
        self.pods: NodePods | None = None
        self._serving: asyncio.Task[None] | None = None
        self._version = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Node"]:
        """Serve as edged does until left."""
        asyncio.get_running_loop().set_default_executor(AtOnce())
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def start(self) -> None:
        ready = asyncio.Event()
        self._serving = asyncio.create_task(self._serve(ready), name="edged")
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.is_set():
            waiting.cancel()
            await self._serving

    async def stop(self) -> None:
        """Kill edged."""
        if self._serving is not None:
            self._serving.cancel()
            # what it says while it dies is heard by nobody
            await asyncio.gather(self._serving, return_exceptions=True)
        self.pods = self._serving = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def reboot(self) -> None:
        """Lose power and come back."""
        await self.stop()
        self.runtime.cut_power()
        await self.start()

    def put(self, resource: str, obj: JsonObject) -> None:
        """Have meta store an object and tell it."""
        self.take(resource, obj["metadata"]["name"], obj)

    def take(self, resource: str, name: str, obj: JsonObject | None) -> None:
        """The same for a tombstone (None)."""
        self._version += 1
        made = change(resource, name, obj, self._version)
        self.store[made.key] = made
        if self.pods is not None:
            self.pods.apply(made)

    async def shows(self, condition: Callable[[], object], *, seconds: float = 60.0) -> None:
        """Wait for something that shows in what edged tells."""
        await self.ears.until(condition, seconds=seconds)

    async def _serve(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            held = NodeObjects()
            clock = LoopClock()
            tools = Tools(
                runtime=self.runtime,
                specs=Specs(
                    environment=Environment(held),
                    log_dir=self.folder / "logs",
                    pods_dir=self.folder / "disk",
                    cgroup_parent="",
                    memory_bytes=1024**3,
                ),
                volumes=Volumes(held, disk=self.folder / "disk", memory=self.folder / "memory"),
                images=Images(runtime=self.runtime, objects=held, reporter=self.ears, clock=clock),
                reporter=self.ears,
                clock=clock,
                starts=asyncio.Semaphore(4),
                actions=self.actions or NodeActions(self.runtime),
                records=Records(self.folder / "disk"),
                host_ip="192.0.2.1",
            )
            pods = NodePods(tools=tools, objects=held, tasks=tasks)
            with contextlib.suppress(RuntimeFaultError):
                await pods.look_at_runtime()
            for resource in _ORDER:
                for each in list(self.store.values()):
                    if each.key.resource == resource:
                        pods.apply(each)
            self.pods = pods
            tasks.create_task(
                pods.follow_runtime(relist_seconds=RELIST_SECONDS, is_known=self._is_known)
            )
            ready.set()

    async def _is_known(self, key: ObjectKey) -> bool:
        return key in self.store
