"""What can go wrong with a message, by what the handler's caller does about it.

FabricError
├── MalformedError     no message of ours, or damaged: to the dead letters, with the reason
├── InvalidError       understood and refused for good: to the dead letters, with the reason
├── UnavailableError   something needed is away: tried again later
└── UnroutableError    published, but no queue takes it

Any other error of a handler is tried again like UnavailableError, up to the limit of attempts.
"""


class FabricError(Exception):
    """Base of this package's errors."""


class MalformedError(FabricError):
    """A message that cannot be read: not an event, an unknown encoding, broken JSON."""


class InvalidError(FabricError):
    """A message that was read and will never be accepted, e.g. a node speaking for another."""


class UnavailableError(FabricError):
    """The broker, or something that a handler needs, is away."""


class UnroutableError(FabricError):
    """The broker has no queue for a message that had to reach one."""
