"""What all tracers of one process share."""

import uuid
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer as SdkTracer

from fedge_tracing import names
from fedge_tracing._buffer import SpanBuffer
from fedge_tracing._sampling import HeadSampler

SCOPE = "fedge"
_ERRORS_PER_SECOND = 5.0


def _instance() -> str:
    return str(uuid.uuid4())


def own_version() -> str:
    """Return the version of fedge that runs."""
    try:
        return version("fedge-tracing")
    except PackageNotFoundError:
        return "unknown"


@dataclass(slots=True, kw_only=True)
class State:
    """Set once, at the start of a process.

    Attributes:
        buffer: where spans wait to be sent.
        head: which traces are recorded.
        errors: how many errors outside of those are.
        node: the node that this process is on; empty in the cloud.
    """

    buffer: SpanBuffer
    head: HeadSampler
    node: str = ""
    errors: HeadSampler = field(
        default_factory=lambda: HeadSampler(
            ratio=1, per_second=_ERRORS_PER_SECOND, burst_seconds=5.0
        )
    )
    instance: str = field(default_factory=_instance)
    _tracers: dict[str, tuple[SdkTracer, Resource]] = field(default_factory=dict)

    def tracer(self, service: str) -> tuple[SdkTracer, Resource]:
        """Return what makes the spans of a service, and whose they are."""
        known = self._tracers.get(service)
        if known is None:
            known = self._tracers[service] = self._make(service)
        return known

    def _make(self, service: str) -> tuple[SdkTracer, Resource]:
        attributes = {
            names.SERVICE_NAME: f"fedge-{service}",
            names.SERVICE_VERSION: own_version(),
            names.SERVICE_INSTANCE_ID: self.instance,
        }
        if self.node:
            attributes[names.K8S_NODE_NAME] = self.node
        resource = Resource(attributes)
        # what is recorded was decided where the trace began
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self.buffer)
        return provider.get_tracer(SCOPE, own_version()), resource


_states: list[State] = []


def configure(
    *, ratio: float = 1.0, per_second: float = 0.0, buffer: int = 2048, node: str = ""
) -> SpanBuffer:
    """Begin to record traces in this process; without this nothing is recorded, only passed on.

    Args:
        ratio: share of the traces that begin here which are recorded, from 0 to 1.
        per_second: how many begin in a second at most; 0: as many as there are.
        buffer: how many spans wait to be sent, at most.
        node: the node that this process is on; empty in the cloud.
    """
    made = SpanBuffer(buffer)
    head = HeadSampler(ratio=ratio, per_second=per_second)
    _states[:] = [State(buffer=made, head=head, node=node)]
    return made


def stop() -> None:
    """Record nothing any more."""
    _states.clear()


def resume(stopped: State) -> None:
    """Record again as was configured before it was stopped."""
    _states[:] = [stopped]


def state() -> State | None:
    """Return what was configured."""
    return _states[0] if _states else None


def buffer() -> SpanBuffer | None:
    """Return where ended spans wait; None if nothing is recorded."""
    return _states[0].buffer if _states else None
