"""A server as a managed process: configured, started, awaited, stopped, found again.

A server's folder holds its configuration, its data, its log and its pid file. Starting one that
runs is nothing; any later command finds it by its pid file.
"""

import abc
from collections.abc import Mapping
from pathlib import Path

from fedge_local.commands import environment
from fedge_local.errors import NotReadyError
from fedge_local.processes import Place, Process, last_words, until

START_SECONDS = 60.0


class Server(abc.ABC):
    """Base of all servers. A subclass says what to run and when it answers."""

    grace_seconds = 10.0
    """How long it may take to stop before it is killed."""

    def __init__(self, *, name: str, folder: Path, place: Place) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._place = place
        self._pid_file = folder / f"{name}.pid"

    @property
    def process(self) -> Process | None:
        """The running process, if there is one."""
        process = Process.load(self._pid_file)
        return process if process is not None and process.is_alive else None

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None

    async def start(self) -> None:
        """Start the process if it does not run; `ready` waits until it answers.

        Raises:
            MissingError: a program is not installed.
            PortTakenError: another has its port.
        """
        if self.is_running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        await self.prepare()
        process = await self._place.spawn(
            self.command(), env=environment(dict(self.variables())), log=self.log
        )
        process.save(self._pid_file)

    async def ready(self, *, timeout_seconds: float = START_SECONDS) -> None:
        """Wait until it answers.

        Raises:
            NotReadyError: it ended or did not answer in time; with the log's last lines.
        """
        process = self.process
        if process is None:
            raise NotReadyError(f"{self.name} does not run{last_words(self.log)}")
        await until(
            self.answers,
            name=self.name,
            process=process,
            log=self.log,
            timeout_seconds=timeout_seconds,
        )
        await self.finish()

    async def stop(self) -> None:
        """Stop it, orderly if it can be; wait until it is gone."""
        process = self.process
        if process is not None:
            await process.stop(grace_seconds=self.grace_seconds)
        self._pid_file.unlink(missing_ok=True)

    async def kill(self) -> None:
        """End it at once; wait until it is gone."""
        process = self.process
        if process is not None:
            await process.kill()
        self._pid_file.unlink(missing_ok=True)

    async def prepare(self) -> None:  # noqa: B027 - most servers need a file or two, some nothing
        """Write what it reads at its start."""

    async def finish(self) -> None:  # noqa: B027
        """Do what can only be done once it answers."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """Return the command, its program as a path."""

    def variables(self) -> Mapping[str, str]:
        """Return the environment beyond what every program gets."""
        return {}

    @abc.abstractmethod
    async def answers(self) -> bool:
        """Say whether it does its work now."""
