"""What a benchmark starts: servers, and processes of its own that are told and tell in lines.

All of it ends with the benchmark, however that ends: servers are killed at the end of a context,
and a process of its own ends by itself as soon as nobody holds its standard input any more.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from fedge_local.servers import Server

REPOSITORY = Path(__file__).resolve().parents[1]
Word = Mapping[str, Any]
_SAID = "said"
_LONGEST_LINE = 64 * 1024 * 1024


def free_ports(count: int) -> list[int]:
    """Return that many different ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@asynccontextmanager
async def started(*servers: Server, timeout_seconds: float = 60.0) -> AsyncIterator[None]:
    """Start servers side by side, and kill them at the end."""
    async with AsyncExitStack() as ends:
        for each in servers:
            ends.push_async_callback(each.kill)
        async with asyncio.TaskGroup() as tasks:
            for each in servers:
                tasks.create_task(_start(each, timeout_seconds), name=each.name)
        yield


async def _start(server: Server, timeout_seconds: float) -> None:
    await server.start()
    await server.ready(timeout_seconds=timeout_seconds)


class Worker:
    """A process of the benchmark's own."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @classmethod
    @asynccontextmanager
    async def started(
        cls, module: str, *arguments: str, given: Word, log: Path
    ) -> AsyncIterator["Worker"]:
        """Start one, and end it with the context.

        Args:
            module: of ours, run as a program.
            arguments: of it.
            given: the first word that it is told.
            log: what it writes to its standard error is appended there.
        """
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                limit=_LONGEST_LINE,
            )  # fmt: skip
        try:
            worker = cls(process, log)
            await worker.tell("given", **given)
            yield worker
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def tell(self, said: str, **more: Any) -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({_SAID: said, **more}).encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self, *wanted: str) -> Word:
        """Return the next of its words that is one of those wanted; others are passed over.

        Raises:
            RuntimeError: it has ended; with the end of its log.
        """
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            word: Word = json.loads(line)
            if word[_SAID] in wanted:
                return word
        end = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"a worker ended before it said {wanted}: {end}")


class Boss:
    """Whoever started this process: gives orders by its standard input."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    @classmethod
    async def found(cls) -> "Boss":
        """Listen to it; what is logged goes to the standard error."""
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        reader = asyncio.StreamReader(limit=_LONGEST_LINE)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        return cls(reader)

    async def hear(self) -> Word:
        """Return the next word.

        Raises:
            EOFError: it is gone.
        """
        line = await self._reader.readline()
        if not line:
            raise EOFError
        word: Word = json.loads(line)
        return word

    def tell(self, said: str, **more: Any) -> None:
        """Tell it something."""
        sys.stdout.write(json.dumps({_SAID: said, **more}) + "\n")
        sys.stdout.flush()


def run(measuring: Coroutine[Any, Any, bool]) -> None:
    """Measure, and exit with 1 if it was not good; told to end, stop what was started first."""

    async def until_asked_to_end() -> bool:
        task = asyncio.current_task()
        assert task is not None
        for each in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(each, task.cancel)
        return await measuring

    raise SystemExit(0 if asyncio.run(until_asked_to_end()) else 1)
