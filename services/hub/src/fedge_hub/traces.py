"""Traces as ``fedge trace`` asks for them, wherever they are kept."""

from dataclasses import dataclass, field
from typing import Any, Protocol

CHANGES = ("apply ", "observe ")
"""With these begins the name of a span that only the trace of a change has."""

Value = str | bool | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a span is linked to."""

    trace_id: str
    span_id: str
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span. Ids are hexadecimal digits, times nanoseconds since the epoch.

    Attributes:
        kind: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``.
        service: ``fedge-edged``.
        node: where it was; empty in the cloud.
        error: whether it failed; ``message`` says why.
    """

    trace_id: str
    span_id: str
    parent_id: str = ""
    name: str
    kind: str = "internal"
    service: str = ""
    node: str = ""
    start_ns: int
    end_ns: int
    error: bool = False
    message: str = ""
    attributes: dict[str, Value] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """A trace in short.

    Attributes:
        name: of its root span, or else of its first.
        is_change: whether it is the trace of a change, and not of what came of one later.
    """

    trace_id: str
    name: str
    start_ns: int
    end_ns: int
    spans: int
    errors: int
    is_change: bool


class Traces(Protocol):
    """Where traces are kept."""

    async def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of a trace, in the order in which they began; none if it is unknown.

        Raises:
            UnavailableError: nobody answers.
        """
        ...

    async def traces(self, about: str, limit: int) -> list[TraceSummary]:
        """Return the traces that are about an object, the newest first.

        Args:
            about: the object's key, ``pods/default/hello``.
            limit: how many.

        Raises:
            UnavailableError: nobody answers.
        """
        ...


def summary(spans: list[Span]) -> TraceSummary:
    """Return a trace in short; it has at least one span."""
    ids = {each.span_id for each in spans}
    first = min(spans, key=lambda each: (each.parent_id in ids, each.start_ns))
    return TraceSummary(
        trace_id=first.trace_id,
        name=first.name,
        start_ns=min(each.start_ns for each in spans),
        end_ns=max(each.end_ns for each in spans),
        spans=len(spans),
        errors=sum(each.error for each in spans),
        is_change=any(each.name.startswith(CHANGES) for each in spans),
    )


def plain(value: Any) -> Value:
    """Return an attribute's value as it can be shown."""
    return value if isinstance(value, str | bool | int | float) else str(value)
