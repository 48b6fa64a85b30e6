"""``fedge device``: what a device should be and is, in the cloud or at its node."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedge_cli.durations import parse_seconds
from fedge_cli.errors import UsageError
from fedge_cli.options import Kubeconfig
from fedge_cli.usage import INTERRUPTED, examples, told

if TYPE_CHECKING:
    from fedge_cli.api import Api
    from fedge_cli.device_edge import Edge

DEFAULT_DATA_DIR = Path("/var/lib/fedge")
DEFAULT_MQTT = "mqtt://guest:guest@127.0.0.1:1883"

device = typer.Typer(
    no_args_is_help=True,
    help="""Look at devices, set them, follow them.

    Through the API server, or at the node itself with no cloud: there, as root, with
    --edge-data-dir /var/lib/fedge, or FEDGE_EDGE_SOCKET set as for `fedge logs`.""",
)

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
Namespace = Annotated[
    str,
    typer.Option("-n", "--namespace", envvar="FEDGE_NAMESPACE", help="Namespace of the device."),
]
Output = Annotated[
    str, typer.Option("-o", "--output", envvar="FEDGE_OUTPUT", help="json, or empty for a table.")
]
EdgeDataDir = Annotated[
    Path | None,
    typer.Option(
        "--edge-data-dir",
        envvar="FEDGE_EDGE_DATA_DIR",
        help="On a node itself: folder of its databases, in place of the API server. "
        "Where $FEDGE_EDGE_SOCKET is set: /var/lib/fedge.",
        show_default=False,
    ),
]


@device.command(epilog=examples("fedge device describe ac-1"))
def describe(
    name: Name,
    namespace: Namespace = "",
    edge_data_dir: EdgeDataDir = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Tell what each property of a device should be and is, and what holds of the device.

    BY is who wishes it: cloud, or edge. AGE is the time since the device said REPORTED, where it
    gives a timestamp. SYNC is Synced, Pending, SetAtEdge (the edge's wish holds in place of the
    manifest's), Conflict (a wish was lost, see Conditions) or Invalid.
    """
    from fedge_cli import device_views  # noqa: PLC0415 - only then, as in all commands

    edge = _edge(edge_data_dir)
    if edge is not None:
        with told():
            found = edge.view(namespace or "default", name)
        lines = list(device_views.describe_lines(found, datetime.now(UTC)))
    else:
        from fedge_cli import device_cloud  # noqa: PLC0415

        with _connected(kubeconfig) as (api, default):
            found = device_cloud.view(api, namespace or default, name)
            silent = device_cloud.stale(api, found)
            lines = list(device_views.describe_lines(found, api.now, stale=silent))
    typer.echo("\n".join(lines))


@device.command(
    "set",
    epilog=examples(
        "fedge device set ac-1 temperature=24 power=true",
        "fedge device set ac-1 temperature=24 --wait 30s",
        "fedge device set ac-1 temperature-  # withdraws the wish",
    ),
)
def set_(
    name: Name,
    wishes: Annotated[list[str], typer.Argument(metavar="PROPERTY=VALUE|PROPERTY-")],
    namespace: Namespace = "",
    wait: Annotated[
        str, typer.Option("--wait", help="So long at most, until the device reports it: 30s.")
    ] = "",
    edge_data_dir: EdgeDataDir = None,
    mqtt: Annotated[
        str,
        typer.Option(
            "--mqtt",
            envvar="FEDGE_TWIN_MQTT_URL",
            help="On a node itself: the devices' broker.",
            show_default=False,
        ),
    ] = DEFAULT_MQTT,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Say what properties of a device should be; PROPERTY- withdraws that.

    In the cloud it is written into the Device's spec. At the node it is the edge's wish, which
    holds until the manifest changes the value (see mergeRule).
    """
    from fedge_cli.device_wishes import parse_wishes  # noqa: PLC0415

    with told():
        wished = parse_wishes(wishes)
        seconds = parse_seconds(wait) if wait else 0
    edge = _edge(edge_data_dir, mqtt)
    if edge is not None:
        where = namespace or "default"
        with told():
            edge.set_desired(where, name, wished)
            typer.echo(f"device {where}/{name} set at the edge")
            if seconds:
                edge.wait(where, name, wished, seconds)
                typer.echo(f"device {where}/{name} reports it")
        return
    from fedge_cli import device_cloud  # noqa: PLC0415

    with _connected(kubeconfig) as (api, default):
        where = namespace or default
        is_changed = device_cloud.set_desired(api, where, name, wished)
        typer.echo(f"device {where}/{name} {'set' if is_changed else 'unchanged'}")
        if seconds:
            device_cloud.wait(api, where, name, wished, seconds)
            typer.echo(f"device {where}/{name} reports it")


@device.command(epilog=examples("fedge device watch", "fedge device watch ac-1 -o json"))
def watch(
    name: Annotated[str, typer.Argument(metavar="[NAME]", show_default=False)] = "",
    namespace: Namespace = "",
    all_namespaces: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="In all namespaces.")
    ] = False,
    output: Output = "",
    edge_data_dir: EdgeDataDir = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print what devices should be and are, then a line for every change.

    With -o json one JSON object a line.
    """
    from fedge_cli import device_views  # noqa: PLC0415
    from fedge_cli.getting import Table  # noqa: PLC0415
    from fedge_cli.printing import column_widths, write_table  # noqa: PLC0415

    _check_output(output)
    if name and all_namespaces:
        raise _usage("a name needs its namespace: leave out -A, and say -n NAMESPACE")
    edge = _edge(edge_data_dir)
    widths: list[int] = []

    def show(seen: device_views.Seen) -> None:
        if output == "json":
            typer.echo(seen.line())
            return
        table = Table(list(device_views.CHANGE_COLUMNS), [seen.cells()])
        is_first = not widths
        widths[:] = column_widths(table, widths)
        write_table(table, header=is_first, widths=widths)

    try:
        if edge is not None:
            with told():
                for seen in edge.follow(None if all_namespaces else namespace or "default", name):
                    show(seen)
            return
        from fedge_cli import device_cloud  # noqa: PLC0415

        with _connected(kubeconfig) as (api, default):
            where = None if all_namespaces else namespace or default
            for seen in device_cloud.follow(api, where, name):
                show(seen)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@device.command(
    epilog=examples("fedge device history ac-1", "fedge device history ac-1 temperature --limit 5")
)
def history(
    name: Name,
    property_name: Annotated[str, typer.Argument(metavar="[PROPERTY]", show_default=False)] = "",
    namespace: Namespace = "",
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1000, help="As many lines at most.")
    ] = 100,
    output: Output = "",
    edge_data_dir: EdgeDataDir = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the last values of a device's properties, newest first, as its node remembers them.

    A node remembers the last 20 of each property.
    """
    from fedge_cli import device_views  # noqa: PLC0415
    from fedge_cli.printing import render, write_table  # noqa: PLC0415

    _check_output(output)
    edge = _edge(edge_data_dir)
    if edge is not None:
        with told():
            items = edge.history(namespace or "default", name, property_name, limit)
    else:
        from fedge_cli import device_cloud  # noqa: PLC0415

        with _connected(kubeconfig) as (api, default):
            where = namespace or default
            items = device_cloud.history(api, where, name, property_name, limit)
    if output == "json":
        typer.echo(render({"items": items}, output))
    elif items:
        write_table(device_views.history_table(items))
    else:
        typer.echo("Nothing is remembered.", err=True)


def _edge(data_dir: Path | None, mqtt: str = DEFAULT_MQTT) -> "Edge | None":
    """Return the edge on this machine, if that is meant; the cloud is asked otherwise."""
    if data_dir is None and not os.environ.get("FEDGE_EDGE_SOCKET"):
        return None
    from fedge_cli.device_edge import Edge  # noqa: PLC0415

    return Edge(data_dir or DEFAULT_DATA_DIR, mqtt)


@contextmanager
def _connected(kubeconfig: Path | None) -> "Iterator[tuple[Api, str]]":
    """Open the API; errors end the command with their code."""
    from fedge_cli import kubeconfig as access  # noqa: PLC0415
    from fedge_cli.api import Api  # noqa: PLC0415

    with told():
        found = access.load(access.find(kubeconfig))
        with Api.opened(found) as api:
            yield api, found.namespace


def _usage(message: str) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(UsageError.exit_code)


def _check_output(output: str) -> None:
    if output not in {"", "json"}:
        raise _usage(f"-o is {output!r}: use json, or nothing for a table")
