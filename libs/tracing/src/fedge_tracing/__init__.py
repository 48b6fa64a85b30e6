"""One trace per change: spans of OpenTelemetry, and how they travel and wait.

Spans are made by the OpenTelemetry SDK and wait in this process, bounded, to be sent through the
broker (``fedge_fabric``). A trace is recorded or not as is decided where it begins.
"""

from opentelemetry.trace import SpanKind

from fedge_tracing._buffer import SpanBuffer
from fedge_tracing._context import ANNOTATION, Cause, is_recorded, parse, trace_id_of
from fedge_tracing._encoding import encode
from fedge_tracing._spans import (
    LINK_AFTER_SECONDS,
    Active,
    Attributes,
    Spanning,
    Tracer,
    current,
    log_fields,
    new_traceparent,
    records,
    span,
    traceparent,
    untraced,
    within,
)
from fedge_tracing._state import State, buffer, configure, resume, state, stop

__all__ = [
    "ANNOTATION",
    "LINK_AFTER_SECONDS",
    "Active",
    "Attributes",
    "Cause",
    "SpanBuffer",
    "SpanKind",
    "Spanning",
    "State",
    "Tracer",
    "buffer",
    "configure",
    "current",
    "encode",
    "is_recorded",
    "log_fields",
    "new_traceparent",
    "parse",
    "records",
    "resume",
    "span",
    "state",
    "stop",
    "trace_id_of",
    "traceparent",
    "untraced",
    "within",
]
