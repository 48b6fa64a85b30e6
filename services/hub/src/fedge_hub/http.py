"""Hub's HTTP: health, metrics, and what the API server asks nodes: logs, commands, histories.

The paths are the kubelet's (``/containerLogs/...``, ``/exec/...``) with the node in front; the
kubelet has none for a device's history (``/deviceHistory/<namespace>/<device>``).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute

from fedge_fabric import UnavailableError, UnroutableError, kinds
from fedge_fabric.fabric import Statistics
from fedge_hub.execs import ContainerExec
from fedge_hub.ports import RequestLink
from fedge_hub.spans import SpanStatistics
from fedge_hub.views import Views
from fedge_objects import NodeName

ANSWER_SECONDS = 15.0
HISTORY_ENTRIES = 100
MAX_HISTORY_ENTRIES = 1000
_OK = 200

_OPTIONS = (
    "tailLines",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "previous",
    "limitBytes",
    "follow",
)


def create_app(
    *,
    requests: RequestLink,
    views: Views,
    is_ready: Callable[[], bool],
    statistics: Statistics,
    spans: SpanStatistics | None = None,
    more: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the ASGI application."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        if is_ready():
            return PlainTextResponse("ok\n")
        return PlainTextResponse("the broker is not connected\n", status_code=503)

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(
            "".join(
                f"# TYPE fedge_messages_{name}_total counter\n"
                f'fedge_messages_{name}_total{{service="hub"}} {value}\n'
                for name, value in statistics.as_dict().items()
            )
            + ("" if spans is None else _span_metrics(spans))
        )

    async def container_logs(request: Request) -> Response:
        node = NodeName(request.path_params["node"])
        options = {
            name: request.query_params[name] for name in _OPTIONS if name in request.query_params
        }
        data = {
            "namespace": request.path_params["namespace"],
            "pod": request.path_params["pod"],
            "container": request.path_params["container"],
            "options": options,
        }
        pieces = requests.ask(
            node,
            kinds.LOGS_ASKED,
            data,
            deadline_seconds=ANSWER_SECONDS,
            goes_on=True,
        )
        try:
            first = await anext(pieces)
        except (UnroutableError, UnavailableError, TimeoutError) as exc:
            return _no_answer(node, exc)
        status = int(first["status"])
        if status != _OK:
            await pieces.aclose()
            return PlainTextResponse(str(first["body"]), status_code=status)
        return StreamingResponse(_bodies(first, pieces), media_type="text/plain; charset=utf-8")

    return Starlette(
        routes=[
            WebSocketRoute(
                "/nodes/{node}/exec/{namespace}/{pod}/{container}",
                ContainerExec(requests).serve,
            ),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/nodes/{node}/status", partial(_status, views)),
            Route("/nodes/{node}/containerLogs/{namespace}/{pod}/{container}", container_logs),
            Route(
                "/nodes/{node}/deviceHistory/{namespace}/{name}",
                partial(_device_history, requests),
            ),
            *more,
        ]
    )


def _span_metrics(spans: SpanStatistics) -> str:
    return (
        "# TYPE fedge_spans_received_total counter\n"
        f"fedge_spans_received_total {spans.received}\n"
        "# TYPE fedge_spans_exported_total counter\n"
        f"fedge_spans_exported_total {spans.exported}\n"
        "# TYPE fedge_spans_export_failures_total counter\n"
        f"fedge_spans_export_failures_total {spans.export_failures}\n"
        "# TYPE fedge_spans_dropped_total counter\n"
        f'fedge_spans_dropped_total{{reason="sender"}} {spans.dropped_by_senders}\n'
        f'fedge_spans_dropped_total{{reason="export"}} {spans.dropped}\n'
    )


async def _device_history(requests: RequestLink, request: Request) -> Response:
    node = NodeName(request.path_params["node"])
    limit = request.query_params.get("limit") or str(HISTORY_ENTRIES)
    if not (limit.isdecimal() and 1 <= int(limit) <= MAX_HISTORY_ENTRIES):
        return PlainTextResponse(
            f"limit must be a whole number from 1 to {MAX_HISTORY_ENTRIES}\n", status_code=400
        )
    data = {
        "namespace": request.path_params["namespace"],
        "device": request.path_params["name"],
        "property": request.query_params.get("property", ""),
        "limit": int(limit),
    }
    asked = requests.ask(node, kinds.HISTORY_ASKED, data, deadline_seconds=ANSWER_SECONDS)
    async with aclosing(asked) as pieces:
        try:
            answer = await anext(pieces)
        except (UnroutableError, UnavailableError, TimeoutError) as exc:
            return _no_answer(node, exc)
    status, body = int(answer["status"]), str(answer["body"])
    if status != _OK:
        return PlainTextResponse(body, status_code=status)
    return Response(body, media_type="application/json")


def _no_answer(node: NodeName, exc: Exception) -> Response:
    """Return what to say where a node gave no answer."""
    if isinstance(exc, TimeoutError):
        return PlainTextResponse(
            f"node {node!r} did not answer within {ANSWER_SECONDS:.0f} s\n", status_code=504
        )
    return PlainTextResponse(f"{exc}\n", status_code=503)


async def _status(views: Views, request: Request) -> Response:
    node = NodeName(request.path_params["node"])
    try:
        view = await views.of(node)
    except UnavailableError as exc:
        return PlainTextResponse(f"{exc}\n", status_code=503)
    if view is None:
        return PlainTextResponse(f"hub has never heard of node {node!r}\n", status_code=404)
    return JSONResponse(view)


async def _bodies(first: Any, rest: AsyncGenerator[Any, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield str(first["body"]).encode()
        try:
            async for piece in rest:
                yield str(piece["body"]).encode()
        except TimeoutError:
            yield b"\n(the node fell silent: the log may go on)\n"
        except (UnroutableError, UnavailableError) as exc:
            yield f"\n({exc}: the log may go on)\n".encode()
