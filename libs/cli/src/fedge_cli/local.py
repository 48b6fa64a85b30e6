"""The system that runs on this machine, if one does."""

import os
from pathlib import Path

DEFAULT_DATA_DIR = Path("/var/lib/fedge")


def data_dir(explicit: Path | None = None) -> Path:
    """Return the folder of the local system."""
    return explicit or Path(os.environ.get("FEDGE_DATA_DIR") or DEFAULT_DATA_DIR)


def running_kubeconfig() -> Path | None:
    """Return the kubeconfig of the local system, if there is one."""
    path = data_dir() / "kubeconfig"
    return path if path.exists() else None
