"""What ends a command, with the exit code that scripts may rely on.

CommandError        1  it did not work
├── UsageError      2  it was asked for wrongly
├── MissingError    3  what was asked for is not there
└── AwayError       4  the server, or the node, cannot be reached now
"""


class CommandError(Exception):
    """Base; the text is shown as it is."""

    exit_code = 1


class UsageError(CommandError):
    """The command line, or a file that it names, is wrong."""

    exit_code = 2


class MissingError(CommandError):
    """What was asked for is not there."""

    exit_code = 3


class AwayError(CommandError):
    """Who should answer does not."""

    exit_code = 4
