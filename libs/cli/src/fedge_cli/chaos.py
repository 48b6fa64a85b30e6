"""``fedge chaos``: make a local system fail on purpose, for a while."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fedge_cli.durations import parse_fine_seconds, parse_step
from fedge_cli.errors import UsageError
from fedge_cli.usage import DataDir, examples, told

if TYPE_CHECKING:
    from fedge_local.stack import Stack

Choice = TypeVar("Choice", bound=StrEnum)

chaos = typer.Typer(
    no_args_is_help=True,
    help="""Make the local system fail on purpose, and heal it.

    A fault lasts as long as its command: --for so long, or until Ctrl-C. Several commands may run
    at once, also for one node. What a killed command leaves behind is healed by `fedge chaos heal`
    and by `fedge down`. Needs root.""",
)

Node = Annotated[str, typer.Argument(metavar="NODE", show_default=False, help="Name of an edge.")]
NodeOrCloud = Annotated[
    str, typer.Argument(metavar="NODE", show_default=False, help="Name of an edge, or cloud.")
]
For = Annotated[str, typer.Option("--for", envvar="FEDGE_CHAOS_FOR", help="How long: 30s, 5m, 1h.")]


@chaos.command(epilog=examples("fedge chaos cut edge-1 --for 1m"))
def cut(node: Node, seconds: For = "30s", data_dir: DataDir = None) -> None:
    """Cut the line of an edge: both ends see that the carrier is lost."""
    from fedge_local import faults  # noqa: PLC0415 - loads the whole local system

    _hold(data_dir, node, seconds, "its line is cut", lambda stack: faults.cut(stack, node))


@chaos.command(epilog=examples("fedge chaos halfopen edge-1 --direction up --for 2m"))
def halfopen(
    node: Node,
    direction: Annotated[
        str, typer.Option("--direction", help="both, up (to the cloud) or down.")
    ] = "both",
    seconds: For = "30s",
    data_dir: DataDir = None,
) -> None:
    """Drop what the line carries without a word: connections stay half open."""
    from fedge_local import faults  # noqa: PLC0415

    with told():
        way = _chosen(faults.Direction, "--direction", direction)
    _hold(
        data_dir,
        node,
        seconds,
        f"its line swallows packets ({way})",
        lambda stack: faults.halfopen(stack, node, direction=way),
    )


@chaos.command(epilog=examples("fedge chaos lossy edge-1 --loss 20 --for 5m"))
def lossy(
    node: Node,
    loss: Annotated[
        float, typer.Option("--loss", help="Percent of the packets, in each direction.")
    ] = 20.0,
    seconds: For = "30s",
    data_dir: DataDir = None,
) -> None:
    """Drop packets of the line at random."""
    from fedge_local import faults  # noqa: PLC0415

    _hold(
        data_dir,
        node,
        seconds,
        f"its line loses {loss:g} % of the packets",
        lambda stack: faults.lossy(stack, node, percent=loss),
    )


@chaos.command(epilog=examples("fedge chaos slow edge-1 --delay 300ms --rate 64k --for 5m"))
def slow(
    node: Node,
    delay: Annotated[
        str, typer.Option("--delay", help="How much longer each way takes: 300ms, 2s.")
    ] = "",
    rate: Annotated[
        str, typer.Option("--rate", help="Bytes per second in each direction: 64k, 1M.")
    ] = "",
    seconds: For = "30s",
    data_dir: DataDir = None,
) -> None:
    """Make the line to the cloud's broker slow; its connections are made anew.

    Give --delay, --rate or both.
    """
    from fedge_cli.sizes import parse_bytes  # noqa: PLC0415
    from fedge_local import faults  # noqa: PLC0415

    with told():
        if not delay and not rate:
            raise UsageError("say how slow: --delay 300ms, --rate 64k, or both")
        delay_seconds = parse_fine_seconds(delay) if delay else 0.0
        bytes_per_second = parse_bytes("--rate", rate) if rate else None
    _hold(
        data_dir,
        node,
        seconds,
        "its line is slow",
        lambda stack: faults.slow(
            stack, node, delay_seconds=delay_seconds, bytes_per_second=bytes_per_second
        ),
    )


What = Annotated[
    str,
    typer.Option(
        "--what",
        help="Of an edge: services, broker, containerd, all. "
        "Of cloud: broker, redis, hub, controller, device, apiserver.",
    ),
]


@chaos.command(
    epilog=examples(
        "fedge chaos kill edge-1 --what all --for 10s", "fedge chaos kill cloud --what hub"
    )
)
def kill(
    node: NodeOrCloud, what: What = "services", seconds: For = "30s", data_dir: DataDir = None
) -> None:
    """Kill processes of a node, and start them again at the end; all cuts an edge's power."""
    from fedge_local import faults  # noqa: PLC0415

    with told():
        part = _chosen(faults.Part, "--what", what)
    _hold(
        data_dir,
        node,
        seconds,
        f"{part} killed",
        lambda stack: faults.kill(stack, node, what=part),
    )


@chaos.command(epilog=examples("fedge chaos pause edge-1 --what broker --for 2m"))
def pause(
    node: NodeOrCloud, what: What = "services", seconds: For = "30s", data_dir: DataDir = None
) -> None:
    """Let processes of a node stand still, then go on."""
    from fedge_local import faults  # noqa: PLC0415

    with told():
        part = _chosen(faults.Part, "--what", what)
    _hold(
        data_dir,
        node,
        seconds,
        f"{part} paused",
        lambda stack: faults.pause(stack, node, what=part),
    )


@chaos.command("fill-disk", epilog=examples("fedge chaos fill-disk edge-1 --for 2m"))
def fill_disk(node: Node, seconds: For = "30s", data_dir: DataDir = None) -> None:
    """Fill the disk of an edge that has one of its own (fedge demo --edge-disk 256Mi)."""
    from fedge_local import faults  # noqa: PLC0415

    _hold(data_dir, node, seconds, "its disk is full", lambda stack: faults.fill_disk(stack, node))


@chaos.command(
    epilog=examples("fedge chaos clock edge-1 --step 1h", "fedge chaos clock edge-1 --step=-1h")
)
def clock(
    node: Node,
    step: Annotated[str, typer.Option("--step", help="How far ahead: 1h; or behind: -1h.")] = "1h",
    seconds: For = "30s",
    data_dir: DataDir = None,
) -> None:
    """Set the wall clock of an edge's services wrong (fedge demo --fake-clock)."""
    from fedge_local import faults  # noqa: PLC0415

    with told():
        step_seconds = parse_step(step)
    _hold(
        data_dir,
        node,
        seconds,
        f"the clock of its services is off by {step_seconds:+d} s",
        lambda stack: faults.clock(stack, node, step_seconds=step_seconds),
    )


@chaos.command(epilog=examples("fedge chaos heal edge-1"))
def heal(node: NodeOrCloud, data_dir: DataDir = None) -> None:
    """Heal all faults of a node, also those that a killed command left behind."""
    from fedge_cli import holding  # noqa: PLC0415

    with told():
        healed = holding.heal(data_dir, node)
    typer.echo(f"{node}: healed {', '.join(healed)}" if healed else f"{node}: nothing to heal")


def _hold(
    data_dir: Path | None,
    node: str,
    seconds: str,
    state: str,
    make: Callable[["Stack"], AbstractAsyncContextManager[None]],
) -> None:
    """Make a fault, and end with the code that it ended with."""
    from fedge_cli.holding import hold  # noqa: PLC0415 - loads the whole local system

    with told():
        code = hold(data_dir, node, seconds, state, make)
    raise typer.Exit(code)


def _chosen(kind: type[Choice], option: str, text: str) -> Choice:
    try:
        return kind(text)
    except ValueError as exc:
        raise UsageError(f"{option} is {text!r}: use {', '.join(kind)}") from exc
