"""The refusal of what cannot be done without the cloud."""

from typing import Final

from fedge_apiserver.errors import ApiError

RETRY_SECONDS: Final = 10


def away(reason: str) -> ApiError:
    """Return the refusal of what cannot be done without the cloud."""
    return ApiError(
        503,
        "ServiceUnavailable",
        f"the cloud does not answer: {reason}; try again when the line is back",
        retry_after_seconds=RETRY_SECONDS,
    )
