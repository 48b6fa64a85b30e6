"""What hub does with spans: it believes nobody about others, exports, and never stands still."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fedge_fabric import Envelope, InvalidError, MalformedError, UnavailableError, kinds
from fedge_fabric.fabric import Delivery
from fedge_hub import spans as hub_spans
from fedge_hub.span_export import OtlpExporter
from fedge_hub.spans import (
    MAX_SPANS,
    MAX_TEXT,
    MAX_WAITING,
    Exporter,
    Keeper,
    Spans,
    attribute,
)
from tests.fixtures.otlp import Receiver, receiving


def request(
    service: str = "fedge-edged", *, count: int = 1, text: str = "short", node: str = ""
) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    resource = made.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    if node:
        resource.resource.attributes.add(key="k8s.node.name").value.string_value = node
    scope = resource.scope_spans.add()
    for number in range(count):
        span = scope.spans.add()
        span.trace_id, span.span_id = bytes([1] * 16), number.to_bytes(8, "big")
        span.name, span.start_time_unix_nano, span.end_time_unix_nano = "work", 1, 2
        span.attributes.add(key="text").value.string_value = text
    return made


def delivery(data: Any, *, key: str = "node.edge-1.spans.edged", source: str = "") -> Delivery:
    if isinstance(data, ExportTraceServiceRequest):
        body = base64.b64encode(data.SerializeToString()).decode()
        data = {"otlp": body, "spans": 1, "dropped": 0}
    envelope = Envelope(type=kinds.SPANS_ENDED, source=source or "/node/edge-1/edged", data=data)
    return Delivery(key, envelope)


class Kept(Keeper):
    def __init__(self, failure: Exception | None = None) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.failure = failure

    async def keep(self, request: ExportTraceServiceRequest) -> None:
        if self.failure is not None:
            raise self.failure
        self.requests.append(request)


class Exported(Exporter):
    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def export(self, request: ExportTraceServiceRequest) -> int:
        assert request.resource_spans
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return 0


async def test_node_speaks_for_itself_whatever_its_spans_say() -> None:
    kept = Kept()
    spans = Spans(exporter=None, keeper=kept)
    await spans.on_spans(delivery(request(node="edge-2")))
    [taken] = kept.requests
    attributes = taken.resource_spans[0].resource.attributes
    assert attribute(attributes, "k8s.node.name") == "edge-1"
    assert len(attributes) == 2
    assert spans.statistics.received == 1


@pytest.mark.parametrize("service", ["fedge-hub", "fedge-controller", "", "x"])
async def test_node_tells_of_no_service_of_the_cloud(service: str) -> None:
    with pytest.raises(InvalidError, match="spans of service"):
        await Spans(exporter=None, keeper=None).on_spans(delivery(request(service)))


@pytest.mark.parametrize(
    ("key", "source"),
    [
        ("node.edge-1.spans.edged", "/node/edge-2/edged"),
        ("node.edge-1.spans.edged", "/cloud/hub"),
        ("cloud.spans.hub", "/node/edge-1/edged"),
    ],
)
async def test_source_must_be_who_speaks(key: str, source: str) -> None:
    with pytest.raises(InvalidError):
        await Spans(exporter=None, keeper=None).on_spans(
            delivery(request(), key=key, source=source)
        )


async def test_cloud_says_what_it_likes() -> None:
    kept = Kept()
    await Spans(exporter=None, keeper=kept).on_spans(
        delivery(request("fedge-controller"), key="cloud.spans.controller", source="/cloud/x")
    )
    assert len(kept.requests) == 1


@pytest.mark.parametrize(
    "data",
    [
        None, [], {"otlp": "no base64!"}, {"otlp": 7}, {"otlp": base64.b64encode(b"x").decode()},
        {"otlp": "", "dropped": -1}, {"otlp": "", "dropped": "many"},
    ],
)  # fmt: skip
async def test_nonsense_is_refused(data: Any) -> None:
    with pytest.raises(MalformedError):
        await Spans(exporter=None, keeper=None).on_spans(delivery(data))


async def test_too_many_at_once_are_refused_and_long_texts_cut() -> None:
    with pytest.raises(MalformedError, match="no more than"):
        await Spans(exporter=None, keeper=None).on_spans(delivery(request(count=MAX_SPANS + 1)))
    kept = Kept()
    await Spans(exporter=None, keeper=kept).on_spans(delivery(request(text="x" * 10_000)))
    [span] = kept.requests[0].resource_spans[0].scope_spans[0].spans
    assert len(span.attributes[0].value.string_value) == MAX_TEXT


async def test_what_senders_dropped_is_counted() -> None:
    spans = Spans(exporter=None, keeper=None)
    body = base64.b64encode(request().SerializeToString()).decode()
    for _ in range(2):
        await spans.on_spans(delivery({"otlp": body, "spans": 1, "dropped": 7}))
    assert spans.statistics.dropped_by_senders == 14


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no patience: the waits between two tries take no time."""

    async def at_once(**_: float) -> Any:
        yield 0.0
        while True:
            yield hub_spans.TRY_SECONDS / 3

    monkeypatch.setattr(hub_spans, "backoff", at_once)


@pytest.mark.usefixtures("hurried")
async def test_export_that_fails_is_tried_again_and_counted() -> None:
    exporter = Exported(UnavailableError("away"), UnavailableError("away"))
    spans = Spans(exporter=exporter, keeper=None)
    await spans.on_spans(delivery(request(count=3)))
    assert exporter.calls == 3
    assert spans.statistics.exported == 3
    assert spans.statistics.export_failures == 2
    assert spans.statistics.dropped == 0


@pytest.mark.usefixtures("hurried")
async def test_export_that_fails_for_long_drops_and_goes_on() -> None:
    exporter = Exported(*[UnavailableError("away")] * 100)
    spans = Spans(exporter=exporter, keeper=None)
    await spans.on_spans(delivery(request(count=3)))
    assert exporter.calls < 10
    assert spans.statistics.dropped == 3


async def test_export_that_is_refused_is_not_tried_again() -> None:
    exporter = Exported(InvalidError("400"))
    spans = Spans(exporter=exporter, keeper=None)
    await spans.on_spans(delivery(request()))
    assert exporter.calls == 1
    assert spans.statistics.dropped == 1


async def test_store_that_is_full_keeps_nobody_from_exporting() -> None:
    exporter = Exported()
    spans = Spans(exporter=exporter, keeper=Kept(UnavailableError("full")))
    await spans.on_spans(delivery(request()))
    assert spans.statistics.exported == 1


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


async def test_spans_go_out_as_otlp_over_http(receiver: Receiver) -> None:
    exporter = OtlpExporter(receiver.url + "/", headers={"authorization": "Bearer x"})
    assert await exporter.export(request(count=2)) == 0
    assert [each.name for each in receiver.spans] == ["work", "work"]
    assert receiver.spans[0].service == "fedge-edged"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_collector_that_is_busy_is_asked_again(receiver: Receiver, status: int) -> None:
    receiver.refuse_with = status
    with pytest.raises(UnavailableError, match=str(status)):
        await OtlpExporter(receiver.url).export(request())


@pytest.mark.parametrize("status", [400, 401, 404, 500])
async def test_collector_that_refuses_is_not(receiver: Receiver, status: int) -> None:
    receiver.refuse_with = status
    with pytest.raises(InvalidError, match=str(status)):
        await OtlpExporter(receiver.url).export(request())


async def test_collector_that_is_not_there_is_asked_again() -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        await OtlpExporter("http://127.0.0.1:1").export(request())


class Stuck(Exporter):
    """Where spans go, behind a name that resolves to nothing for a long time."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.exported = 0

    async def export(self, request: ExportTraceServiceRequest) -> int:
        assert request.resource_spans
        await self.free.wait()
        self.exported += 1
        return 0


async def test_who_brings_spans_does_not_wait_for_their_export() -> None:
    exporter, kept = Stuck(), Kept()
    spans = Spans(exporter=exporter, keeper=kept)
    running = asyncio.create_task(spans.run())
    async with asyncio.timeout(5):
        for _ in range(MAX_WAITING):
            await spans.take(request("fedge-cli"))
        await asyncio.sleep(0)  # the first is being exported: there is room for one more
        await spans.take(request("fedge-cli"))
        await spans.take(request("fedge-cli", count=3))
    assert len(kept.requests) == MAX_WAITING + 2
    assert spans.statistics.dropped == 3
    exporter.free.set()
    async with asyncio.timeout(5):
        while exporter.exported <= MAX_WAITING:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
    assert spans.statistics.dropped == 3
    running.cancel()
    await asyncio.wait({running})
    assert spans.statistics.exported == MAX_WAITING + 1
