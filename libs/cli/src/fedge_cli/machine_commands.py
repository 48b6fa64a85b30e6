"""Commands of one machine: services, joining, checks, the local system."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedge_cli.durations import parse_seconds
from fedge_cli.options import Kubeconfig, RuntimeSocket, SystemNamespace
from fedge_cli.usage import DataDir, connected, examples, told, usage_error

commands = typer.Typer()
config = typer.Typer(no_args_is_help=True, help="Tell what this command works with.")
commands.add_typer(config, name="config")


@commands.command(
    epilog=examples(
        "fedge run hub", "fedge run meta edged twin  # the three of an edge, in one process"
    )
)
def run(
    services: Annotated[
        list[str], typer.Argument(help="hub, controller, device, apiserver, meta, edged, twin")
    ],
) -> None:
    """Run services in this process until it is told to stop.

    Settings come from the environment: FEDGE_HUB_AMQP_URL, FEDGE_EDGE_NODE_NAME, ... What is
    missing or wrong is named at the start.
    """
    from fedge_cli.running import run as run_services  # noqa: PLC0415 - loads the services

    raise typer.Exit(run_services(services))


@commands.command(epilog=examples("fedge doctor", "fedge doctor -o json"))
def doctor(
    output: Annotated[
        str, typer.Option("-o", "--output", envvar="FEDGE_OUTPUT", help="json.")
    ] = "",
    identity: Annotated[
        Path, typer.Option("--identity", help="On a gateway: folder of its key and certificate.")
    ] = Path("/var/lib/fedge/identity"),
    side: Annotated[
        str,
        typer.Option(
            "--side",
            help="edge or cloud; else edge where there is an identity.",
            show_default=False,
        ),
    ] = "",
    runtime: RuntimeSocket = Path("/run/containerd/containerd.sock"),
    system_namespace: SystemNamespace = "fedge-system",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Check this gateway, or the cloud, and say what is wrong and what to do about it.

    One line per check: OK, WARN or FAIL, what was found, and the remedy. Exit code 1 if any
    failed. Nothing is changed.
    """
    from fedge_cli import doctoring  # noqa: PLC0415 - only this command's
    from fedge_enrolment.checks import Machine  # noqa: PLC0415

    if side not in {"", "edge", "cloud"} or output not in {"", "json"}:
        raise usage_error("use --side edge or cloud, and -o json or nothing")
    if side == "edge" or (not side and identity.exists()):
        machine = Machine(data=identity.parent, runtime=runtime, broker="127.0.0.1:5672")
        is_well = doctoring.print_checks(doctoring.of_edge(identity, machine), output)
    else:
        with connected(kubeconfig) as (api, _):
            is_well = doctoring.print_checks(doctoring.of_cloud(api, system_namespace), output)
    if not is_well:
        raise typer.Exit(1)


@commands.command(
    epilog=examples("fedge join fedge1_eyJ...", "fedge join --token-file token --node gw-1")
)
def join(
    token: Annotated[
        str, typer.Argument(metavar="[TOKEN]", envvar="FEDGE_JOIN_TOKEN", show_default=False)
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the token; - for standard input."),
    ] = None,
    node_name: Annotated[
        str,
        typer.Option(
            "--node", envvar="FEDGE_EDGE_NODE_NAME", help="Name to join by; else the host's."
        ),
    ] = "",
    cloud: Annotated[
        str, typer.Option("--cloud", help="host:port to dial in place of the token's.")
    ] = "",
    identity: Annotated[
        Path, typer.Option("--identity", help="Folder for the key and the certificate.")
    ] = Path("/var/lib/fedge/identity"),
    wait: Annotated[
        str, typer.Option("--wait", help="For so long try again if the cloud is away.")
    ] = "",
    runtime: RuntimeSocket = Path("/run/containerd/containerd.sock"),
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Check this machine first.")
    ] = True,
) -> None:
    """Make this gateway a node of the cloud that made TOKEN.

    The key is made here and stays here. Joining again is harmless: a gateway that has joined is
    told so. What is not as it should be is named with its remedy, and nothing is changed.
    """
    from fedge_cli import joining  # noqa: PLC0415 - only this command's

    with told():
        read = joining.read_token(token, token_file)
        was_before = (identity / "joined.json").exists()
        if checks and not was_before:
            from fedge_enrolment.checks import Machine  # noqa: PLC0415

            machine = Machine(data=identity, runtime=runtime)
            joining.check(read, cloud=cloud, machine=machine)
        joined = joining.join(
            read,
            folder=identity,
            node=node_name,
            cloud=cloud,
            wait_seconds=parse_seconds(wait) if wait else 0.0,
        )
    joining.tell(joined, was_before=was_before)


@config.command("path")
def config_path(kubeconfig: Kubeconfig = None) -> None:
    """Print the kubeconfig that is used: export KUBECONFIG=$(fedge config path)."""
    from fedge_cli import kubeconfig as access  # noqa: PLC0415 - only this command's

    with told():
        typer.echo(str(access.find(kubeconfig).absolute()))


@config.command("edge", epilog=examples('eval "$(fedge config edge)"'))
def config_edge(
    node: Annotated[str, typer.Argument(metavar="[NODE]", show_default=False)] = "edge-1",
    data_dir: DataDir = None,
) -> None:
    """Print, for a shell, where an edge of the local system is, so that commands work at it.

    With these variables set, logs, exec and device act at the edge itself. FEDGE_EDGE_HOST_PID is
    its host: `nsenter -t $FEDGE_EDGE_HOST_PID -n COMMAND` runs a command in the host's network, so
    `nsenter -t $FEDGE_EDGE_HOST_PID -n kubectl --kubeconfig $FEDGE_EDGE_KUBECONFIG get pods` asks
    the edge's own API, with the line cut too. They hold until the next power cut.
    """
    from fedge_cli.local import edge_variables  # noqa: PLC0415 - loads the whole local system

    with told():
        for name, value in edge_variables(data_dir, node).items():
            typer.echo(f"export {name}={shlex.quote(value)}")


@commands.command()
def demo(
    data_dir: DataDir = None,
    stop: Annotated[
        bool, typer.Option("--down", help="Stop what an earlier demo started, like fedge down.")
    ] = False,
    edge_disk: Annotated[
        str,
        typer.Option(
            "--edge-disk",
            metavar="SIZE",
            help="Give the edge a disk of its own, e.g. 256Mi, that fedge chaos can fill.",
        ),
    ] = "",
    fake_clock: Annotated[
        bool,
        typer.Option("--fake-clock", help="Let fedge chaos set the clock of the edge's services."),
    ] = False,
    edge_image: Annotated[
        str,
        typer.Option(
            "--edge-image",
            metavar="FILE",
            help="Run the edge from the image in this archive (`make edge-image`), not from here.",
        ),
    ] = "",
) -> None:
    """Show the main job on this machine.

    A pod runs on an edge that loses its cloud and its power: starts a cloud and an edge, applies
    examples/hello, cuts the line, takes the edge's power, and shows how all comes back. Leaves the
    system running; `fedge down` stops it. Needs root.
    """
    from fedge_cli import demo as story  # noqa: PLC0415 - loads the whole local system

    with told():
        if stop:
            story.stop(data_dir)
        else:
            story.show(data_dir, edge_disk=edge_disk, fake_clock=fake_clock, edge_image=edge_image)


@commands.command()
def down(data_dir: DataDir = None) -> None:
    """Stop what the demo started, and nothing else. Its data stays."""
    from fedge_cli.demo import stop  # noqa: PLC0415 - loads the whole local system

    with told():
        stop(data_dir)
