"""The command line."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedge_cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from fedge_cli.api import Api
    from fedge_cli.getting import Table

app = typer.Typer(
    name="fedge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Kubernetes workloads and devices on gateways whose network comes and goes.

    Try it: `fedge demo` starts a cloud and an edge on this machine. Then `fedge get nodes`,
    `fedge get pods`, `fedge apply -f FILE`, `fedge logs POD`.

    Ends with 0 when all went well, 1 when it did not, 2 for wrong usage, 3 when what was asked for
    is not there, 4 when the server or the node cannot be reached.""",
)

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        envvar="FEDGE_KUBECONFIG",
        help="Cluster to use. Else $KUBECONFIG, a demo that runs here, ~/.kube/config.",
        show_default=False,
    ),
]
Namespace = Annotated[
    str,
    typer.Option("-n", "--namespace", envvar="FEDGE_NAMESPACE", help="Namespace of the objects."),
]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="In all namespaces.")]
Output = Annotated[
    str, typer.Option("-o", "--output", envvar="FEDGE_OUTPUT", help="json, yaml, wide or name.")
]


@app.command()
def run(
    services: Annotated[
        list[str], typer.Argument(help="hub, controller, device, apiserver, meta, edged, twin")
    ],
) -> None:
    """Run services in this process until it is told to stop.

    Their settings come from the environment: FEDGE_HUB_AMQP_URL, FEDGE_EDGE_NODE_NAME, ...
    Each edge runs its three in one process: `fedge run meta edged twin`.
    """
    from fedge_cli.running import run as run_services  # noqa: PLC0415 - loads the services

    raise typer.Exit(run_services(services))


@app.command()
def apply(
    file: Annotated[str, typer.Option("-f", "--filename", help="File, folder or - for stdin.")],
    namespace: Namespace = "",
    dry_run: Annotated[
        str, typer.Option("--dry-run", help="none or server: check, but change nothing.")
    ] = "none",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Make objects as a manifest says, whether they exist or not.

    Example: `fedge apply -f examples/hello/`
    """
    from fedge_cli.applying import apply as apply_files  # noqa: PLC0415 - only this command's

    if dry_run not in {"none", "server"}:
        raise _usage(f"--dry-run is {dry_run!r}: use none or server")
    with _connected(kubeconfig) as (api, default):
        where = namespace or default
        _say_all(apply_files(api, file, namespace=where, dry_run=dry_run == "server"))


@app.command()
def get(
    kinds: Annotated[str, typer.Argument(metavar="KIND[,KIND]|KIND/NAME")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    namespace: Namespace = "",
    all_namespaces: AllNamespaces = False,
    selector: Annotated[
        str, typer.Option("-l", "--selector", help="By label: app=hello,tier!=db")
    ] = "",
    field_selector: Annotated[
        str, typer.Option("--field-selector", help="By field: spec.nodeName=edge-1")
    ] = "",
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on with every change.")] = False,
    output: Output = "",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print objects as a table, or whole.

    What the cloud knows of a node that is away is printed with its age: `Running (stale 5m)`.

    Examples: `fedge get nodes` · `fedge get pods -A -o wide` · `fedge get pod/hello -o yaml`
    """
    from fedge_cli import getting  # noqa: PLC0415 - only this command's

    if output and output not in getting.FORMATS:
        raise _usage(f"-o is {output!r}: use {', '.join(getting.FORMATS)}")
    with _connected(kubeconfig) as (api, default):
        query = getting.Query(
            kinds=kinds,
            names=tuple(names or ()),
            namespace=None if all_namespaces else namespace or default,
            selector=selector,
            field_selector=field_selector,
            output=output,
        )
        if watch:
            header = True
            for table in getting.watch(api, query):
                _print_table(table, header=header)
                header = False
            return
        if output in {"json", "yaml", "name"}:
            sys.stdout.write(getting.render(getting.get_objects(api, query), output) + "\n")
            return
        for kind, wanted in query.targets(api):
            table = getting.get_table(api, kind, wanted, query)
            if table.rows:
                _print_table(table)
            else:
                scope = f" in {query.namespace} namespace" if query.namespace else ""
                where = scope if kind.is_namespaced else ""
                typer.echo(f"No resources found{where}.", err=True)


@app.command()
def describe(
    kind: Annotated[str, typer.Argument(metavar="KIND|KIND/NAME")],
    name: Annotated[str, typer.Argument()] = "",
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Tell all about one object, and what happened to it.

    Example: `fedge describe pod hello`
    """
    from fedge_cli.describing import describe as lines_of  # noqa: PLC0415 - only this command's

    kind, name = _kind_and_name(kind, name)
    with _connected(kubeconfig) as (api, default):
        for line in lines_of(api, api.find_type(kind), namespace or default, name):
            typer.echo(line)


@app.command()
def logs(
    pod: Annotated[str, typer.Argument()],
    container: Annotated[str, typer.Option("-c", "--container", help="If it has several.")] = "",
    namespace: Namespace = "",
    tail: Annotated[int, typer.Option("--tail", help="Only the last lines; -1 for all.")] = -1,
    since: Annotated[int, typer.Option("--since", help="Only of the last seconds.")] = 0,
    previous: Annotated[
        bool, typer.Option("-p", "--previous", help="Of the run before the last restart.")
    ] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="With times.")] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines.")] = False,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print what a container of a pod wrote.

    Example: `fedge logs hello --tail 20`
    """
    query = {
        "container": container,
        "tailLines": str(tail) if tail >= 0 else "",
        "sinceSeconds": str(since) if since else "",
        "previous": "true" if previous else "",
        "timestamps": "true" if timestamps else "",
        "follow": "true" if follow else "",
    }
    with _connected(kubeconfig) as (api, default):
        path = api.find_type("pods").path(namespace or default, pod, "log")
        asked = {name: value for name, value in query.items() if value}
        for line in api.stream(path, query=asked, accept="text/plain, */*"):
            typer.echo(line)


@app.command()
def delete(
    kind: Annotated[str, typer.Argument(metavar="KIND|KIND/NAME")] = "",
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    file: Annotated[
        str, typer.Option("-f", "--filename", help="Delete what these files describe.")
    ] = "",
    namespace: Namespace = "",
    now: Annotated[bool, typer.Option("--now", help="Give containers one second only.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Drop the object without waiting for its node to end it."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is gone.")] = True,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Delete objects, and wait until they are gone.

    Examples: `fedge delete pod hello` · `fedge delete -f examples/hello/`
    """
    from fedge_cli import deleting  # noqa: PLC0415 - only this command's

    grace = 0 if force else 1 if now else None
    with _connected(kubeconfig) as (api, default):
        where = namespace or default
        if file:
            _say_all(
                deleting.delete_files(api, file, namespace=where, grace_seconds=grace, wait=wait)
            )
            return
        if "/" in kind:
            kind, _, name = kind.partition("/")
            names = [name, *(names or ())]
        if not kind or not names:
            raise _usage("say what to delete: KIND NAME, or -f FILE")
        found = api.find_type(kind)
        for name in names:
            typer.echo(deleting.delete(api, found, where, name, grace_seconds=grace, wait=wait))


@app.command()
def version(output: Output = "", kubeconfig: Kubeconfig = None) -> None:
    """Print the version of this command, and of the server if one answers."""
    versions = {"fedge": installed_version("fedge-cli"), "server": ""}
    try:
        with _connected(kubeconfig, quiet=True) as (api, _):
            versions["server"] = str(api.request("GET", "/version")["gitVersion"])
    except CommandError:
        versions["server"] = "not reached"
    if output in {"json", "yaml"}:
        from fedge_cli.getting import render  # noqa: PLC0415 - only then

        typer.echo(render(versions, output))
        return
    for name, value in versions.items():
        typer.echo(f"{name:<8}{value}")


@app.command()
def demo(
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", envvar="FEDGE_DATA_DIR", help="Folder of all that it makes."),
    ] = None,
) -> None:
    """Show the main job on this machine: a pod on an edge that loses its cloud and its power.

    Starts a cloud and an edge, applies examples/hello, cuts the line, takes the edge's power, and
    shows how all comes back. Leaves the system running; `fedge down` stops it. Needs root.
    """
    from fedge_cli.demo import show  # noqa: PLC0415 - loads the whole local system

    with _told():
        show(data_dir)


@app.command()
def down(
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", envvar="FEDGE_DATA_DIR", help="Folder given to the demo."),
    ] = None,
) -> None:
    """Stop everything that `fedge demo` started, and nothing else."""
    from fedge_cli.demo import stop  # noqa: PLC0415 - loads the whole local system

    with _told():
        stop(data_dir)


@contextmanager
def _connected(kubeconfig: Path | None, *, quiet: bool = False) -> Iterator[tuple["Api", str]]:
    """Open the API; errors end the command with their code, or with ``quiet`` are left alone."""
    from fedge_cli import kubeconfig as access  # noqa: PLC0415 - `run` and `--help` need none
    from fedge_cli.api import Api  # noqa: PLC0415
    from fedge_cli.local import running_kubeconfig  # noqa: PLC0415

    with _told(quiet=quiet):
        found = access.load(access.find(kubeconfig, running_kubeconfig()))
        with Api.opened(found) as api:
            yield api, found.namespace


@contextmanager
def _told(*, quiet: bool = False) -> Iterator[None]:
    try:
        yield
    except CommandError as exc:
        if quiet:
            raise
        typer.echo(str(exc), err=True)
        raise typer.Exit(exc.exit_code) from exc


def _say_all(lines: Iterable[str | CommandError]) -> None:
    """Print each line, and each error; end with the worst error's code if there was any."""
    code = 0
    for line in lines:
        if isinstance(line, CommandError):
            typer.echo(f"error: {line}", err=True)
            code = max(code, 1)
        else:
            typer.echo(line)
    if code:
        raise typer.Exit(code)


def _usage(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(UsageError.exit_code)


def _kind_and_name(kind: str, name: str) -> tuple[str, str]:
    if "/" in kind and not name:
        kind, _, name = kind.partition("/")
    if not name:
        raise _usage("say which one: KIND NAME")
    return kind, name


def _print_table(table: "Table", *, header: bool = True) -> None:
    rows = [table.columns, *table.rows] if header else table.rows
    widths = [max(len(row[at]) for row in rows) for at in range(len(table.columns))]
    for row in rows:
        line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()
