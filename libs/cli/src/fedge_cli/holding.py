"""A fault of the local system, held for as long as its command runs.

It ends when its time is over or the command is told to end, and is healed in both cases. Only a
command that is killed leaves it behind.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import typer

from fedge_cli.durations import parse_seconds
from fedge_cli.errors import CommandError, MissingError
from fedge_cli.local import data_dir as folder_of
from fedge_cli.local import require_root, translated
from fedge_local import faults
from fedge_local.stack import CLOUD, Stack

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ENDED_BY_SIGNAL = 128

Fault = AbstractAsyncContextManager[None]


def hold(
    data_dir: Path | None, node: str, seconds: str, state: str, make: Callable[[Stack], Fault]
) -> int:
    """Make a fault, tell about it, and heal it in the end.

    Args:
        data_dir: where the local system is; None: the default.
        node: what fails.
        seconds: for how long.
        state: what is told.
        make: makes the fault.

    Returns:
        The exit code: 0, or that of a signal.

    Raises:
        UsageError: it was asked for wrongly.
        MissingError: there is no local system, or no such node.
        CommandError: the fault cannot be made, or not be healed.
    """
    duration = parse_seconds(seconds)
    with translated():
        stack = _stack_with(data_dir, node)
        if all(each.pid is None for each in stack.status()):
            raise CommandError(f"nothing runs in {stack.folder}: start it with `fedge demo`")
        code = asyncio.run(lasting(make(stack), f"{node}: {state} for {seconds}", duration))
        typer.echo(f"{node}: healed", err=True)
    return code


def heal(data_dir: Path | None, node: str) -> list[str]:
    """Heal all faults of a node; return what they were.

    Raises:
        UsageError: somebody else than root asks.
        MissingError: there is no local system, or no such node.
        CommandError: one cannot be healed.
    """
    with translated():
        return asyncio.run(faults.heal(_stack_with(data_dir, node), node))


async def lasting(fault: Fault, text: str, seconds: float) -> int:
    """Let a fault last until its time is over or a signal comes; return the exit code."""
    with _told_to_end() as ending:
        try:
            async with fault:
                ending.is_held = True
                typer.echo(f"{text}; Ctrl-C heals it at once", err=True)
                try:
                    async with asyncio.timeout(seconds):
                        await ending.told.wait()
                except TimeoutError:
                    pass  # it has lasted as long as it should
        except asyncio.CancelledError:
            if not ending.signals:
                raise
    return _ENDED_BY_SIGNAL + ending.signals[0] if ending.signals else 0


class _Ending:
    """Ends a fault at the first signal, however far it has come; healing is never broken off."""

    def __init__(self, task: asyncio.Task[object]) -> None:
        self.told = asyncio.Event()
        self.signals: list[int] = []
        self.is_held = False
        self._task = task

    def __call__(self, number: int) -> None:
        if not self.signals and not self.is_held:
            self._task.cancel()
        self.signals.append(number)
        self.told.set()


@contextmanager
def _told_to_end() -> Iterator[_Ending]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("signals are taken within a task only")
    loop = asyncio.get_running_loop()
    ending = _Ending(task)
    for number in _SIGNALS:
        loop.add_signal_handler(number, ending, number)
    try:
        yield ending
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _stack_with(data_dir: Path | None, node: str) -> Stack:
    """Return the local system.

    Raises:
        UsageError: we are not root.
        MissingError: there is none, or no such node in it.
    """
    require_root(
        "faults are made in network namespaces and processes of others", "sudo fedge chaos"
    )
    stack = Stack(folder_of(data_dir), edges=())
    if not stack.exists:
        raise MissingError(f"nothing was started in {stack.folder}: start it with `fedge demo`")
    known = [*stack.edge_names, CLOUD]
    if node not in known:
        raise MissingError(f"there is no node {node!r}: name one of {', '.join(known)}")
    return stack
