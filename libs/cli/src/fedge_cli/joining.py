"""``fedge join``: make this gateway a node."""

import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedge_cli.errors import AwayError, CommandError, UsageError

if TYPE_CHECKING:
    from fedge_enrolment.checks import Machine
    from fedge_enrolment.identity import Joined
    from fedge_enrolment.tokens import JoinToken

DEFAULT_IDENTITY = Path("/var/lib/fedge/identity")


def read_token(text: str, file: Path | None) -> "JoinToken":
    """Return the token that was given, in whichever way.

    Raises:
        UsageError: none was given, or it is damaged.
    """
    from fedge_enrolment.tokens import JoinToken, TokenError  # noqa: PLC0415

    if file is not None:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text()
        except OSError as exc:
            raise UsageError(f"the token cannot be read: {exc}") from exc
    if not text:
        raise UsageError("give the token: `fedge join TOKEN`, or --token-file FILE")
    try:
        return JoinToken.decode(text)
    except TokenError as exc:
        raise UsageError(str(exc)) from exc


def check(token: "JoinToken", *, cloud: str, machine: "Machine") -> None:
    """Check this machine, and what can be known of the cloud, before anything is changed.

    Raises:
        CommandError: something stands in the way; all of it was told.
    """
    from fedge_enrolment.checks import Level, before_joining  # noqa: PLC0415

    failed = []
    for each in before_joining(token, machine, cloud=cloud):
        if each.level is not Level.OK:
            typer.echo(f"{each.level:<4}  {each.name}: {each.detail} -> {each.remedy}", err=True)
        if each.level is Level.FAIL:
            failed.append(each.name)
    if failed:
        raise CommandError(
            f"not joined: {', '.join(failed)}; mend that, or skip the checks with --no-checks"
        )


def join(
    token: "JoinToken",
    *,
    folder: Path,
    node: str,
    cloud: str,
    wait_seconds: float,
) -> "Joined":
    """Join, and say what went wrong in the command's own way.

    Raises:
        CommandError: it did not work.
    """
    from fedge_enrolment import joining as j  # noqa: PLC0415
    from fedge_enrolment.dialling import DialError  # noqa: PLC0415
    from fedge_enrolment.identity import Identity, IdentityError  # noqa: PLC0415
    from fedge_enrolment.join_trace import traced  # noqa: PLC0415
    from fedge_enrolment.refusals import RefusedError  # noqa: PLC0415
    from fedge_objects import NodeName  # noqa: PLC0415
    from fedge_service import TraceSettings  # noqa: PLC0415

    name = node or token.node or platform.node().lower()
    if token.node and name != token.node:
        raise UsageError(f"the token is for node {token.node!r}, not {name!r}: leave out --node")
    os.umask(0o077)
    try:
        identity = Identity.of(folder, os.environ)
        ratio = TraceSettings().ratio
        with traced(name, identity.join_spans, ratio=ratio, warn=_warn):
            return j.join(
                identity,
                token,
                node=NodeName(name),
                cloud=cloud,
                patience_seconds=wait_seconds,
            )
    except DialError as exc:
        raise AwayError(str(exc)) from exc
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    except (RefusedError, IdentityError, j.FakeCloudError, j.ClockError) as exc:
        raise CommandError(str(exc)) from exc
    except OSError as exc:
        raise CommandError(f"{folder} cannot be written: {exc}") from exc


def _warn(what: str) -> None:
    typer.echo(f"warning: {what}", err=True)


def tell(joined: "Joined", *, was_before: bool) -> None:
    """Say how it ended."""
    typer.echo(
        f"this gateway is node {joined.node}"
        + (" already" if was_before else "")
        + f"; its broker links to {joined.broker}"
    )
