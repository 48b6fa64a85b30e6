"""Commands on what an API server, or a node itself, has."""

import shutil
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from fedge_cli.durations import parse_seconds
from fedge_cli.errors import AwayError, CommandError, UsageError
from fedge_cli.options import (
    AllNamespaces,
    EdgeSocket,
    Files,
    Kubeconfig,
    Namespace,
    Output,
    SystemNamespace,
)
from fedge_cli.usage import (
    INTERRUPTED,
    check_output,
    connected,
    examples,
    exit_for,
    tell,
    told,
    usage_error,
)

if TYPE_CHECKING:
    from fedge_cli.api import Api
    from fedge_cli.getting import Query

commands = typer.Typer()


@commands.command(
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
        raise usage_error(f"--dry-run is {dry_run!r}: use {', '.join(applying.DryRun)}")
    check_output(output)
    if not files:
        raise usage_error("say which manifests: -f FILE")
    errors, objects = [], []
    with connected(kubeconfig) as (api, default), ExitStack() as stack:
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


@commands.command(
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

    check_output(output)
    with connected(kubeconfig) as (api, default):
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


@commands.command(epilog=examples("fedge describe pod hello", "fedge describe node edge-1"))
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
    with connected(kubeconfig) as (api, default):
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
    exit_for(errors)


@commands.command(epilog=examples("fedge status", "fedge status edge-1", "fedge status -o json"))
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

    check_output(output)
    name = node.removeprefix("nodes/").removeprefix("node/")
    errors: list[CommandError] = []
    with connected(kubeconfig) as (api, _):
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
    exit_for(errors)


@commands.command(
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

    check_output(output)
    with connected(kubeconfig) as (api, default):
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


@commands.command(
    epilog=examples("fedge logs hello --tail 20", "fedge logs hello -c main --previous")
)
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
    with connected(kubeconfig) as (api, default):
        path = api.find_type("pods").path(namespace or default, name, "log")
        asked = {name: value for name, value in query.items() if value}
        for piece in api.stream_bytes(path, query=asked):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


@commands.command(
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
    with connected(kubeconfig) as (api, default):
        path = api.find_type("pods").path(namespace or default, name, "exec")
        code = run_command(api, path, wish)
    raise typer.Exit(code)


@commands.command(
    epilog=examples("fedge delete pod hello", "fedge delete -f examples/hello/ --now")
)
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
    from fedge_cli.getting import Query  # noqa: PLC0415

    if bool(files) == bool(kind):
        raise usage_error("say what to delete: KIND NAME, or -f FILE")
    errors: list[CommandError] = []
    with connected(kubeconfig) as (api, default):
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
    exit_for(errors)


@commands.command()
def version(output: Output = "", kubeconfig: Kubeconfig = None) -> None:
    """Print the versions of this command and of the server.

    A server that is not reached is no error.
    """
    from importlib.metadata import version as installed_version  # noqa: PLC0415 - only then

    from fedge_cli import kubeconfig as access  # noqa: PLC0415
    from fedge_cli.versions import server_version  # noqa: PLC0415

    check_output(output)
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
    exit_for(errors)


def _print_whole(api: "Api", query: "Query") -> None:
    from fedge_cli.getting import get_objects  # noqa: PLC0415 - loaded already
    from fedge_cli.printing import render  # noqa: PLC0415

    objects, errors = get_objects(api, query)
    text = render(objects, query.output)
    if text:
        typer.echo(text)
    for error in errors:
        tell(error)
    exit_for(errors)


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


def _nothing(namespace: str) -> str:
    return f"No resources found in {namespace} namespace." if namespace else "No resources found"
