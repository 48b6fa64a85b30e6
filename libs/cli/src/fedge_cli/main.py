"""The entry point: ``run`` goes its own lean way, all else is typer's."""

import sys


def main() -> None:
    """Run the command line."""
    arguments = sys.argv[1:]
    if is_plain_run(arguments):
        # structlog loads rich for its tracebacks when it finds it: 5 MB that a gateway lacks. None
        # hides a module (https://docs.python.org/3/reference/import.html#the-module-cache).
        sys.modules["rich"] = None  # type: ignore[assignment]  # typed as if without None
        from fedge_cli.running import run  # noqa: PLC0415 - see there

        raise SystemExit(run(arguments[1:]))
    from fedge_cli.app import app  # noqa: PLC0415 - a gateway that runs services loads none of it

    app()


def is_plain_run(arguments: list[str]) -> bool:
    """Whether services are to be run, and nothing about it is asked of typer."""
    return (
        len(arguments) > 1
        and arguments[0] == "run"
        and not any(each.startswith("-") for each in arguments)
    )
