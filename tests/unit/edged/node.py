"""A node on a runtime in memory, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from fedge_cri.fake import FakeRuntime
from tests.fixtures.edged import RELIST_SECONDS, EdgedNode
from tests.unit.edged.kit import IMAGE, LoopClock

__all__ = ["RELIST_SECONDS", "Node"]

P = ParamSpec("P")
R = TypeVar("R")


class AtOnce(ThreadPoolExecutor):
    """Does in place what threads would do: virtual time does not wait for threads."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        done: Future[R] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as exc:  # noqa: BLE001 - it belongs to whoever waits for the result
            done.set_exception(exc)
        return done


class Node(EdgedNode):
    """A node whose runtime does as the tests say."""

    def __init__(self, folder: Path) -> None:
        self.runtime = FakeRuntime(clock=LoopClock().now)
        self.runtime.add_image(IMAGE)
        super().__init__(folder, self.runtime, LoopClock())

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Node"]:
        """Serve as edged does until left."""
        asyncio.get_running_loop().set_default_executor(AtOnce())
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def reboot(self) -> None:
        """Lose power and come back."""
        await self.stop()
        self.runtime.cut_power()
        await self.start()
