"""A wall clock of an edge's services that can be set, by libfaketime in their process.

Only ``CLOCK_REALTIME`` is another; the monotonic clock, by which they wait, is the machine's. The
library reads the difference from a file, at most once a second: so late a new one may be noticed.
Under it ``time.sleep`` fails (EINVAL): libfaketime 0.9.10 does not know the clock that Python 3.11
sleeps by. asyncio, locks and SQLite are not concerned.
Source: https://github.com/wolfcw/libfaketime, README.
"""

from collections.abc import Mapping
from pathlib import Path

from fedge_local.errors import MissingError
from fedge_local.processes import Process

_LIBRARIES = "lib*/*/faketime/libfaketimeMT.so.1"


class FakeClock:
    """The clock of one edge."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def set(self, difference_seconds: int) -> None:
        """Set it to the machine's time plus so much."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{difference_seconds:+d}\n")
        new.replace(self._file)

    def prepare(self) -> None:
        """Make sure that it shows a time."""
        if not self._file.exists():
            self.set(0)

    def is_followed_by(self, process: Process) -> bool:
        """Whether a process was started so that it goes by this clock."""
        setting = f"FAKETIME_TIMESTAMP_FILE={self._file}".encode()
        return setting in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")

    def variables(self) -> Mapping[str, str]:
        """Return the environment of a program that is to go by it.

        Raises:
            MissingError: libfaketime is not installed.
        """
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            # seconds: reading the file for each of thousands of questions a second is a load itself
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # files' times are the machine's
            "NO_FAKE_STAT": "1",
        }


def _library() -> Path:
    found = sorted(Path("/usr").glob(_LIBRARIES))
    if not found:
        raise MissingError(
            "libfaketime, which sets the clock of services, is not installed: "
            "run `apt-get install libfaketime`"
        )
    return found[0]
