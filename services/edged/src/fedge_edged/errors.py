"""Why a pod, or one of its containers, cannot go on for now.

WaitError
├── ConfigError    what it refers to is missing or wrong: CreateContainerConfigError
├── MountError     a volume cannot be made: FailedMount
└── ImageError     the image is not there and cannot be had

Each carries the reason and message that the kubelet would show.
"""


class WaitError(Exception):
    """Base: the reason shows as the container's waiting reason, the text as its message."""

    reason = "ContainerCreating"


class ConfigError(WaitError):
    """A config map, secret, key or field that is referred to is not there."""

    reason = "CreateContainerConfigError"


class MountError(WaitError):
    """A volume cannot be set up."""

    reason = "ContainerCreating"


class ImageError(WaitError):
    """An image cannot be had."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
