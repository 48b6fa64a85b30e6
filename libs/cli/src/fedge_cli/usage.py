"""What commands have in common: options, examples in their help, and how errors are told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fedge_cli.errors import CommandError

INTERRUPTED = 130

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="FEDGE_DATA_DIR", help="Folder of all that the demo makes."),
]


def examples(*lines: str) -> str:
    """Return examples that help shows as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@contextmanager
def told() -> Iterator[None]:
    """Tell an error and end the command with its code."""
    try:
        yield
    except CommandError as exc:
        tell(exc)
        raise typer.Exit(exc.exit_code) from exc


def tell(error: CommandError) -> None:
    """Tell an error; a server's own words stay its own."""
    text = str(error)
    typer.echo(text if text.startswith("Error from server") else f"error: {text}", err=True)
