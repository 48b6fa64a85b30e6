"""Processes that outlive the command that started them.

Each is the leader of a session of its own and is known by its pid, its start time and the boot it
belongs to, so that a pid that was given to somebody else meanwhile is never killed. Waiting for an
end uses pidfds (https://man7.org/linux/man-pages/man2/pidfd_open.2.html), never a loop.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, Self

from fedge_local.commands import run
from fedge_local.errors import NotReadyError

_LOG_LINES_TOLD = 15
CONNECT_SECONDS = 2.0
_ASK_AGAIN_SECONDS = 0.02
_ZOMBIE = "Z"
_STOPPED = "TtZX"
"""Stopped by a signal or by a debugger, ended, or about to be gone."""
_STAT_STATE, _STAT_PARENT, _STAT_START = 0, 1, 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of this machine, beyond doubt."""

    pid: int
    start_ticks: int
    """When it started, in clock ticks since boot (field 22 of ``/proc/<pid>/stat``)."""
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the process that has ``pid`` now.

        Raises:
            ProcessLookupError: there is none.
        """
        stat = _stat(pid)
        if stat is None:
            raise ProcessLookupError(pid)
        return cls(pid=pid, start_ticks=int(stat[_STAT_START]), boot_id=_boot_id())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Return the process that a pid file names, or None without a (whole) file."""
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, path: Path) -> None:
        """Write the pid file, whole or not at all."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)))
        new.replace(path)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        stat = _stat(self.pid)
        return (
            stat is not None
            and stat[_STAT_STATE] != _ZOMBIE
            and int(stat[_STAT_START]) == self.start_ticks
            and self.boot_id == _boot_id()
        )

    async def ended(self) -> None:
        """Wait until it has ended."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if not self.is_alive:
                return
            over = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(fd, over.set)
            try:
                await over.wait()
            finally:
                loop.remove_reader(fd)
        finally:
            os.close(fd)
            self._reap()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is still this process that has the pid."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.is_alive:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)

    async def stop(self, *, grace_seconds: float = 10.0) -> None:
        """End it: ask with SIGTERM, and after ``grace_seconds`` kill it."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                await self.ended()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it at once with SIGKILL."""
        self.signal(signal.SIGKILL)
        await self.ended()

    def _reap(self) -> None:
        """Collect it if it is a child of ours; another's child is not ours to collect."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)


class Place(Protocol):
    """Where a process can be started: the machine itself or an edge host on it."""

    async def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Process:
        """Start a process that outlives this one, its output appended to ``log``."""

    async def run(self, *argv: str, timeout_seconds: float = 30.0) -> str:
        """Run a command to its end and return its output.

        Raises:
            CommandFailedError: it failed or took too long.
        """

    async def connect(self, address: str, port: int) -> socket.socket:
        """Return a connection to what listens there in this place.

        Raises:
            OSError: nothing does.
        """


class Machine:
    """This machine as a place for processes."""

    async def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Process:
        """Start a process that outlives this one, its output appended to ``log``."""
        return spawn(argv, env=env, log=log)

    async def run(self, *argv: str, timeout_seconds: float = 30.0) -> str:
        """Run a command to its end and return its output."""
        return await run(argv, timeout_seconds=timeout_seconds)

    async def connect(self, address: str, port: int) -> socket.socket:
        """Return a connection to what listens there."""
        return await asyncio.to_thread(socket.create_connection, (address, port), CONNECT_SECONDS)


def spawn(
    argv: Sequence[str], *, env: Mapping[str, str], log: Path, keep: Mapping[int, int] | None = None
) -> Process:
    """Start a process in a session of its own.

    Args:
        argv: the command, its program as a path.
        env: its whole environment.
        log: the file that its output is appended to.
        keep: descriptors of ours that it gets, by the number that it sees.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        *((os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in (keep or {}).items()),
    ]
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        dict(env),
        file_actions=actions,
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP),
    )
    return Process.of(pid)


def children(pid: int) -> list[int]:
    """Return the pids of the children of ``pid``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat is not None and int(stat[_STAT_PARENT]) == pid:
                found.append(int(entry.name))
    return sorted(found)


def tree(root: int) -> list[int]:
    """Return the pids of ``root`` and of all that descend from it, zombies apart; parents first."""
    below: dict[int, list[int]] = {}
    living = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat is not None and stat[_STAT_STATE] != _ZOMBIE:
                living.add(int(entry.name))
                below.setdefault(int(stat[_STAT_PARENT]), []).append(int(entry.name))
    found = [root] if root in living else []
    for pid in found:
        found += below.get(pid, ())
    return found


async def pause(process: Process, *, timeout_seconds: float = 10.0) -> None:
    """Stop a process and all that descend from it (SIGSTOP); wait until they stand still.

    Raises:
        NotReadyError: one of them did not stop in time.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            while moving := [pid for pid in _tree_of(process) if not _is_stopped(pid)]:
                for pid in moving:
                    _signal(pid, signal.SIGSTOP)
                # one that was within the kernel stops when it leaves it, and tells nobody
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
    except TimeoutError as exc:
        raise NotReadyError(
            f"process {process.pid}, or a child of it, did not stop within {timeout_seconds:g} s"
        ) from exc


def resume(process: Process) -> None:
    """Let a process and all that descend from it go on (SIGCONT); nothing if they do."""
    for pid in _tree_of(process):
        _signal(pid, signal.SIGCONT)


async def until(
    ready: Callable[[], Awaitable[bool]],
    *,
    name: str,
    process: Process | None,
    log: Path,
    timeout_seconds: float,
) -> None:
    """Wait until ``ready`` says yes, asking again as long as the process lives.

    Raises:
        NotReadyError: it ended, or the time is over; the message has the log's last lines.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            while not await ready():
                if process is not None and not process.is_alive:
                    process._reap()  # noqa: SLF001 - the same module
                    raise NotReadyError(f"{name} ended at its start{last_words(log)}")
                # a port that will be bound, or a file that will appear, tells nobody: ask again
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
    except TimeoutError as exc:
        raise NotReadyError(
            f"{name} did not answer within {timeout_seconds:g} s{last_words(log)}"
        ) from exc


def last_words(log: Path) -> str:
    """Return where a log is and its last lines, to end a message with."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES_TOLD:]
    except FileNotFoundError:
        return f" (no log at {log})"
    return f"; the end of its log {log}:\n" + "\n".join(f"  {line}" for line in lines)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/<pid>/stat`` from the state on, or None without a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _tree_of(process: Process) -> list[int]:
    return tree(process.pid) if process.is_alive else []


def _is_stopped(pid: int) -> bool:
    """Whether it stands still; what has ended does too."""
    stat = _stat(pid)
    return stat is None or stat[_STAT_STATE] in _STOPPED


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        Process.of(pid).signal(number)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
