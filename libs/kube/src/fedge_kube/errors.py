"""What an API server answers when it does not do as asked.

KubeError
├── NotFoundError     the object, or its kind, is not there
├── ConflictError     it exists already, or has changed meanwhile: read and decide again
├── ExpiredError      a revision is too old to watch from: list again
├── RefusedError      invalid or forbidden: asking again will not help
└── UnreachableError  no answer, or an answer that asks to come back later
"""


class KubeError(Exception):
    """Base of this package's errors. The text is the server's own."""


class NotFoundError(KubeError):
    """The object, or its kind, is not there."""


class ConflictError(KubeError):
    """It exists already, or has changed since it was read."""


class ExpiredError(KubeError):
    """The revision is too old to watch from."""


class RefusedError(KubeError):
    """The request is invalid or forbidden."""


class UnreachableError(KubeError):
    """The server does not answer, or is too busy."""
