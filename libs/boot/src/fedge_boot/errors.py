"""Why an edge does not start."""

from typing import Final

NOT_NOW: Final = 75
"""Exit code of what may go away by itself (``EX_TEMPFAIL`` of sysexits.h)."""
NOT_SO: Final = 78
"""Exit code of what somebody has to change (``EX_CONFIG``)."""


class BootError(Exception):
    """The edge cannot start. The message is one line, with what to do."""

    def __init__(self, message: str, *, code: int = NOT_SO) -> None:
        super().__init__(message)
        self.code = code
