"""The system that runs on this machine, if one does."""

import json
import os
from pathlib import Path

DEFAULT_DATA_DIR = Path("/var/lib/fedge/demo")


def data_dir(explicit: Path | None = None) -> Path:
    """Return the folder of the local system."""
    return explicit or Path(os.environ.get("FEDGE_DATA_DIR") or DEFAULT_DATA_DIR)


def running_kubeconfig() -> Path | None:
    """Return the kubeconfig of the local system, if there is one."""
    state = data_dir() / "stack.json"
    try:
        return Path(json.loads(state.read_text())["kubeconfig"])
    except (OSError, ValueError, KeyError):
        return None
