"""What a container runtime answers when it does not do as asked.

RuntimeFaultError
├── NotFoundError      no such sandbox, container or image
├── AlreadyThereError  a sandbox or container of that name and attempt exists
├── RefusedError       the request is wrong, or the runtime cannot carry it out as it is
├── ExecTimeoutError   a command did not end in time
└── UnavailableError   the runtime does not answer, or not in time

The text is the runtime's own: users search for it.
"""


class RuntimeFaultError(Exception):
    """Base of this package's errors."""


class NotFoundError(RuntimeFaultError):
    """No such sandbox, container or image."""


class AlreadyThereError(RuntimeFaultError):
    """A sandbox or container of that name and attempt exists, or is being made."""


class RefusedError(RuntimeFaultError):
    """The runtime will not, or could not."""


class UnavailableError(RuntimeFaultError):
    """The runtime does not answer."""


class ExecTimeoutError(RuntimeFaultError):
    """A command in a container did not end in the time that it was given."""
