"""A number that rises with each start of this service on this node.

With a sequence within one start it orders all that edged ever reports, whatever the clock does.
"""

import os
import time
from pathlib import Path


def next_incarnation(path: Path) -> int:
    """Return the number of this start; it is on the disk before this returns."""
    try:
        number = int(path.read_text()) + 1
    except (FileNotFoundError, ValueError):
        # the time in microseconds is above any number of starts counted before
        number = time.time_ns() // 1000
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        file.write(str(number))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    return number
