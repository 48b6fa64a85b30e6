"""Where traces are kept: in hub's own store and in Jaeger, asked in the same way."""

import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from starlette.applications import Starlette

from fedge_fabric import UnavailableError
from fedge_hub.jaeger import Jaeger
from fedge_hub.span_store import SpanStore, read_spans
from fedge_hub.spans import Spans
from fedge_hub.trace_api import MAX_BODY_BYTES, PROTOBUF, TraceApi
from fedge_hub.traces import Span, Traces

POD = "pods/default/hello"


def trace_id(number: int) -> str:
    return f"{number:032x}"


def made(number: int, *, about: str = POD, spans: int = 3, failed: bool = False) -> Any:
    """Return a trace: a root, and spans below it."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "fedge-controller"
    resource.resource.attributes.add(key="k8s.node.name").value.string_value = "edge-1"
    scope = resource.scope_spans.add()
    for each in range(spans):
        span = scope.spans.add()
        span.trace_id, span.span_id = bytes.fromhex(trace_id(number)), (each + 1).to_bytes(8, "big")
        if each:
            span.parent_span_id = (1).to_bytes(8, "big")
        span.name = "send fedge.wanted" if each else "observe pods"
        span.kind = trace_pb2.Span.SPAN_KIND_PRODUCER if each else trace_pb2.Span.SPAN_KIND_INTERNAL
        span.start_time_unix_nano = (number * 1000 + each) * 1_000_000
        span.end_time_unix_nano = span.start_time_unix_nano + 5_000_000
        span.attributes.add(key="fedge.object").value.string_value = about
        span.attributes.add(key="size").value.int_value = 7
        if failed and each:
            span.status.code = trace_pb2.Status.STATUS_CODE_ERROR
            span.status.message = "it broke"
    link = scope.spans[0].links.add()
    link.trace_id, link.span_id = bytes([9] * 16), bytes([8] * 8)
    return request


@asynccontextmanager
async def in_store(*requests: Any) -> AsyncIterator[Traces]:
    async with SpanStore.opened(None) as store:
        for each in requests:
            await store.keep(each)
        yield store


@asynccontextmanager
async def in_jaeger(*requests: Any) -> AsyncIterator[Traces]:
    with jaeger([span for each in requests for span in read_spans(each)]) as url:
        yield Jaeger(url)


@contextmanager
def jaeger(spans: list[Span]) -> Iterator[str]:
    """Answer as Jaeger's query service does."""

    def shown(found: list[Span]) -> dict[str, Any]:
        return {
            "traceID": found[0].trace_id,
            "processes": {
                "p1": {
                    "serviceName": found[0].service,
                    "tags": [{"key": "k8s.node.name", "type": "string", "value": found[0].node}],
                }
            },
            "spans": [
                {
                    "traceID": each.trace_id,
                    "spanID": each.span_id,
                    "operationName": each.name,
                    "references": [
                        *(
                            [
                                {
                                    "refType": "CHILD_OF",
                                    "traceID": each.trace_id,
                                    "spanID": each.parent_id,
                                }
                            ]
                            if each.parent_id
                            else []
                        ),
                        *(
                            {
                                "refType": "FOLLOWS_FROM",
                                "traceID": link.trace_id,
                                "spanID": link.span_id,
                            }
                            for link in each.links
                        ),
                    ],
                    "startTime": each.start_ns // 1000,
                    "duration": (each.end_ns - each.start_ns) // 1000,
                    "tags": [
                        {"key": "span.kind", "type": "string", "value": each.kind},
                        *(
                            [
                                {"key": "error", "type": "bool", "value": True},
                                {
                                    "key": "otel.status_description",
                                    "type": "string",
                                    "value": each.message,
                                },
                            ]
                            if each.error
                            else []
                        ),
                        *({"key": k, "value": v} for k, v in each.attributes.items()),
                    ],
                    "processID": "p1",
                }
                for each in found
            ],
        }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: each[0] for name, each in parse_qs(parts.query).items()}
            by_id: dict[str, list[Span]] = {}
            for each in spans:
                by_id.setdefault(each.trace_id, []).append(each)
            if parts.path == "/api/traces":
                wanted = json.loads(query["tags"])["fedge.object"]
                found = [
                    shown(each)
                    for each in by_id.values()
                    if each[0].service == query["service"]
                    and any(one.attributes.get("fedge.object") == wanted for one in each)
                ]
            else:
                asked = parts.path.rpartition("/")[2]
                if asked not in by_id:
                    self.send_error(404)
                    return
                found = [shown(by_id[asked])]
            body = json.dumps({"data": found}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=[in_store, in_jaeger])
def kept(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_trace_is_told_whole(kept: Any) -> None:
    async with kept(made(1, failed=True), made(2)) as traces:
        spans = await traces.trace(trace_id(1))
    root, *below = spans
    assert [each.name for each in spans] == [
        "observe pods", "send fedge.wanted", "send fedge.wanted",
    ]  # fmt: skip
    assert root.parent_id == ""
    assert (root.kind, below[0].kind) == ("internal", "producer")
    assert {each.parent_id for each in below} == {root.span_id}
    assert (root.service, root.node) == ("fedge-controller", "edge-1")
    assert (root.start_ns, root.end_ns) == (1_000_000_000, 1_005_000_000)
    assert root.attributes == {"fedge.object": POD, "size": 7}
    assert [each.error for each in spans] == [False, True, True]
    assert below[0].message == "it broke"
    assert [each.trace_id for each in root.links] == ["09" * 16]


async def test_trace_that_is_not_there_has_no_spans(kept: Any) -> None:
    async with kept(made(1)) as traces:
        assert await traces.trace(trace_id(7)) == []


async def test_traces_of_an_object_are_told_newest_first(kept: Any) -> None:
    about_others = made(4, about="pods/default/other")
    async with kept(made(1), made(3, failed=True), made(2), about_others) as traces:
        found = await traces.traces(POD, 2)
        assert await traces.traces("pods/default/none", 5) == []
    assert [each.trace_id for each in found] == [trace_id(3), trace_id(2)]
    newest = found[0]
    assert (newest.name, newest.spans, newest.errors) == ("observe pods", 3, 2)
    assert newest.is_change
    assert newest.end_ns - newest.start_ns == 7_000_000


async def test_spans_that_come_again_change_nothing() -> None:
    async with in_store(made(1), made(1)) as traces:
        assert len(await traces.trace(trace_id(1))) == 3


async def test_store_is_bounded_and_drops_whole_traces_the_oldest_first() -> None:
    async with SpanStore.opened(None, most=30) as store:
        there: list[int] = []
        for number in range(1, 40):
            await store.keep(made(number))
            there = [len(await store.trace(trace_id(each))) for each in range(1, number + 1)]
            assert sum(there) <= 30
            assert set(there) <= {0, 3}
            assert there == sorted(there)
        assert len(await store.traces(POD, 100)) == sum(there) / 3


async def test_store_in_a_file_is_there_again_and_a_broken_one_is_set_aside(
    tmp_path: Path,
) -> None:
    path = tmp_path / "more" / "spans.db"
    async with SpanStore.opened(path) as store:
        await store.keep(made(1))
    async with SpanStore.opened(path) as store:
        assert len(await store.trace(trace_id(1))) == 3
    path.write_bytes(b"this is no database, and a long text" * 200)
    for leftover in path.parent.glob("spans.db-*"):
        leftover.unlink()
    async with SpanStore.opened(path) as store:
        assert await store.trace(trace_id(1)) == []
        await store.keep(made(2))
    assert (tmp_path / "more" / "spans.db.broken").read_bytes().startswith(b"this is no")
    with sqlite3.connect(path) as connection:
        [count] = connection.execute("SELECT count(*) FROM spans").fetchone()
    connection.close()
    assert count == 3


async def test_jaeger_that_is_away_is_told() -> None:
    with pytest.raises(UnavailableError, match="does not answer"):
        await Jaeger("http://127.0.0.1:1").trace(trace_id(1))


@asynccontextmanager
async def api(traces: Traces | None, web_url: str = "") -> AsyncIterator[httpx.AsyncClient]:
    keeper = traces if isinstance(traces, SpanStore) else None
    served = TraceApi(traces=traces, spans=Spans(exporter=None, keeper=keeper), web_url=web_url)
    transport = httpx.ASGITransport(Starlette(routes=served.routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        yield client


async def test_traces_are_told_over_http() -> None:
    async with in_store(made(1)) as traces, api(traces, "http://jaeger:16686/") as client:
        listed = (await client.get("/traces", params={"object": POD})).json()
        assert [each["trace_id"] for each in listed["traces"]] == [trace_id(1)]
        told = (await client.get(f"/traces/{trace_id(1).upper()}")).json()
        assert len(told["spans"]) == 3
        assert told["web"] == f"http://jaeger:16686/trace/{trace_id(1)}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/traces", 400), ("/traces?object=a&limit=0", 400), ("/traces?object=a&limit=x", 400),
        ("/traces?object=a&limit=1000", 400), ("/traces/none", 400), (f"/traces/{'0' * 32}", 400),
        (f"/traces/{'7' * 32}", 404),
    ],
)  # fmt: skip
async def test_bad_questions_are_refused(path: str, status: int) -> None:
    async with in_store(made(1)) as traces, api(traces) as client:
        answer = await client.get(path)
    assert answer.status_code == status
    assert answer.text.strip()


async def test_hub_without_traces_says_what_to_set() -> None:
    async with api(None) as client:
        for path in (f"/traces/{'7' * 32}", "/traces?object=a"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert "FEDGE_HUB_SPANS" in answer.text


async def test_spans_of_a_command_are_taken_and_no_others() -> None:
    mine = made(5)
    mine.resource_spans[0].resource.attributes[0].value.string_value = "fedge-cli"
    body = mine.SerializeToString()
    headers = {"Content-Type": PROTOBUF}
    async with in_store() as traces, api(traces) as client:

        async def post(content: bytes, **more: Any) -> int:
            answer = await client.post("/v1/traces", content=content, headers=headers, **more)
            return answer.status_code

        assert await post(body) == 200
        assert len(await traces.trace(trace_id(5))) == 3
        assert await post(made(6).SerializeToString()) == 400  # of another service
        assert await post(b"\xff nonsense") == 400
        assert await post(b"x" * (MAX_BODY_BYTES + 1)) == 413
        assert (await client.post("/v1/traces", content=body)).status_code == 415
        assert await traces.trace(trace_id(6)) == []
