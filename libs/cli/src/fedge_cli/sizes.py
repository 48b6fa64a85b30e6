"""Numbers of bytes as Kubernetes writes them: ``512``, ``64k``, ``256Mi``."""

from fedge_cli.errors import UsageError
from fedge_objects import parse_quantity


def parse_bytes(option: str, text: str) -> int:
    """Return how many bytes an option says.

    Raises:
        UsageError: it is no number, or nothing.
    """
    try:
        count = int(parse_quantity(text))
    except ValueError:
        count = 0
    if count <= 0:
        raise UsageError(f"{option} is {text!r}: write a number of bytes, e.g. 512, 64k or 256Mi")
    return count
