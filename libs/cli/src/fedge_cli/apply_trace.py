"""The trace that ``fedge apply`` begins: its own spans, and the annotation that others go on from.

https://www.w3.org/TR/trace-context/
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import fedge_tracing as tracing
from fedge_cli.api import Api, ResourceType
from fedge_cli.errors import CommandError
from fedge_cli.finding_traces import SERVICE
from fedge_objects import ObjectKey
from fedge_service import TraceSettings
from fedge_tracing import names

TRACED: Final = frozenset(
    {"pods", "configmaps", "secrets", "serviceaccounts", "devices", "devicemodels"}
)
"""What goes to nodes; an annotation on anything else would say nothing to anybody."""
PROTOBUF: Final = "application/x-protobuf"
_tracer = tracing.Tracer("cli")


@dataclass(slots=True)
class ApplyTrace:
    """The trace of one command.

    Attributes:
        trace_id: its id; empty if nothing is traced.
        is_wanted: whether anything was changed: else it is nobody's.
        lacks: why it is not whole; empty if it is.
    """

    trace_id: str = ""
    is_wanted: bool = False
    lacks: str = ""

    def __str__(self) -> str:
        """Return what a person is told of it; empty if there is nothing to tell."""
        if not self.trace_id or not self.is_wanted:
            return ""
        return f"trace {self.trace_id}" + (f" ({self.lacks})" if self.lacks else "")


@contextmanager
def begun(api: Api, system_namespace: str) -> Iterator[ApplyTrace]:
    """Trace what is done within.

    Its spans go to hub at the end. If they do not, that is all that failed.
    """
    settings = TraceSettings()
    buffer = tracing.configure(ratio=settings.ratio)
    try:
        with _tracer.root("apply", kind=tracing.SpanKind.INTERNAL) as active:
            trace = ApplyTrace()
            if active.span is not None:
                trace.trace_id = tracing.trace_id_of(active.traceparent)
            yield trace
        spans, _ = buffer.take_now()
    finally:
        tracing.stop()
    if not spans or not trace.is_wanted:
        return
    path = f"/api/v1/namespaces/{system_namespace}/services/{SERVICE}/proxy/v1/traces"
    try:
        api.send_bytes(path, tracing.encode(spans), content_type=PROTOBUF)
    except CommandError as exc:
        trace.lacks = f"without its beginning, which hub did not get: {exc}"


def span_of(kind: ResourceType, namespace: str, name: str) -> tracing.Spanning:
    """Return the span of applying one object."""
    resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    about = {names.OBJECT: str(ObjectKey(resource, namespace, name))}
    return tracing.span(f"apply {kind.plural}", attributes=about)


def context_for(kind: ResourceType) -> str:
    """Return the trace context that an object of a kind is to name; empty: none."""
    context = tracing.traceparent()
    is_traced = context and tracing.is_recorded(context)
    return context if is_traced and kind.plural in TRACED else ""


def naming(obj: dict[str, Any], context: str) -> dict[str, Any]:
    """Return an object that names a trace context; without one as it is."""
    if not context:
        return obj
    metadata = obj["metadata"]
    annotations = {**(metadata.get("annotations") or {}), tracing.ANNOTATION: context}
    return {**obj, "metadata": {**metadata, "annotations": annotations}}


def named_by(obj: dict[str, Any]) -> str:
    """Return the trace context that an object names."""
    return str((obj["metadata"].get("annotations") or {}).get(tracing.ANNOTATION) or "")
