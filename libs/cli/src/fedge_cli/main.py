"""The entry point: ``run`` goes its own lean way, all else is typer's."""

import sys


def main() -> None:
    """Run the command line."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"] and len(arguments) > 1 and not arguments[1].startswith("-"):
        from fedge_cli.running import run  # noqa: PLC0415 - see there

        raise SystemExit(run(arguments[1:]))
    from fedge_cli.app import app  # noqa: PLC0415 - a gateway that runs services loads none of it

    app()
