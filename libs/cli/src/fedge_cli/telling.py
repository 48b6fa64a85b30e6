"""The story on the terminal: moving where a person watches, plain lines elsewhere."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table as Grid

from fedge_cli.getting import Table
from fedge_cli.printing import is_coloured, table_lines
from fedge_local.stack import Step

_INDENT = "   "
_REFRESHES_PER_SECOND = 8


class Telling:
    """Prints headings, steps and tables, each with the time that has passed."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    @property
    def elapsed_seconds(self) -> float:
        """Since the story began."""
        return time.monotonic() - self._began

    def heading(self, text: str) -> None:
        """Begin a chapter."""
        elapsed = f"[dim]{self.elapsed_seconds:5.1f} s[/dim]"
        self._console.print(f"\n[bold]{escape(text)}[/bold]  {elapsed}")

    def line(self, text: str) -> None:
        """Print a line as it is."""
        self._console.print(f"{_INDENT}{text}", markup=False)

    def done(self, text: str) -> None:
        """Say that something was reached."""
        self._console.print(f"{_INDENT}[green]✓[/green] {escape(text)}")

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something is waited for; nothing is left of it afterwards."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(f"{escape(text)} ..."):
            yield

    @contextmanager
    def steps(self) -> Iterator["Steps"]:
        """Show what is started or stopped, while it is."""
        steps = Steps(self._console)
        if not self._console.is_terminal:
            yield steps
            return
        with Live(
            get_renderable=steps.grid,
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
        ):
            yield steps

    def table(self, table: Table) -> None:
        """Print a table."""
        self._console.print()
        coloured = self._console.is_terminal and is_coloured()
        for line in table_lines(table, coloured=coloured):
            self._console.file.write(f"{_INDENT}{line}\n")

    def next_steps(self, title: str, steps: Mapping[str, str]) -> None:
        """Print commands and what they are for."""
        self.heading(title)
        width = max(map(len, steps))
        for command, why in steps.items():
            shown = f"{escape(command)}{' ' * (width - len(command))}"
            self._console.print(f"{_INDENT}{shown}{_INDENT}[dim]{escape(why)}[/dim]")


class Steps:
    """What has been begun, and what of it has come to its end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._latest: dict[tuple[str, str], Step] = {}

    def __call__(self, step: Step) -> None:
        """Take note of a step; without a terminal, print it when it is done."""
        self._latest[step.where, step.name] = step
        if not self._console.is_terminal and step.state != "starting":
            self._console.print(
                f"{_INDENT}{step.where:<8} {step.name:<12} {step.state:<8} {step.seconds:5.1f} s",
                markup=False,
            )

    def grid(self) -> Grid:
        """Return all steps as they are now."""
        grid = Grid.grid(padding=(0, 2, 0, 0))
        elapsed = time.monotonic() - self._began
        for step in self._latest.values():
            is_over = step.state != "starting"
            mark = "[green]✓[/green]" if is_over else "[yellow]…[/yellow]"
            seconds = step.seconds if is_over else elapsed
            grid.add_row(
                f"{_INDENT}{mark}", escape(step.where), escape(step.name), step.state,
                f"[dim]{seconds:5.1f} s[/dim]",
            )  # fmt: skip
        return grid


def command_name() -> str:
    """Return how this command is called from here."""
    return "fedge" if shutil.which("fedge") else ".venv/bin/fedge"
