"""Why somebody was refused, in a form that a program can rely on and a person can act on.

Sent as problem details (RFC 9457, https://www.rfc-editor.org/rfc/rfc9457).
"""

from typing import Any, Final

PROBLEM_TYPE: Final = "application/problem+json"
_TYPES: Final = "urn:fedge:problem:"

BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
CONFLICT: Final = 409
TOO_LARGE: Final = 413
UNAVAILABLE: Final = 503


class RefusedError(Exception):
    """A request that is not granted.

    Attributes:
        code: stable, for programs: ``token_expired``.
        status: of HTTP.
        detail: what is the matter, with the names of the things.
        remedy: what to do about it.
    """

    def __init__(self, code: str, status: int, detail: str, remedy: str) -> None:
        super().__init__(f"{detail}: {remedy}")
        self.code = code
        self.status = status
        self.detail = detail
        self.remedy = remedy

    def problem(self) -> dict[str, Any]:
        """Return the problem details."""
        return {
            "type": f"{_TYPES}{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "remedy": self.remedy,
        }

    @classmethod
    def read(cls, problem: dict[str, Any], status: int) -> "RefusedError":
        """Return what a server's problem details say."""
        return cls(
            str(problem.get("code", "unknown")),
            status,
            str(problem.get("detail", f"HTTP {status}")),
            str(problem.get("remedy", "see the log of hub")),
        )
