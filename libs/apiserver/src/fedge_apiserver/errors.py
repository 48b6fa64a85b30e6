"""Refusals, phrased as a Kubernetes API server phrases them.

One exception with a code, a reason and a message, because that is what a client receives; the
functions make the kinds that occur::

    ApiError
      bad_request 400 · unauthorized 401 · not_found 404 · method_not_allowed 405
      already_exists, conflict 409 · expired 410 · too_large 413 · unsupported_media_type 415
      invalid 422 · too_many_requests 429 · internal 500 · unavailable 503 · timeout 504

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from fedge_objects import JsonObject

REQUIRED: Final = "FieldValueRequired"
INVALID: Final = "FieldValueInvalid"
NOT_SUPPORTED: Final = "FieldValueNotSupported"
DUPLICATE: Final = "FieldValueDuplicate"
FORBIDDEN: Final = "FieldValueForbidden"
NOT_FOUND: Final = "FieldValueNotFound"
TOO_LONG: Final = "FieldValueTooLong"
TOO_MANY: Final = "FieldValueTooMany"
TYPE_INVALID: Final = "FieldValueTypeInvalid"


class Named(Protocol):
    """What a message needs to know of a resource."""

    @property
    def group(self) -> str:
        """API group, empty for the core."""

    @property
    def plural(self) -> str:
        """Plural name."""

    @property
    def kind(self) -> str:
        """Kind."""


class ApiError(Exception):
    """A refusal. ``status()`` is what the client gets."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: JsonObject | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after_seconds = retry_after_seconds

    def status(self) -> JsonObject:
        """Return the ``Status`` object."""
        status: JsonObject = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        details = dict(self.details or {})
        if self.retry_after_seconds is not None:
            details["retryAfterSeconds"] = self.retry_after_seconds
        if details:
            status["details"] = details
        return status


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing wrong with one field of an object.

    Attributes:
        kind: one of the constants of this module.
        path: the field, e.g. ``spec.containers[0].image``.
        text: what is wrong, as Kubernetes says it: ``Required value``.
    """

    kind: str
    path: str
    text: str


@dataclass(slots=True)
class Causes:
    """Collects what is wrong with an object."""

    found: list[Cause] = field(default_factory=list)

    def required(self, path: str, detail: str = "") -> None:
        """Add: a field is missing."""
        self.found.append(
            Cause(REQUIRED, path, f"Required value: {detail}" if detail else "Required value")
        )

    def invalid(self, path: str, value: object, detail: str) -> None:
        """Add: a value is not allowed."""
        self.found.append(Cause(INVALID, path, f"Invalid value: {_quoted(value)}: {detail}"))

    def not_supported(self, path: str, value: object, allowed: Sequence[str]) -> None:
        """Add: a value is none of those allowed."""
        names = ", ".join(f'"{name}"' for name in allowed)
        self.found.append(
            Cause(
                NOT_SUPPORTED,
                path,
                f"Unsupported value: {_quoted(value)}: supported values: {names}",
            )
        )

    def duplicate(self, path: str, value: object) -> None:
        """Add: a value occurs twice."""
        self.found.append(Cause(DUPLICATE, path, f"Duplicate value: {_quoted(value)}"))

    def forbidden(self, path: str, detail: str) -> None:
        """Add: a field may not be set, or not changed."""
        self.found.append(Cause(FORBIDDEN, path, f"Forbidden: {detail}"))

    def not_found(self, path: str, value: object) -> None:
        """Add: a reference leads nowhere."""
        self.found.append(Cause(NOT_FOUND, path, f"Not found: {_quoted(value)}"))

    def too_long(self, path: str, detail: str) -> None:
        """Add: a value is too long."""
        self.found.append(Cause(TOO_LONG, path, f"Too long: {detail}"))

    def too_many(self, path: str, count: int, limit: int) -> None:
        """Add: a list has too many items."""
        self.found.append(
            Cause(TOO_MANY, path, f"Too many: {count}: must have at most {limit} items")
        )

    def type_invalid(self, path: str, value: object, detail: str) -> None:
        """Add: a value has the wrong type."""
        self.found.append(Cause(TYPE_INVALID, path, f"Invalid value: {_quoted(value)}: {detail}"))


def _quoted(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return str(value)
    from json import dumps  # noqa: PLC0415 - rare

    return dumps(value, separators=(",", ":"))


def qualified(resource: Named) -> str:
    """Return a resource as messages name it: ``pods``, ``leases.coordination.k8s.io``."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _details(resource: Named, name: str) -> JsonObject:
    details: JsonObject = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    return details


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    """401: no valid credentials."""
    return ApiError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: Named, name: str, message: str) -> ApiError:
    """403: understood and refused."""
    return ApiError(
        403,
        "Forbidden",
        f'{qualified(resource)} "{name}" is forbidden: {message}',
        details=_details(resource, name),
    )


def not_found(resource: Named, name: str) -> ApiError:
    """404: no such object."""
    return ApiError(
        404,
        "NotFound",
        f'{qualified(resource)} "{name}" not found',
        details=_details(resource, name),
    )


def no_such_path() -> ApiError:
    """404: no such resource or path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> ApiError:
    """405: the resource has no such verb."""
    return ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )


def already_exists(resource: Named, name: str) -> ApiError:
    """409: there is an object of that name."""
    return ApiError(
        409,
        "AlreadyExists",
        f'{qualified(resource)} "{name}" already exists',
        details=_details(resource, name),
    )


def conflict(resource: Named, name: str, text: str) -> ApiError:
    """409: the object is not as the writer believed."""
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified(resource)} "{name}": {text}',
        details=_details(resource, name),
    )


STALE: Final = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def expired(message: str) -> ApiError:
    """410: the history does not reach back that far."""
    return ApiError(410, "Expired", message)


def too_large(message: str) -> ApiError:
    """413: the body is too big."""
    return ApiError(413, "RequestEntityTooLarge", message)


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    """415: the body's type is not known."""
    return ApiError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted),
    )


def invalid(resource: Named, name: str, causes: Causes) -> ApiError:
    """422: understood, but the object breaks its rules."""
    texts = [f"{cause.path}: {cause.text}" for cause in causes.found]
    shown = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details: JsonObject = {"name": name}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.kind
    details["causes"] = [
        {"reason": cause.kind, "message": cause.text, "field": cause.path} for cause in causes.found
    ]
    subject = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return ApiError(422, "Invalid", f'{subject} "{name}" is invalid: {shown}', details=details)


def too_many_requests(message: str, *, cause: str, text: str) -> ApiError:
    """429: not now."""
    causes = [{"reason": cause, "message": text}]
    return ApiError(429, "TooManyRequests", message, details={"causes": causes})


def internal(message: str) -> ApiError:
    """500: our fault."""
    return ApiError(500, "InternalError", f"Internal error occurred: {message}")


def unavailable(message: str) -> ApiError:
    """503: something that is needed is not there now."""
    return ApiError(503, "ServiceUnavailable", message, retry_after_seconds=1)


def ahead(revision: int, current: int) -> ApiError:
    """504: a resourceVersion that this server has not reached."""
    return ApiError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {revision}, current: {current}",
        details={
            "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ]
        },
        retry_after_seconds=1,
    )
