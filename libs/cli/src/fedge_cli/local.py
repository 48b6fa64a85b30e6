"""The system that runs on this machine, if one does."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedge_cli.errors import AwayError, CommandError, UsageError

DEFAULT_DATA_DIR = Path("/var/lib/fedge")


def data_dir(explicit: Path | None = None) -> Path:
    """Return the folder of the local system."""
    return explicit or Path(os.environ.get("FEDGE_DATA_DIR") or DEFAULT_DATA_DIR)


def running_kubeconfig(instead: Path) -> Path | None:
    """Return the kubeconfig of the local system.

    Args:
        instead: where the user has another. If there is one, the local system has to run to go
            first; if not, a local system that is stopped is still the one that is meant.
    """
    folder = data_dir()
    path = folder / "kubeconfig"
    try:
        if not path.exists():
            return None
    except PermissionError:
        return None  # another user's system is not ours to use
    if not instead.exists():
        return path
    from fedge_local.processes import Process  # noqa: PLC0415 - only where there is a choice

    server = Process.load(folder / "cloud" / "apiserver" / "apiserver.pid")
    return path if server is not None and server.is_alive else None


def edge_variables(explicit: Path | None, node: str) -> dict[str, str]:
    """Return where an edge of the local system is, as commands at the edge want to know it.

    Raises:
        AwayError: it does not run.
        CommandError: there is no such edge.
    """
    from fedge_local.edge import MQTT_PORT  # noqa: PLC0415 - loads the whole local system
    from fedge_local.stack import Stack  # noqa: PLC0415

    with translated():
        edge = Stack(data_dir(explicit)).edge(node).parts
    init = edge.host.init
    if init is None:
        raise AwayError(f"{node} has no power: `make demo` starts it, or `fedge chaos heal {node}`")
    return {
        "FEDGE_EDGE_DATA_DIR": str(edge.folder / "data"),
        "FEDGE_EDGE_HOST_PID": str(init.pid),
        "FEDGE_EDGE_KUBECONFIG": str(edge.folder / "data" / "api" / "kubeconfig"),
        "FEDGE_EDGE_SOCKET": str(edge.edged_socket),
        "FEDGE_TWIN_MQTT_URL": f"mqtt://{edge.account}@127.0.0.1:{MQTT_PORT}",
    }


def require_root(why: str, example: str) -> None:
    """Make sure that root runs this.

    Raises:
        UsageError: somebody else does.
    """
    if os.geteuid() != 0:
        raise UsageError(f"{why}, which only root may do: run it as root, e.g. `{example}`")


@contextmanager
def translated() -> Iterator[None]:
    """Turn the first failure of the local system into the command's."""
    from fedge_local.errors import LocalError  # noqa: PLC0415 - only where there is a system

    first: BaseException | None = None
    try:
        yield
    except* LocalError as group:
        first = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    if first is not None:
        raise CommandError(str(first)) from first
