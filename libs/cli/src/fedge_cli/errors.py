"""What ends a command, with the exit code that scripts may rely on.

CommandError        1  it did not work
├── UsageError      2  it was asked for wrongly
├── MissingError    3  what was asked for is not there
└── AwayError       4  the server, or the node, cannot be reached now
"""


class CommandError(Exception):
    """Base; the text is shown as it is.

    Attributes:
        status: HTTP status of the server's refusal; 0 if it is not a server's.
    """

    exit_code = 1

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    def at(self, place: str) -> "CommandError":
        """Return the same error with the place that it belongs to."""
        return type(self)(f"{place}: {self}", status=self.status)


class UsageError(CommandError):
    """The command line, or a file that it names, is wrong."""

    exit_code = 2


class MissingError(CommandError):
    """What was asked for is not there."""

    exit_code = 3


class AwayError(CommandError):
    """Who should answer does not."""

    exit_code = 4
