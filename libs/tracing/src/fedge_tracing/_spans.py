"""Spans: made with ``with``, one inside the other; never raising, cheap where nothing is recorded.

A trace is recorded or not as was decided where it began, and travels with that decision. Errors are
kept all the same: a span of what failed is made when it failed, with no parent, in the same trace.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, Token
from types import TracebackType

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from fedge_tracing import _state, names
from fedge_tracing._context import TEXT_LENGTH, Cause, format_context, is_recorded, parse

Value = str | bool | int | float
Attributes = Mapping[str, Value]

LINK_AFTER_SECONDS = 1.0
"""Work that waited longer than that for its turn has a link to its cause, with the wait."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_MOST_TEXT = 512
_TOLD = "_fedge_traced"


class Active:
    """Where in a trace something is: in a span that is recorded, or in a trace that is not."""

    __slots__ = ("_begin", "_context", "_span", "_text", "has_ended", "service")

    def __init__(
        self,
        service: str,
        context: SpanContext | None = None,
        span: Span | None = None,
        *,
        begin: Callable[[], "Span | Active"] | None = None,
        text: str = "",
    ) -> None:
        self.service = service
        self.has_ended = False
        self._context = context
        self._span = span
        self._begin = begin
        self._text = text

    @property
    def has_begun(self) -> bool:
        """Whether there is a span, or will be none."""
        return self._begin is None

    def begin(self) -> None:
        """Begin a span that was to begin only if something happens in it."""
        if self._begin is None:
            return
        begun, self._begin = self._begin(), None
        if isinstance(begun, Active):
            self._text = begun.traceparent
        else:
            self._span, self._context = begun, begun.get_span_context()

    @property
    def context(self) -> SpanContext | None:
        """The context of what happens here; None if it is in no trace."""
        self.begin()
        if self._context is None and self._text:
            self._context = parse(self._text)
        return self._context

    @property
    def is_recorded(self) -> bool:
        """Whether what happens here is recorded, as far as its context says."""
        self.begin()
        return self._span is not None or is_recorded(self._text)

    @property
    def span(self) -> Span | None:
        """The span, where one is recorded."""
        self.begin()
        return self._span

    @property
    def traceparent(self) -> str:
        """The trace context as text; empty if there is none."""
        if not self._text:
            context = self.context
            self._text = "" if context is None else format_context(context)
        return self._text

    def set(self, name: str, value: Value) -> None:
        """Set an attribute."""
        if self._span is not None:
            self._span.set_attribute(name, value)

    def fail(self, message: str, error_type: str = "error") -> None:
        """Mark the span as failed, though nothing was raised."""
        self.begin()
        if self._span is not None:
            self._span.set_status(Status(StatusCode.ERROR, message[:_MOST_TEXT]))
            self._span.set_attribute(names.ERROR_TYPE, error_type)


Spanning = AbstractContextManager[Active, None]
"""A span for the time of a ``with`` block; where nothing is recorded, a place in a trace."""
_NOWHERE = Active("")
_CURRENT: ContextVar[Active] = ContextVar("fedge_trace", default=_NOWHERE)


def current() -> Active:
    """Return where in a trace this is."""
    return _CURRENT.get()


@contextmanager
def within(active: Active) -> Iterator[None]:
    """Have what happens here belong to a span that was begun elsewhere and has not ended."""
    token = _CURRENT.set(active)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def untraced() -> AbstractContextManager[None]:
    """Have what happens here belong to no trace."""
    return within(_NOWHERE)


def traceparent() -> str:
    """Return the trace context of what happens now; empty if it is in no trace."""
    active = _CURRENT.get()
    return "" if active is _NOWHERE or active.has_ended else active.traceparent


def log_fields() -> dict[str, str]:
    """Return the ids of the trace and the span that this is in, for the log."""
    active = _CURRENT.get()
    if active is _NOWHERE or active.has_ended or not active.has_begun:
        return {}
    context = active.context
    if context is None:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def records(traceparent: str) -> bool:
    """Whether a span of a trace context's trace would be recorded here."""
    return bool(traceparent) and is_recorded(traceparent) and _state.state() is not None


class Tracer:
    """Makes the spans of one service."""

    __slots__ = ("service",)

    def __init__(self, service: str) -> None:
        """Take the service: ``hub``, ``edged``."""
        self.service = service

    def root(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        causes: Sequence[Cause] = (),
        start: float | None = None,
        lazily: bool = False,
    ) -> Spanning:
        """Return the first span of a new trace, which is recorded or not as the settings say.

        Args:
            name: low in cardinality, e.g. ``observe pods``.
            kind: OpenTelemetry's kind of a span.
            attributes: see ``fedge_tracing.names``.
            causes: what it is linked to, and how long ago that was.
            start: when it began, in seconds since the epoch; now if not given.
            lazily: there is a span only if something is traced within, or an error comes of it.
        """
        state = _state.state()
        if state is not None and not lazily and not state.head.takes():
            return _Unrecorded(self.service, _new_text("00"), name, kind, attributes, start)
        return _Recorded(self.service, name, kind, None, attributes, causes, start, lazily=lazily)

    def child(
        self,
        traceparent: str,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        causes: Sequence[Cause] = (),
        start: float | None = None,
        lazily: bool = False,
    ) -> Spanning:
        """Return a span of the trace that a message or an object came with; see ``root``.

        Without a valid ``traceparent`` there is none: only what is meant to begin a trace does.
        """
        is_one = len(traceparent) == TEXT_LENGTH
        if is_one and not is_recorded(traceparent):
            return _Unrecorded(self.service, traceparent, name, kind, attributes, start)
        parent = Active(self.service, text=traceparent) if is_one else _NOWHERE
        return _Recorded(self.service, name, kind, parent, attributes, causes, start, lazily=lazily)


def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    start: float | None = None,
    service: str = "",
) -> Spanning:
    """Return a span within the one that is current; none where none is.

    Args:
        name: low in cardinality.
        kind: OpenTelemetry's kind of a span.
        attributes: see ``fedge_tracing.names``.
        start: when it began, in seconds since the epoch; now if not given.
        service: whose it is; that of the current span if not given.
    """
    active = _CURRENT.get()
    if active.has_ended:
        active = _NOWHERE
    return _Recorded(service or active.service, name, kind, active, attributes, (), start)


class _Unrecorded(Active):
    """In a trace that is not recorded, for the time of a ``with`` block.

    Most of what passes is: so this costs as little as it can. Errors are kept all the same.
    """

    __slots__ = ("_attributes", "_kind", "_name", "_start", "_token")

    def __init__(
        self,
        service: str,
        text: str,
        name: str,
        kind: SpanKind,
        attributes: Attributes | None,
        start: float | None,
    ) -> None:
        # what the class above does, without another call
        self.service = service
        self.has_ended = False
        self._context = None
        self._span = None
        self._begin = None
        self._text = text
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._start = time.time_ns() if start is None else int(start * 1e9)
        self._token: Token[Active] | None = None

    def __enter__(self) -> Active:
        self._token = _CURRENT.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)
        if isinstance(error, Exception) and _is_news(error):
            about = self._name, self._kind, self._attributes, self._start
            _keep_error(self.service, about, self.context, error)


class _Recorded:
    """A span for the time of a ``with`` block, where the trace is recorded or that is not known."""

    __slots__ = (
        "_active", "_attributes", "_causes", "_kind", "_lazily", "_name", "_parent", "_service",
        "_start", "_token",
    )  # fmt: skip

    def __init__(
        self,
        service: str,
        name: str,
        kind: SpanKind,
        parent: Active | None,
        attributes: Attributes | None,
        causes: Sequence[Cause],
        start: float | None,
        *,
        lazily: bool = False,
    ) -> None:
        self._service = service
        self._name = name
        self._kind = kind
        self._parent = parent
        self._attributes = attributes
        self._causes = causes
        self._start = time.time_ns() if start is None else int(start * 1e9)
        self._lazily = lazily
        self._active = _NOWHERE
        self._token: Token[Active] | None = None

    def __enter__(self) -> Active:
        self._active = self._begun()
        self._token = _CURRENT.set(self._active)
        return self._active

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            _CURRENT.reset(self._token)
        active = self._active
        if isinstance(error, Exception):
            self._failed(active, error)
        if not active.has_begun:
            active.has_ended = True  # nothing happened in it
        elif active.span is not None and active is not self._parent:
            active.has_ended = True
            active.span.end()

    def _begun(self) -> Active:
        parent = self._parent
        if parent is None:
            return self._first()
        if parent is _NOWHERE or _state.state() is None:
            return parent
        if not parent.is_recorded:
            return parent
        context = parent.context
        if context is None:
            return _NOWHERE
        if self._lazily:
            return Active(self._service, begin=lambda: self._span_below(context))
        made = self._span_below(context)
        return Active(self._service, made.get_span_context(), made)

    def _first(self) -> Active:
        if _state.state() is None:
            return _NOWHERE
        if self._lazily:
            return Active(self._service, begin=self._head)
        made = self._span_below(None)  # it was taken, or it would not be one of these
        return Active(self._service, made.get_span_context(), made)

    def _head(self) -> Span | Active:
        state = _state.state()
        if state is None or not state.head.takes():
            return Active(self._service, text=_new_text("00"))
        return self._span_below(None)

    def _span_below(self, parent: SpanContext | None) -> Span:
        state = _state.state()
        if state is None:
            return NonRecordingSpan(parent or INVALID_SPAN_CONTEXT)
        tracer, _ = state.tracer(self._service)
        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(parent), context)
        return tracer.start_span(
            self._name,
            context,
            self._kind,
            self._attributes,
            _links(self._causes, self._start) if self._causes else (),
            self._start,
            record_exception=False,
            set_status_on_exception=False,
        )

    def _failed(self, active: Active, error: Exception) -> None:
        is_news = _is_news(error)
        kind = type(error).__name__
        if active.span is not None:
            # where it came from says why; what it passes through only that it failed
            active.fail((str(error) or kind) if is_news else "", kind)
        elif is_news:
            about = self._name, self._kind, self._attributes, self._start
            _keep_error(self._service, about, active.context, error)


def _is_news(error: Exception) -> bool:
    """Return whether no span has told of an error yet; from now on one has."""
    if getattr(error, _TOLD, False):
        return False
    try:
        setattr(error, _TOLD, True)
    except AttributeError:
        return True  # it has no room for a mark: it is told by every span that it passes through
    return True


def _keep_error(
    service: str,
    about: tuple[str, SpanKind, Attributes | None, int],
    context: SpanContext | None,
    error: Exception,
) -> None:
    """Make a span of something that failed in a trace that is not recorded, or in none.

    Args:
        service: whose it is.
        about: its name, kind, attributes, and when it began.
        context: where it was.
        error: what it failed of.
    """
    state = _state.state()
    if state is None or not service or not state.errors.takes():
        return
    name, kind, attributes, start = about
    _, resource = state.tracer(service)
    own = SpanContext(
        trace_id=context.trace_id if context is not None else _number(128),
        span_id=_number(64),
        is_remote=False,
        trace_flags=_SAMPLED,
    )
    error_type = type(error).__name__
    state.buffer.on_end(
        ReadableSpan(
            name,
            context=own,
            resource=resource,
            attributes={**(attributes or {}), names.ERROR_TYPE: error_type},
            kind=kind,
            status=Status(StatusCode.ERROR, (str(error) or error_type)[:_MOST_TEXT]),
            start_time=start,
            end_time=max(time.time_ns(), start),
            instrumentation_scope=InstrumentationScope(_state.SCOPE, _state.own_version()),
        )
    )


def _number(bits: int) -> int:
    return random.getrandbits(bits) or 1


def _links(causes: Sequence[Cause], now_ns: int) -> list[Link]:
    links = []
    for cause in causes:
        context = parse(cause.traceparent)
        if context is None:
            continue
        wait = max(0.0, now_ns / 1e9 - cause.since) if cause.since else 0.0
        links.append(Link(context, {names.WAIT_SECONDS: round(wait, 6)} if cause.since else None))
    return links


def new_traceparent() -> str:
    """Return the context of a new trace that is to be recorded."""
    return _new_text("01")


def _new_text(flags: str) -> str:
    ids = random.getrandbits(192).to_bytes(24, "big").hex("-", -16)  # of trace and span
    return f"00-{ids}-{flags}"
