"""A wall clock of an edge's services that can be set, by a small library in their process.

Only ``CLOCK_REALTIME`` is another; the monotonic clock, by which they wait, is the machine's. The
library (``fake_clock.c``) is compiled when a system is first started. libfaketime does more, at a
price: it guards conditions by a lock, so that Python's threads spin for the interpreter's own lock.
"""

import struct
import subprocess
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

from fedge_local.commands import program
from fedge_local.processes import Process

_SECONDS = struct.Struct("=q")


class FakeClock:
    """The clock of one edge."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._library = file.with_suffix(".so")

    def set(self, difference_seconds: int) -> None:
        """Set it to the machine's time plus so much; it shows that at once."""
        with self._file.open("r+b") as file:
            file.write(_SECONDS.pack(difference_seconds))

    def prepare(self) -> None:
        """Make sure that it shows a time.

        Raises:
            MissingError: the compiler is not installed.
        """
        if not self._file.exists():
            self._file.write_bytes(_SECONDS.pack(0))
        if not self._library.exists():
            new = self._library.with_suffix(".new")
            with as_file(files("fedge_local") / "fake_clock.c") as source:
                compiler = (program("tcc"), "-shared", "-nostdlib", "-o", str(new), str(source))
                subprocess.run(compiler, check=True)
            new.replace(self._library)

    def is_followed_by(self, process: Process) -> bool:
        """Whether a process was started so that it goes by this clock."""
        setting = f"FEDGE_CLOCK={self._file}".encode()
        return setting in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")

    def variables(self) -> Mapping[str, str]:
        """Return the environment of a program that is to go by it, after `prepare`."""
        return {"LD_PRELOAD": str(self._library), "FEDGE_CLOCK": str(self._file)}
