"""``fedge token``, ``fedge node``, ``fedge ca``: who may join, and who no longer belongs."""

import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fedge_cli.durations import parse_seconds
from fedge_cli.errors import AwayError, CommandError, MissingError, UsageError
from fedge_cli.options import Kubeconfig
from fedge_cli.usage import examples, told

if TYPE_CHECKING:
    from fedge_cli.api import Api
    from fedge_enrolment.records import Record, Records
    from fedge_enrolment.registrar import NodeRecord, Registrar, TokenRecord

T = TypeVar("T")

NAMESPACE = "fedge-system"
_AGAIN_SECONDS = 0.3

token = typer.Typer(no_args_is_help=True, help="Make, list and revoke the tokens gateways join by.")
node = typer.Typer(no_args_is_help=True, help="List the nodes that have joined, and shut one out.")
ca = typer.Typer(no_args_is_help=True, help="Tell of the certificate authority, or change it.")

RecordsFolder = Annotated[
    Path | None,
    typer.Option(
        "--records",
        envvar="FEDGE_HUB_ENROLMENT_RECORDS_FOLDER",
        help="Folder of hub's records, where it keeps them in one and not in Kubernetes.",
        show_default=False,
    ),
]
Namespace = Annotated[
    str,
    typer.Option(
        "--system-namespace",
        envvar="FEDGE_HUB_ENROLMENT_NAMESPACE",
        help="Namespace in which hub keeps its records.",
    ),
]
Output = Annotated[str, typer.Option("-o", "--output", envvar="FEDGE_OUTPUT", help="json.")]


@token.command(
    name="create",
    epilog=examples(
        "fedge token create",
        "fedge token create --node gw-1",
        "fedge token create --uses 50 --ttl 8h",
    ),
)
def create_token(
    node_name: Annotated[
        str, typer.Option("--node", help="The only node that may use it.", show_default=False)
    ] = "",
    ttl: Annotated[str, typer.Option("--ttl", help="How long it is good.")] = "1h",
    uses: Annotated[int, typer.Option("--uses", help="For how many gateways.")] = 1,
    wait: Annotated[
        str, typer.Option("--wait", help="For so long wait for a cloud that is still starting.")
    ] = "",
    records: RecordsFolder = None,
    namespace: Namespace = NAMESPACE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Make a token and print it: on the gateway, `fedge join TOKEN`.

    It holds where the cloud is and by what to recognise it, and lets one gateway in, once. It is
    shown now and never again.
    """
    with told():
        lifetime = timedelta(seconds=parse_seconds(ttl))
        until = time.monotonic() + (parse_seconds(wait) if wait else 0)

    def make() -> str:
        with _opened(records, namespace, kubeconfig) as open_registrar:
            made = open_registrar(
                lambda registrar: registrar.create_token(
                    node=node_name, lifetime=lifetime, uses=uses
                )
            )
        return str(made.encode())

    with told():
        while True:
            try:
                typer.echo(make())
            except (AwayError, MissingError):
                if time.monotonic() > until:
                    raise
                time.sleep(_AGAIN_SECONDS)
            else:
                return


@token.command(name="list", epilog=examples("fedge token list"))
def list_tokens(
    output: Output = "",
    records: RecordsFolder = None,
    namespace: Namespace = NAMESPACE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the tokens there are; their secrets are kept nowhere."""
    with told(), _opened(records, namespace, kubeconfig) as open_registrar:
        found = open_registrar(lambda registrar: registrar.tokens())
    now = datetime.now(UTC).timestamp()
    if output == "json":
        typer.echo(json.dumps([_token(each, now) for each in found], indent=2))
        return
    rows = [("TOKEN", "NODE", "USES", "ENDS", "STATE")]
    for each in found:
        told_of = _token(each, now)
        used = f"{len(each.used)}/{each.uses}"
        rows.append((each.id, each.node or "any", used, told_of["expires"], told_of["state"]))
    _print(rows)


@token.command(name="revoke", epilog=examples("fedge token revoke k3x7q2ma"))
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, or the whole of it.")],
    records: RecordsFolder = None,
    namespace: Namespace = NAMESPACE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Make a token worthless. Nodes that have joined by it stay."""
    from fedge_enrolment.tokens import PREFIX, JoinToken, TokenError  # noqa: PLC0415

    with told(), _opened(records, namespace, kubeconfig) as open_registrar:
        if token_id.startswith(PREFIX):
            try:
                token_id = JoinToken.decode(token_id).id
            except TokenError as exc:
                raise UsageError(str(exc)) from exc
        if not open_registrar(lambda registrar: registrar.revoke_token(token_id)):
            raise MissingError(f"there is no token {token_id!r}: see `fedge token list`")
    typer.echo(f"token {token_id} revoked")


@node.command(name="list", epilog=examples("fedge node list"))
def list_nodes(
    output: Output = "",
    records: RecordsFolder = None,
    namespace: Namespace = NAMESPACE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the nodes that have joined, and until when their certificates are valid."""
    with told(), _opened(records, namespace, kubeconfig) as open_registrar:
        found = open_registrar(lambda registrar: registrar.nodes())
    if output == "json":
        typer.echo(json.dumps([_node(each) for each in found], indent=2))
        return
    rows = [("NODE", "JOINED", "CERTIFICATE ENDS", "STATE")]
    rows += [(t["node"], t["joined"], t["expires"], t["state"]) for t in map(_node, found)]
    _print(rows)


@node.command(name="revoke", epilog=examples("fedge node revoke gw-1"))
def revoke_node(
    node_name: Annotated[str, typer.Argument(metavar="NODE")],
    records: RecordsFolder = None,
    namespace: Namespace = NAMESPACE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Shut a node out at once: its connections end and its keys are worthless.

    What it had stays on its disk, and its Node object in the cluster. To let the gateway in again:
    `fedge token create --node NODE`, and on it, with its identity folder removed, `fedge join`.
    """
    from fedge_objects import NodeName  # noqa: PLC0415

    with told(), _opened(records, namespace, kubeconfig) as open_registrar:
        found = open_registrar(lambda registrar: registrar.revoke(NodeName(node_name)))
        if found is None:
            raise MissingError(f"no node {node_name!r} has joined: see `fedge node list`")
    typer.echo(f"node {node_name} revoked")


@node.command(
    name="upgrade",
    epilog=examples(
        "fedge node upgrade gw-1 --image registry.example/fedge/edge:0.2.0",
        "fedge node upgrade gw-1 --confirm",
        "fedge node upgrade --file edge-0.2.0.tar",
    ),
)
def upgrade_node(
    node_name: Annotated[str, typer.Argument(metavar="NODE", show_default=False)] = "",
    image: Annotated[
        str, typer.Option("--image", help="What the node fetches, with its tag or digest.")
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option("--file", help="An archive of the image; at the gateway itself, as root."),
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Agree to the upgrade that the node waits with.")
    ] = False,
    ask: Annotated[
        bool, typer.Option("--ask", help="Have the node wait until somebody agrees.")
    ] = False,
    digest: Annotated[
        str, typer.Option("--digest", help="With --file: what the image has to be.")
    ] = "",
    timeout: Annotated[
        str, typer.Option("--timeout", help="How long the new version has to prove itself.")
    ] = "5m",
    edge_socket: Annotated[
        Path, typer.Option("--edge-socket", help="With --file: edged's own socket.")
    ] = Path("/var/lib/fedge/run/edged/edged.sock"),
    kubeconfig: Kubeconfig = None,
) -> None:
    """Bring a node to another version; one that does not work is taken back by itself.

    Pods run on meanwhile. The new version has to do all that the one before did: its services
    answer, its pods run, its link to the cloud is up if it was.
    """
    from fedge_cli import node_upgrading  # noqa: PLC0415 - only this command's

    with told():
        if sum([bool(image), file is not None, confirm]) != 1:
            raise UsageError("name one of --image, --file and --confirm")
        seconds = round(parse_seconds(timeout))
        if file is not None:
            node_upgrading.upgrade_here(
                edge_socket, file, node=node_name, digest=digest, seconds=seconds, say=typer.echo
            )
            return
        if not node_name:
            raise UsageError("name the node: `fedge get nodes` lists them")
        from fedge_cli import kubeconfig as access  # noqa: PLC0415
        from fedge_cli.api import Api  # noqa: PLC0415

        with Api.opened(access.load(access.find(kubeconfig))) as api:
            if confirm:
                node_upgrading.confirm(api, node_name, say=typer.echo)
                return
            job = node_upgrading.job_for(node_name, image, seconds=seconds, confirm=ask)
            node_upgrading.upgrade(api, job, say=typer.echo)


@ca.command(epilog=examples("fedge ca rotate"))
def rotate(
    after: Annotated[
        str, typer.Option("--after", help="When it begins to sign; until then it is only trusted.")
    ] = "10m",
    records: RecordsFolder = None,
    namespace: Namespace = NAMESPACE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Add a new certificate authority, which signs after a while.

    Brokers must have heard of it by then, which takes them two minutes. The former stays trusted
    until it ends: nodes take the new one when they renew their certificates. Tokens that are out
    still work.
    """
    with told(), _opened(records, namespace, kubeconfig) as open_registrar:
        wait = timedelta(seconds=parse_seconds(after))
        made = open_registrar(lambda registrar: registrar.rotate_authority(wait))
    typer.echo(f"new authority {made.hex()}")


@ca.command(epilog=examples("fedge ca show"))
def show(
    records: RecordsFolder = None,
    namespace: Namespace = NAMESPACE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Print the authorities that are trusted, newest first: fingerprints and certificates (PEM)."""
    from fedge_enrolment import certificates as c  # noqa: PLC0415

    with told(), _opened(records, namespace, kubeconfig) as open_registrar:
        bundle = open_registrar(lambda registrar: registrar.bundle())
    for each in c.split(bundle):
        typer.echo(
            f"# {c.fingerprint(each).hex()} until {c.load(each).not_valid_after_utc:%Y-%m-%d}"
        )
        typer.echo(each.decode(), nl=False)


@ca.command(epilog=examples("fedge ca distrust 4f6a..."))
def distrust(
    fingerprint: Annotated[
        str, typer.Argument(help="As `fedge ca show` prints it: 64 characters.")
    ],
    records: RecordsFolder = None,
    namespace: Namespace = NAMESPACE,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Trust a former certificate authority no longer, whose key was stolen.

    Brokers read their files again within two minutes; then nobody gets in by what it signed. Nodes
    that have not renewed their certificates since the rotation have to join again.
    """
    with told(), _opened(records, namespace, kubeconfig) as open_registrar:
        try:
            wanted = bytes.fromhex(fingerprint)
        except ValueError as exc:
            raise UsageError(f"{fingerprint!r} is no fingerprint: see `fedge ca show`") from exc
        open_registrar(lambda registrar: registrar.distrust_authority(wanted))
    typer.echo(f"authority {fingerprint} is trusted no longer")


Ask = Callable[["Registrar"], Coroutine[Any, Any, T]]
Asking = Callable[[Ask[T]], T]


@contextmanager
def _opened(
    folder: Path | None, namespace: str, kubeconfig: Path | None
) -> Iterator[Callable[[Ask[Any]], Any]]:
    """Open the records and yield what runs questions to the registrar."""
    import structlog  # noqa: PLC0415

    from fedge_cli import kubeconfig as access  # noqa: PLC0415
    from fedge_cli.api import Api  # noqa: PLC0415
    from fedge_cli.api_records import ApiRecords  # noqa: PLC0415
    from fedge_enrolment.records import FolderRecords, RecordError  # noqa: PLC0415
    from fedge_enrolment.refusals import RefusedError  # noqa: PLC0415

    def asking(records: "Records") -> Callable[[Ask[Any]], Any]:
        return lambda ask: _run(_ask(records, ask))

    # standard output is for what was asked
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        if folder is not None:
            yield asking(FolderRecords(folder))
        else:
            with Api.opened(access.load(access.find(kubeconfig))) as api:
                yield asking(ApiRecords(api, namespace))
    except RefusedError as exc:
        raise CommandError(str(exc)) from exc
    except RecordError as exc:
        raise AwayError(str(exc)) from exc


def _run(work: Coroutine[Any, Any, T]) -> T:
    import asyncio  # noqa: PLC0415 - help needs none

    return asyncio.run(work)


async def _ask(records: "Records", ask: Ask[T]) -> T:
    from fedge_enrolment.authority import Authorities  # noqa: PLC0415
    from fedge_enrolment.records import AUTHORITY  # noqa: PLC0415
    from fedge_enrolment.registrar import TERMS, Registrar, Terms  # noqa: PLC0415

    def now() -> datetime:
        return datetime.now(UTC)

    terms = await records.get(AUTHORITY, TERMS)
    if terms is None:
        raise AwayError(
            "hub has not said yet how gateways join: start it, with FEDGE_HUB_ENROLMENT_RECORDS set"
        )
    registrar = Registrar(
        records=records,
        authorities=Authorities(records, now),
        terms=Terms(broker=terms.data["broker"], cloud=terms.data["cloud"]),
        now=now,
    )
    return await ask(registrar)


def records_of(api: "Api", namespace: str) -> Callable[[str, str], "Record | None"]:
    """Return what reads a record, by kind and name."""
    from fedge_cli.api_records import ApiRecords  # noqa: PLC0415

    records = ApiRecords(api, namespace)
    return lambda kind, name: _run(records.get(kind, name))


def nodes_of(api: "Api", namespace: str) -> list[dict[str, Any]]:
    """Return the nodes that have joined."""
    from fedge_cli.api_records import ApiRecords  # noqa: PLC0415

    return [_node(each) for each in _run(_ask(ApiRecords(api, namespace), _all_nodes))]


async def _all_nodes(registrar: "Registrar") -> list["NodeRecord"]:
    return await registrar.nodes()


def _token(record: "TokenRecord", now: float) -> dict[str, Any]:
    if len(record.used) >= record.uses:
        state = "used"
    else:
        state = "expired" if record.expires < now else "good"
    return {
        "id": record.id,
        "node": record.node,
        "uses": record.uses,
        "used_by": [each.node for each in record.used],
        "expires": _time(record.expires),
        "state": state,
    }


def _node(record: "NodeRecord") -> dict[str, Any]:
    end = max((each.end for each in record.serials), default=0.0)
    is_over = end < datetime.now(UTC).timestamp()
    return {
        "node": record.node,
        "user": record.user,
        "joined": _time(record.joined),
        "expires": _time(end),
        "state": "revoked" if record.revoked is not None else "expired" if is_over else "valid",
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("   ".join(cells).rstrip())
