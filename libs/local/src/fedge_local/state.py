"""What is remembered about a stack between commands: one JSON file, written whole or not at all.

It holds passwords of the brokers, so only its owner may read it.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from fedge_local.errors import LocalError

_VERSION = 2


class Line(StrEnum):
    """How the line between an edge and the cloud is."""

    UP = "up"
    CUT = "cut"
    """No carrier: both ends know."""
    SWALLOWING = "swallowing"
    """Packets vanish without a word."""


@dataclass(slots=True, kw_only=True)
class EdgeState:
    """What is remembered about one edge."""

    index: int
    line: Line = Line.UP
    password: str = field(default="", repr=False)
    """Of its services at its own broker."""


@dataclass(slots=True, kw_only=True)
class StackState:
    """What is remembered about a stack."""

    password: str
    network: str
    ports: dict[str, int]
    edges: dict[str, EdgeState] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    edge_disk_bytes: int = 0
    """Size of the disk that each edge has of its own; 0: its data lies on the machine's."""
    edge_image: str = ""
    """Archive of the image that edges run from; empty: they run from this checkout."""
    fake_clock: bool = False
    """Whether the wall clock of edges' services can be set apart from the machine's."""

    def __repr__(self) -> str:
        """Return all but the password."""
        return f"StackState(network={self.network!r}, ports={self.ports}, edges={self.edges})"

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Return what was saved, or None if nothing was.

        Raises:
            LocalError: the file is not one of ours.
        """
        try:
            text = path.read_text()
        except FileNotFoundError:
            return None
        try:
            return cls._parse(json.loads(text))
        except (ValueError, TypeError, KeyError) as exc:
            raise LocalError(
                f"{path} cannot be read ({exc!r}): stop what runs and remove it"
            ) from exc

    def save(self, path: Path) -> None:
        """Write it, durable and readable by the owner only."""
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"version": _VERSION, **asdict(self)}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    @classmethod
    def _parse(cls, saved: dict[str, Any]) -> Self:
        if saved.pop("version") != _VERSION:
            raise ValueError("another version of fedge wrote it")
        edges = {
            name: EdgeState(**(edge | {"line": Line(edge["line"])}))
            for name, edge in saved.pop("edges").items()
        }
        return cls(edges=edges, **saved)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the right to change what runs in ``folder``.

    Raises:
        LocalError: another command holds it.
    """
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LocalError(
                f"another command is starting or stopping what is in {folder}: wait for it"
            ) from exc
        yield
