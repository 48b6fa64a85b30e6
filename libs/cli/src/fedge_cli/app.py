"""The command line. Each command loads what it needs when it runs, so that help comes at once."""

import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedge_cli.chaos import chaos
from fedge_cli.device import device
from fedge_cli.durations import parse_seconds
from fedge_cli.enrolling import ca, node, token
from fedge_cli.errors import AwayError, CommandError, UsageError
from fedge_cli.usage import INTERRUPTED, DataDir, examples, tell, told

if TYPE_CHECKING:
    from fedge_cli.api import Api
    from fedge_cli.getting import Query


app = typer.Typer(
    name="fedge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # laying help out with rich takes longer than all the rest
    # every option is an environment variable too: FEDGE_GET_SELECTOR, FEDGE_LOGS_TAIL, ...
    context_settings={"auto_envvar_prefix": "FEDGE", "help_option_names": ["-h", "--help"]},
    help="""Kubernetes workloads and devices on gateways whose network comes and goes.

    `fedge demo` starts a cloud and an edge on this machine and shows what they do.
    Try `fedge get nodes`, `fedge apply -f examples/hello/`, `fedge get pods -w` and
    `fedge logs hello` then.

    Data goes to standard output, all else to standard error. Exit codes: 0 all went well, 1 it did
    not, 2 wrong usage, 3 what was asked for is not there, 4 the server or the node cannot be
    reached.""",
)
config = typer.Typer(no_args_is_help=True, help="Tell what this command works with.")
app.add_typer(config, name="config")
app.add_typer(device, name="device")
app.add_typer(token, name="token")
app.add_typer(node, name="node")
app.add_typer(ca, name="ca")
app.add_typer(chaos, name="chaos")

Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        envvar="FEDGE_KUBECONFIG",
        help="Cluster to use. Else $KUBECONFIG, the local system that runs, ~/.kube/config.",
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
Files = Annotated[
    list[str] | None,
    typer.Option(
        "-f", "--filename", help="File, folder, or - for standard input; may be repeated."
    ),
]
RuntimeSocket = Annotated[
    Path, typer.Option("--runtime", help="Socket of the container runtime (CRI).")
]
SystemNamespace = Annotated[
    str, typer.Option("--system-namespace", help="Namespace of hub and its records.")
]
EdgeSocket = Annotated[
    Path | None,
    typer.Option(
        "--edge-socket",
        envvar="FEDGE_EDGE_SOCKET",
        help="On a node itself: edged's socket, in place of the API server.",
    ),
]


@app.command(
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


@app.command(epilog=examples("fedge doctor", "fedge doctor -o json"))
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
        raise _usage("use --side edge or cloud, and -o json or nothing")
    if side == "edge" or (not side and identity.exists()):
        machine = Machine(data=identity.parent, runtime=runtime, broker="127.0.0.1:5672")
        is_well = doctoring.print_checks(doctoring.of_edge(identity, machine), output)
    else:
        with _connected(kubeconfig) as (api, _):
            is_well = doctoring.print_checks(doctoring.of_cloud(api, system_namespace), output)
    if not is_well:
        raise typer.Exit(1)


@app.command(
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


@app.command(
    epilog=examples(
        "fedge apply -f examples/hello/", "fedge apply -f pod.yaml --dry-run=server -o yaml"
    )
)
def apply(
    files: Files = None,
    namespace: Namespace = "",
    dry_run: Annotated[
        str,
        typer.Option(
            "--dry-run", help="client: tell what would be done. server: have it checked, too."
        ),
    ] = "none",
    output: Output = "",
    system_namespace: SystemNamespace = "fedge-system",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Make objects as manifests say, whether they exist or not.

    A document that is wrong stops no other; what was wrong, and where, is told. The id of the trace
    of it all is told too: `fedge trace ID` shows the way of each object to its node.
    """
    from fedge_cli import apply_trace, applying  # noqa: PLC0415 - only this command's
    from fedge_cli.printing import render  # noqa: PLC0415

    if dry_run not in set(applying.DryRun):
        raise _usage(f"--dry-run is {dry_run!r}: use {', '.join(applying.DryRun)}")
    _check_output(output)
    if not files:
        raise _usage("say which manifests: -f FILE")
    errors, objects = [], []
    with _connected(kubeconfig) as (api, default), ExitStack() as stack:
        traced = apply_trace.ApplyTrace()
        if dry_run == applying.DryRun.NONE:
            traced = stack.enter_context(apply_trace.begun(api, system_namespace))
        for file in files:
            for found in applying.apply_objects(
                api,
                file,
                default_namespace=default,
                namespace=namespace,
                dry_run=applying.DryRun(dry_run),
            ):
                if isinstance(found, CommandError):
                    tell(found)
                    errors.append(found)
                    continue
                traced.is_wanted = traced.is_wanted or found.did != "unchanged"
                if output in {"json", "yaml"}:
                    objects.append(found.object)
                else:
                    typer.echo(found.shown if output == "name" else str(found))
    if told := str(traced):
        typer.echo(told, err=True)
    if objects:
        several = {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": objects}
        typer.echo(render(objects[0] if len(objects) == 1 else several, output))
    if errors:
        is_away = all(isinstance(each, AwayError) for each in errors)
        raise typer.Exit(AwayError.exit_code if is_away else CommandError.exit_code)


@app.command(
    epilog=examples(
        "fedge get nodes",
        "fedge get pods -A -o wide",
        "fedge get po,cm -l app=hello",
        "fedge get pod/hello -o yaml",
    )
)
def get(
    kinds: Annotated[str, typer.Argument(metavar="KIND[,KIND]|KIND/NAME", show_default=False)],
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
    show_managed_fields: Annotated[
        bool, typer.Option("--show-managed-fields", help="With -o json or yaml: who set what.")
    ] = False,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print objects as a table, or whole.

    Of any kind that the server knows; short names do.

    What the cloud knows of a node that is away is printed with its age: Running (stale 5m).
    """
    from fedge_cli import getting  # noqa: PLC0415 - only this command's

    _check_output(output)
    with _connected(kubeconfig) as (api, default):
        query = getting.Query(
            kinds=kinds,
            names=tuple(names or ()),
            namespace=None if all_namespaces else namespace or default,
            selector=selector,
            field_selector=field_selector,
            output=output,
            has_managed_fields=show_managed_fields,
        )
        if watch:
            _print_changes(api, query)
        elif output in getting.WHOLE:
            _print_whole(api, query)
        else:
            _print_tables(api, query)


@app.command(epilog=examples("fedge describe pod hello", "fedge describe node edge-1"))
def describe(
    kind: Annotated[str, typer.Argument(metavar="KIND|KIND/NAME", show_default=False)],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    namespace: Namespace = "",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Tell all about objects, and what happened to them.

    Without a name, about all of the kind.
    """
    from fedge_cli.describing import describe as lines_of  # noqa: PLC0415 - only this command's
    from fedge_cli.getting import Query, get_objects  # noqa: PLC0415

    errors: list[CommandError] = []
    with _connected(kubeconfig) as (api, default):
        where = namespace or default
        query = Query(kinds=kind, names=tuple(names or ()), namespace=where)
        is_first = True
        for found, wanted in query.targets(api):
            if not wanted:
                listed, _ = get_objects(api, Query(kinds=kind, names=(), namespace=where))
                wanted = tuple(each["metadata"]["name"] for each in listed["items"])  # noqa: PLW2901
            if not wanted:
                typer.echo(_nothing(where if found.is_namespaced else ""), err=True)
            for name in wanted:
                try:
                    lines = list(lines_of(api, found, where, name))
                except CommandError as exc:
                    tell(exc)
                    errors.append(exc)
                    continue
                typer.echo("\n".join(lines) if is_first else "\n\n" + "\n".join(lines))
                is_first = False
    _exit_for(errors)


@app.command(epilog=examples("fedge status", "fedge status edge-1", "fedge status -o json"))
def status(
    node: Annotated[str, typer.Argument(metavar="[NODE]", show_default=False)] = "",
    output: Output = "",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print how far nodes are with what they were given.

    Of one node also the objects that it has not applied, and why. What a node that is not heard
    said last is printed with its age: 12 (2h old).

    LINK is up, down, never (hub has not heard it yet) or unknown (hub could not be asked).
    BACKLOG-DOWN waits in the cloud for the node, BACKLOG-UP on the node for the cloud. Of the
    node's reports, GAPS never came and DUPLICATES came again and were dropped.
    """
    from fedge_cli import node_status  # noqa: PLC0415 - only this command's
    from fedge_cli.printing import render, write_table  # noqa: PLC0415

    _check_output(output)
    name = node.removeprefix("nodes/").removeprefix("node/")
    errors: list[CommandError] = []
    with _connected(kubeconfig) as (api, _):
        if name:
            statuses = [node_status.get_status(api, name)]
        else:
            statuses, errors = node_status.get_statuses(api)
        now = api.now
    if output in {"json", "yaml"}:
        typer.echo(render(statuses[0] if name else {"nodes": statuses}, output))
    elif statuses:
        write_table(node_status.status_table(statuses, now))
    elif not errors:
        typer.echo(_nothing(""), err=True)
    if name and output not in {"json", "yaml"}:
        problems = node_status.problem_table(statuses[0])
        if problems.rows:
            typer.echo()
            write_table(problems)
        for remark in node_status.remarks(statuses[0], now):
            typer.echo(remark, err=True)
    for error in errors:
        tell(error)
    _exit_for(errors)


@app.command(
    epilog=examples(
        "fedge trace pod/hello",
        "fedge trace device/ac-1 --web",
        "fedge trace 4bf92f3577b34da6a3ce929d0e0e4736 --all",
    )
)
def trace(
    what: Annotated[str, typer.Argument(metavar="pod/NAME|device/NAME|TRACE-ID")],
    namespace: Namespace = "",
    web: Annotated[
        bool, typer.Option("--web", help="Print the address in Jaeger instead.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Fold nothing, leave nothing out.")
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", help="So many seconds wait for it to be there, and whole.")
    ] = 0.0,
    output: Output = "",
    system_namespace: SystemNamespace = "fedge-system",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the way of a change: what happened where, when it began and how long it took.

    Of an object the newest change is printed. AT is the time since the begin of the trace. Below a
    span is what came of it; `wait` is time in a queue, or in a store until something was there.
    What is about other objects, such as the config maps of a pod, is one line.
    """
    from fedge_cli import finding_traces, trace_layout, traces  # noqa: PLC0415 - only this command's
    from fedge_cli.printing import render  # noqa: PLC0415

    _check_output(output)
    with _connected(kubeconfig) as (api, default):
        asked = finding_traces.read_asked(what, namespace or default)
        client = finding_traces.TraceClient(api, system_namespace)
        found = client.find(asked, wait_seconds=wait)
    if web:
        typer.echo(finding_traces.web_link(found))
        return
    if output in {"json", "yaml"}:
        typer.echo(render(dict(found.answer), output))
        return
    width = shutil.get_terminal_size((120, 24)).columns
    view = trace_layout.View(about=found.about, width=width, everything=everything)
    spans = [traces.Span.read(each) for each in found.answer["spans"]]
    for line in trace_layout.trace_lines(spans, view):
        typer.echo(line)
    for line in finding_traces.other_lines(found, asked.shown, trace_layout.duration):
        typer.echo(line)


@app.command(epilog=examples("fedge logs hello --tail 20", "fedge logs hello -c main --previous"))
def logs(
    pod: Annotated[str, typer.Argument(show_default=False)],
    container: Annotated[str, typer.Option("-c", "--container", help="If it has several.")] = "",
    namespace: Namespace = "",
    tail: Annotated[int, typer.Option("--tail", help="Only the last lines; -1 for all.")] = -1,
    since: Annotated[str, typer.Option("--since", help="Only what is newer: 30s, 5m, 1h30m.")] = "",
    previous: Annotated[
        bool, typer.Option("-p", "--previous", help="Of the run before the last restart.")
    ] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="With times.")] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines.")] = False,
    edge_socket: EdgeSocket = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print what a container of a pod wrote."""
    from fedge_cli.durations import parse_seconds  # noqa: PLC0415 - only this command's

    query = {
        "container": container,
        "tailLines": str(tail) if tail >= 0 else "",
        "sinceSeconds": str(parse_seconds(since)) if since else "",
        "previous": "true" if previous else "",
        "timestamps": "true" if timestamps else "",
        "follow": "true" if follow else "",
    }
    name = pod.removeprefix("pods/").removeprefix("pod/")
    if edge_socket is not None:
        from fedge_cli.at_the_edge import show_logs  # noqa: PLC0415 - only on a node

        options = {key: value for key, value in query.items() if value}
        with told():
            show_logs(
                edge_socket,
                namespace=namespace or "default",
                pod=name,
                container=container,
                options=options,
            )
        return
    with _connected(kubeconfig) as (api, default):
        path = api.find_type("pods").path(namespace or default, name, "log")
        asked = {name: value for name, value in query.items() if value}
        for piece in api.stream_bytes(path, query=asked):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@app.command(
    name="exec",
    epilog=examples("fedge exec hello -- ls /www", "fedge exec -it hello -c main -- sh"),
)
def exec_(
    pod: Annotated[str, typer.Argument(show_default=False)],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", show_default=False)],
    container: Annotated[str, typer.Option("-c", "--container", help="If it has several.")] = "",
    namespace: Namespace = "",
    stdin: Annotated[bool, typer.Option("-i", "--stdin", help="Pass on what is typed.")] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="As in a terminal.")] = False,
    edge_socket: EdgeSocket = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Run a command in a container of a pod; its exit code is this one's."""
    from fedge_cli.execing import Wish, run_command  # noqa: PLC0415 - only this command's

    name = pod.removeprefix("pods/").removeprefix("pod/")
    wish = Wish(command=command, container=container, stdin=stdin, tty=tty)
    if edge_socket is not None:
        from fedge_cli import at_the_edge  # noqa: PLC0415 - only on a node

        with told():
            code = at_the_edge.run_command(
                edge_socket, namespace=namespace or "default", pod=name, wish=wish
            )
        raise typer.Exit(code)
    with _connected(kubeconfig) as (api, default):
        path = api.find_type("pods").path(namespace or default, name, "exec")
        code = run_command(api, path, wish)
    raise typer.Exit(code)


@app.command(epilog=examples("fedge delete pod hello", "fedge delete -f examples/hello/ --now"))
def delete(
    kind: Annotated[str, typer.Argument(metavar="KIND|KIND/NAME")] = "",
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None,
    files: Files = None,
    namespace: Namespace = "",
    now: Annotated[bool, typer.Option("--now", help="Give containers one second only.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Drop the object without waiting for its node to end it."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until they are gone.")] = True,
    timeout: Annotated[str, typer.Option("--timeout", help="How long to wait.")] = "2m",
    kubeconfig: Kubeconfig = None,
) -> None:
    """Delete objects, and wait until they are gone."""
    from fedge_cli import deleting  # noqa: PLC0415 - only this command's
    from fedge_cli.durations import parse_seconds  # noqa: PLC0415
    from fedge_cli.getting import Query  # noqa: PLC0415

    if bool(files) == bool(kind):
        raise _usage("say what to delete: KIND NAME, or -f FILE")
    errors: list[CommandError] = []
    with _connected(kubeconfig) as (api, default):
        where = namespace or default
        manner = deleting.Manner(
            grace_seconds=0 if force else 1 if now else None,
            wait_seconds=parse_seconds(timeout) if wait else None,
        )
        targets: list[deleting.Target | CommandError] = [
            each
            for file in files or ()
            for each in deleting.targets_in(
                api, file, default_namespace=default, namespace=namespace
            )
        ]
        if kind:
            query = Query(kinds=kind, names=tuple(names or ()), namespace=where)
            for found, wanted in query.targets(api):
                if not wanted:
                    raise UsageError(f"say which {found.singular} to delete: KIND NAME")
                targets += [
                    deleting.Target(kind=found, namespace=where, name=name) for name in wanted
                ]
        if force:
            typer.echo(
                "warning: the object goes now; what runs on a node that is away runs on until the "
                "node is back",
                err=True,
            )
        for line in deleting.delete_all(api, targets, manner):
            if isinstance(line, CommandError):
                tell(line)
                errors.append(line)
            else:
                typer.echo(line)
    _exit_for(errors)


@app.command()
def version(output: Output = "", kubeconfig: Kubeconfig = None) -> None:
    """Print the versions of this command and of the server.

    A server that is not reached is no error.
    """
    from importlib.metadata import version as installed_version  # noqa: PLC0415 - only then

    from fedge_cli import kubeconfig as access  # noqa: PLC0415
    from fedge_cli.versions import server_version  # noqa: PLC0415

    _check_output(output)
    versions = {"fedge": installed_version("fedge-cli"), "server": "", "note": ""}
    try:
        versions["server"] = server_version(access.load(access.find(kubeconfig)))
    except CommandError as exc:
        versions["note"] = str(exc)
    if output in {"json", "yaml"}:
        from fedge_cli.printing import render  # noqa: PLC0415 - only then

        typer.echo(render(versions, output))
        return
    typer.echo(f"fedge   {versions['fedge']}\nserver  {versions['server'] or 'not reached'}")
    if versions["note"]:
        typer.echo(versions["note"], err=True)


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


@app.command()
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


@app.command()
def down(data_dir: DataDir = None) -> None:
    """Stop what the demo started, and nothing else. Its data stays."""
    from fedge_cli.demo import stop  # noqa: PLC0415 - loads the whole local system

    with told():
        stop(data_dir)


def _print_tables(api: "Api", query: "Query") -> None:
    from fedge_cli.getting import Table, get_rows  # noqa: PLC0415 - loaded already
    from fedge_cli.printing import write_table  # noqa: PLC0415

    errors: list[CommandError] = []
    tables: list[Table] = []
    targets = query.targets(api)
    for kind, wanted in targets:
        table, refused = get_rows(api, kind, wanted, query)
        errors += refused
        if len(targets) > 1:
            at = table.columns.index("NAME") if "NAME" in table.columns else 0
            for row in table.rows:
                row[at] = f"{kind.display}/{row[at]}"
        if table.rows:
            tables.append(table)
    for index, table in enumerate(tables):
        if index:
            typer.echo()
        write_table(table)
    for error in errors:
        tell(error)
    if not tables and not errors:
        is_namespaced = any(kind.is_namespaced for kind, _ in targets)
        typer.echo(_nothing(query.namespace or "" if is_namespaced else ""), err=True)
    _exit_for(errors)


def _print_whole(api: "Api", query: "Query") -> None:
    from fedge_cli.getting import get_objects  # noqa: PLC0415 - loaded already
    from fedge_cli.printing import render  # noqa: PLC0415

    objects, errors = get_objects(api, query)
    text = render(objects, query.output)
    if text:
        typer.echo(text)
    for error in errors:
        tell(error)
    _exit_for(errors)


def _print_changes(api: "Api", query: "Query") -> None:
    from fedge_cli.getting import watch  # noqa: PLC0415 - loaded already
    from fedge_cli.printing import column_widths, render, write_table  # noqa: PLC0415

    is_first = True
    widths: list[int] = []
    try:
        for seen in watch(api, query):
            if seen.object:
                if query.output == "yaml" and not is_first:
                    typer.echo("---")
                typer.echo(render(seen.object, query.output))
            elif seen.table.rows:
                widths = column_widths(seen.table, widths)
                write_table(seen.table, header=is_first, widths=widths)
            else:
                continue
            is_first = False
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _connected(kubeconfig: Path | None) -> Iterator[tuple["Api", str]]:
    """Open the API; errors end the command with their code."""
    from fedge_cli import kubeconfig as access  # noqa: PLC0415 - `run` and `--help` need none
    from fedge_cli.api import Api  # noqa: PLC0415

    with told():
        found = access.load(access.find(kubeconfig))
        with Api.opened(found) as api:
            yield api, found.namespace


def _exit_for(errors: Iterable[CommandError]) -> None:
    """End with the errors' code: their own if they agree, else 1."""
    codes = {each.exit_code for each in errors}
    if codes:
        raise typer.Exit(codes.pop() if len(codes) == 1 else CommandError.exit_code)


def _usage(message: str) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(UsageError.exit_code)


def _check_output(output: str) -> None:
    if output not in {"", "json", "yaml", "wide", "name"}:
        raise _usage(f"-o is {output!r}: use json, yaml, wide or name")


def _nothing(namespace: str) -> str:
    return f"No resources found in {namespace} namespace." if namespace else "No resources found"
