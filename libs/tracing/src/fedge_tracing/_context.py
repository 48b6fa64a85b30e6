"""Trace contexts as text, as they travel and as they are stored.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

import re
from dataclasses import dataclass

from opentelemetry.trace import SpanContext, TraceFlags

ANNOTATION = "fedge.io/traceparent"
"""On an object: the trace that a change of it belongs to."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_INVALID_VERSION = "ff"
_ODD = frozenset("13579bdf")
"""How the flags of a context end that is recorded."""
TEXT_LENGTH = 55
"""Of a trace context as text."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What some work is done because of.

    Attributes:
        traceparent: its trace context; empty if it has none.
        since: when it came to be, in seconds since the epoch; 0 if nobody knows.
    """

    traceparent: str = ""
    since: float = 0.0


def parse(traceparent: str) -> SpanContext | None:
    """Return the context that a text says; None if it says none, as the specification asks."""
    found = _FORM.fullmatch(traceparent)
    if found is None or found[1] == _INVALID_VERSION:
        return None
    context = SpanContext(
        trace_id=int(found[2], 16),
        span_id=int(found[3], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(found[4], 16)),
    )
    return context if context.is_valid else None


def format_context(context: SpanContext) -> str:
    """Return the text of a context."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"


def is_recorded(traceparent: str) -> bool:
    """Whether the trace of a valid trace context is recorded."""
    return traceparent[-1:] in _ODD


def trace_id_of(traceparent: str) -> str:
    """Return the trace's id in a trace context, 32 hexadecimal digits; empty if there is none."""
    found = _FORM.fullmatch(traceparent)
    return found[2] if found is not None else ""
