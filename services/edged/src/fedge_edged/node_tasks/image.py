"""The image that this edge runs from, as its first process tells of it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec


class OwnImage(msgspec.Struct, frozen=True, kw_only=True):
    """What is told.

    Attributes:
        slot: that the edge runs from; empty: from the container's own image.
        base: the container's own image.
        version: that runs.
        begin_anew: a command that ends broker and services in good order, and has the first process
            look again which version is to run.
    """

    slot: str
    base: str
    version: str
    begin_anew: Sequence[str]

    @classmethod
    def told(cls, path: Path | None) -> Self | None:
        """Read what is told; None where this edge does not run from the image."""
        if path is None:
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, ValueError):
            return None

    async def end(self) -> None:
        """Have the first process look again which version is to run; this process is ended."""
        # nobody waits for it: it outlives this process
        os.posix_spawn(  # noqa: ASYNC221 - it takes a millisecond
            self.begin_anew[0],
            list(self.begin_anew),
            {"PATH": os.environ.get("PATH", os.defpath)},
            setsid=True,
            setsigmask=(),
        )
