"""The spans of all services: taken from the broker, exported, and kept for ``fedge trace``.

A node speaks for itself here too: its spans say its name, whatever they said before.
"""

import asyncio
import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from fedge_fabric import (
    Address,
    InvalidError,
    MalformedError,
    MessageClass,
    UnavailableError,
    fields,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import NodeName
from fedge_service import backoff
from fedge_tracing import names

log = structlog.stdlib.get_logger("fedge.hub")

MAX_SPANS = 1024
MAX_TEXT = 4096
TRY_SECONDS = 30.0
"""For so long an export that fails is tried again; then its spans are dropped, and counted."""
OF_NODES: Final = frozenset({"fedge-meta", "fedge-edged", "fedge-twin", "fedge-join"})
"""The services that a node may tell of."""
MAX_WAITING = 64
"""So many requests over HTTP may wait for their export. Spans of others are dropped, counted."""
_MAX_TEXT_OF_REQUEST = 4 * 1024 * 1024


@dataclass(slots=True)
class SpanStatistics:
    """Counts since the start of this process."""

    received: int = 0
    dropped_by_senders: int = 0
    exported: int = 0
    export_failures: int = 0
    dropped: int = 0


class Exporter(Protocol):
    """Where spans go."""

    async def export(self, request: ExportTraceServiceRequest) -> int:
        """Hand over spans, and return how many of them were refused.

        Raises:
            UnavailableError: it may go well later.
            InvalidError: it never will.
        """
        ...


class Keeper(Protocol):
    """Where spans are kept to be looked at."""

    async def keep(self, request: ExportTraceServiceRequest) -> None:
        """Keep spans; those that are there already change nothing."""
        ...


class Spans:
    """Takes what services say of spans."""

    def __init__(self, *, exporter: Exporter | None, keeper: Keeper | None) -> None:
        """Take where spans go; None: nowhere."""
        self.statistics = SpanStatistics()
        self._exporter = exporter
        self._keeper = keeper
        self._waiting: asyncio.Queue[tuple[ExportTraceServiceRequest, int]] = asyncio.Queue(
            MAX_WAITING
        )

    def subscribe(self, fabric: Fabric) -> None:
        """Take part in hub's queue of spans."""
        fabric.subscribe(t.hub_up(MessageClass.SPANS), self.on_spans)

    async def on_spans(self, delivery: Delivery) -> None:
        """Take spans of a node, or of a service of the cloud."""
        envelope = delivery.envelope
        if envelope.type != kinds.SPANS_ENDED:
            raise InvalidError(f"message type {envelope.type!r} is none of spans")
        node = _speaker(delivery)
        request = read_request(
            fields.text(envelope.data, "otlp", default="", most=_MAX_TEXT_OF_REQUEST)
        )
        if node:
            check_services(request, OF_NODES)
            for each in request.resource_spans:
                _set_node(each, node)
        self.statistics.dropped_by_senders += fields.whole(envelope.data, "dropped", default=0)
        # while an export is tried again, the others wait in the broker
        if count := await self._keep(request):
            await self._export(request, count)

    async def run(self) -> None:
        """Export what was taken over HTTP, until cancelled."""
        while True:
            await self._export(*await self._waiting.get())

    async def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep spans, and have them exported: whoever brings them does not wait for that.

        Never raises: what cannot be kept or exported is counted.
        """
        count = await self._keep(request)
        if not count or self._exporter is None:
            return
        try:
            self._waiting.put_nowait((request, count))
        except asyncio.QueueFull:
            self.statistics.dropped += count
            log.warning("spans_dropped", spans=count, reason="too many wait for their export")

    async def _keep(self, request: ExportTraceServiceRequest) -> int:
        """Keep spans, and return how many they are."""
        count = _shorten(request)
        self.statistics.received += count
        if not count:
            return 0
        if self._keeper is not None:
            try:
                await self._keeper.keep(request)
            except (UnavailableError, ValueError) as exc:
                log.warning("spans_not_kept", spans=count, reason=str(exc))
        return count

    async def _export(self, request: ExportTraceServiceRequest, count: int) -> None:
        if self._exporter is None:
            return
        try:
            refused = await self._exported(self._exporter, request)
        except (UnavailableError, InvalidError) as exc:
            self.statistics.dropped += count
            log.warning("spans_dropped", spans=count, reason=str(exc))
            return
        self.statistics.exported += count - refused
        self.statistics.dropped += refused

    async def _exported(self, exporter: Exporter, request: ExportTraceServiceRequest) -> int:
        """Export, again and again if need be; return how many were refused.

        Raises:
            UnavailableError: nobody took them for long.
            InvalidError: nobody will.
        """
        waited = 0.0
        async for wait in backoff(first_seconds=0.5, most_seconds=8):
            waited += wait
            try:
                return await exporter.export(request)
            except UnavailableError:
                self.statistics.export_failures += 1
                if waited >= TRY_SECONDS:
                    raise
            except InvalidError:
                self.statistics.export_failures += 1
                raise
        raise AssertionError("backoff has no end")


def read_request(text: str) -> ExportTraceServiceRequest:
    """Return the spans in a message.

    Raises:
        MalformedError: there are none, or too many.
    """
    try:
        return parse_request(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as exc:
        raise MalformedError(f"spans are no base64: {exc}") from exc


def parse_request(body: bytes) -> ExportTraceServiceRequest:
    """Return the spans that some bytes are.

    Raises:
        MalformedError: they are no ``ExportTraceServiceRequest``, or there are too many.
    """
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as exc:
        raise MalformedError(f"spans are no ExportTraceServiceRequest: {exc}") from exc
    count = sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
    if count > MAX_SPANS:
        raise MalformedError(f"{count} spans in one message: no more than {MAX_SPANS} are read")
    return request


def check_services(request: ExportTraceServiceRequest, known: frozenset[str]) -> None:
    """Make sure whose spans these are.

    Raises:
        InvalidError: a service's that the sender may not tell of.
    """
    for each in request.resource_spans:
        said = attribute(each.resource.attributes, names.SERVICE_NAME)
        if said not in known:
            raise InvalidError(
                f"spans of service {said[:64]!r}: expected {', '.join(sorted(known))}"
            )


def attribute(attributes: Iterable[KeyValue], name: str) -> str:
    """Return a text among attributes; empty if it is not there."""
    return next((each.value.string_value for each in attributes if each.key == name), "")


def _speaker(delivery: Delivery) -> NodeName | None:
    """Return the node that a message came from; None: it came from the cloud.

    Raises:
        InvalidError: its source says something else.
    """
    source = delivery.envelope.source
    if delivery.routing_key.startswith("cloud."):  # the broker lets no node write that
        if not source.startswith("/cloud/"):
            raise InvalidError(f"spans of the cloud from {source!r}")
        return None
    node = Address.parse(delivery.routing_key).node
    if not source.startswith(f"/node/{node}/"):
        raise InvalidError(f"node {node!r} sent spans of source {source!r}")
    return node


def _set_node(spans: ResourceSpans, node: NodeName) -> None:
    kept = [each for each in spans.resource.attributes if each.key != names.K8S_NODE_NAME]
    del spans.resource.attributes[:]
    spans.resource.attributes.extend(kept)
    spans.resource.attributes.add(key=names.K8S_NODE_NAME).value.string_value = node


def _shorten(request: ExportTraceServiceRequest) -> int:
    """Cut texts that are too long, and return how many spans there are."""
    count = 0
    for each in request.resource_spans:
        for scope in each.scope_spans:
            for span in scope.spans:
                count += 1
                for one in span.attributes:
                    if len(one.value.string_value) > MAX_TEXT:
                        one.value.string_value = one.value.string_value[:MAX_TEXT]
    return count
