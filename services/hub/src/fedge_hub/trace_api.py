"""Traces over HTTP, for ``fedge trace``, and the spans of its own commands."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from fedge_fabric import InvalidError, MalformedError, UnavailableError
from fedge_hub.spans import Spans, check_services, parse_request
from fedge_hub.traces import Traces
from fedge_tracing import parse

MAX_BODY_BYTES = 256 * 1024
MAX_TRACES = 100
TRACES = 20
OF_COMMANDS: Final = frozenset({"fedge-cli"})
PROTOBUF: Final = "application/x-protobuf"


class TraceApi:
    """What is served."""

    def __init__(self, *, traces: Traces | None, spans: Spans, web_url: str = "") -> None:
        """Take what it works with.

        Args:
            traces: where they are kept; None: nowhere.
            spans: what takes those of commands.
            web_url: Jaeger's pages; empty if there is none.
        """
        self._traces = traces
        self._spans = spans
        self._web_url = web_url.rstrip("/")

    def routes(self) -> Sequence[BaseRoute]:
        """Return the paths."""
        return [
            Route("/traces", self.list_traces),
            Route("/traces/{trace_id}", self.one_trace),
            Route("/v1/traces", self.take_spans, methods=["POST"]),
        ]

    async def list_traces(self, request: Request) -> Response:
        """Tell which traces are about an object."""
        about = request.query_params.get("object", "")
        limit = request.query_params.get("limit") or str(TRACES)
        if not about:
            return _refused("object= must say whose traces: object=pods/default/hello")
        if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= MAX_TRACES):
            return _refused(f"limit must be a whole number from 1 to {MAX_TRACES}")
        if self._traces is None:
            return _nowhere()
        try:
            found = await self._traces.traces(about, int(limit))
        except UnavailableError as exc:
            return PlainTextResponse(f"{exc}\n", status_code=503)
        return JSONResponse({"traces": [asdict(each) for each in found]})

    async def one_trace(self, request: Request) -> Response:
        """Tell all spans of a trace."""
        trace_id = request.path_params["trace_id"].lower()
        if parse(f"00-{trace_id}-{1:016x}-01") is None:
            return _refused(f"{trace_id[:64]!r} is no id of a trace: expected 32 hex digits")
        if self._traces is None:
            return _nowhere()
        try:
            found = await self._traces.trace(trace_id)
        except UnavailableError as exc:
            return PlainTextResponse(f"{exc}\n", status_code=503)
        if not found:
            return PlainTextResponse(f"trace {trace_id} is not known\n", status_code=404)
        return JSONResponse(
            {
                "trace_id": trace_id,
                "spans": [asdict(each) for each in found],
                "web": f"{self._web_url}/trace/{trace_id}" if self._web_url else None,
            }
        )

    async def take_spans(self, request: Request) -> Response:
        """Take the spans of a command."""
        if request.headers.get("Content-Type", "").partition(";")[0].strip() != PROTOBUF:
            return PlainTextResponse(f"send spans as {PROTOBUF}\n", status_code=415)
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                text = f"more than {MAX_BODY_BYTES} bytes are not taken\n"
                return PlainTextResponse(text, status_code=413)
        try:
            found = parse_request(body)
            check_services(found, OF_COMMANDS)
        except (MalformedError, InvalidError) as exc:
            return _refused(str(exc))
        await self._spans.take(found)
        return Response(b"", media_type=PROTOBUF)


def _refused(reason: str) -> Response:
    return PlainTextResponse(f"{reason}\n", status_code=400)


def _nowhere() -> Response:
    return PlainTextResponse(
        "hub keeps no spans and knows no Jaeger: set FEDGE_HUB_SPANS_KEEP or"
        " FEDGE_HUB_SPANS_JAEGER_URL\n",
        status_code=503,
    )
