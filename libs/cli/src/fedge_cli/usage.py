"""What commands have in common: options, examples in their help, and how errors are told."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedge_cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from fedge_cli.api import Api

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


@contextmanager
def connected(kubeconfig: Path | None) -> Iterator[tuple["Api", str]]:
    """Open the API; errors end the command with their code."""
    from fedge_cli import kubeconfig as access  # noqa: PLC0415 - `run` and `--help` need none
    from fedge_cli.api import Api  # noqa: PLC0415

    with told():
        found = access.load(access.find(kubeconfig))
        with Api.opened(found) as api:
            yield api, found.namespace


def exit_for(errors: Iterable[CommandError]) -> None:
    """End with the errors' code: their own if they agree, else 1."""
    codes = {each.exit_code for each in errors}
    if codes:
        raise typer.Exit(codes.pop() if len(codes) == 1 else CommandError.exit_code)


def usage_error(message: str) -> typer.Exit:
    """Tell a wrong usage, and return what ends the command for it."""
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(UsageError.exit_code)


def check_output(output: str) -> None:
    """Refuse a form of output that no command has."""
    if output not in {"", "json", "yaml", "wide", "name"}:
        raise usage_error(f"-o is {output!r}: use json, yaml, wide or name")
