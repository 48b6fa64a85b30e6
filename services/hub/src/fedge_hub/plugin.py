"""Hub, put together."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import uvicorn
from redis.asyncio import Redis

from fedge_fabric import topology
from fedge_fabric.fabric import Fabric
from fedge_hub.domain import Nodes
from fedge_hub.enrolment import opened as enrolment_opened
from fedge_hub.events import Events
from fedge_hub.guard import Guard
from fedge_hub.handlers import Handlers
from fedge_hub.http import create_app
from fedge_hub.http_spans import TracedHttp, route_of_node
from fedge_hub.jaeger import Jaeger
from fedge_hub.links import FabricCloudLink, FabricDownlink
from fedge_hub.presence import Presence, PresentNodes
from fedge_hub.redis_store import RedisWantedStore
from fedge_hub.requests import Requests
from fedge_hub.settings import HubSettings, SpanSettings
from fedge_hub.span_export import OtlpExporter
from fedge_hub.span_store import SpanStore
from fedge_hub.spans import Spans
from fedge_hub.trace_api import TraceApi
from fedge_hub.traces import Traces
from fedge_hub.views import Views
from fedge_service import Ready, ServicePlugin

REDIS_TIMEOUT_SECONDS = 5.0


class _SystemClock:
    def now(self) -> float:
        return time.time()


async def run(settings: HubSettings, ready: Ready) -> None:
    """Serve until cancelled."""
    fabric = Fabric(
        settings.amqp_url.get_secret_value(), service="hub", exchanges=topology.CLOUD_EXCHANGES
    )
    connected = asyncio.Event()
    async with (
        Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_timeout=REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
        ) as redis,
        AsyncExitStack() as stack,
    ):
        enrolment = (
            await stack.enter_async_context(enrolment_opened(settings.enrolment))
            if settings.enrolment.records
            else None
        )
        cloud, requests = FabricCloudLink(fabric), Requests(fabric)
        store = RedisWantedStore(redis)
        await store.prepare()
        down = FabricDownlink(fabric, None if enrolment is None else enrolment.keys)
        events = Events(store)
        clock = _SystemClock()
        nodes = Nodes(
            store=store,
            down=down,
            cloud=cloud,
            clock=clock,
            absent_after_heartbeats=settings.absent_after_heartbeats,
            believed_unknown_seconds=settings.believed_unknown_seconds,
        )
        Handlers(nodes=nodes, events=events, cloud=cloud, requests=requests).subscribe(fabric)
        spans, trace_api = await stack.enter_async_context(spans_opened(settings.spans))
        spans.subscribe(fabric)
        server = uvicorn.Server(
            uvicorn.Config(
                Guard(
                    TracedHttp(
                        create_app(
                            requests=PresentNodes(requests, Presence(nodes, store, clock)),
                            views=Views(nodes=nodes, store=store, down=down),
                            is_ready=connected.is_set,
                            statistics=fabric.statistics,
                            spans=spans.statistics,
                            more=trace_api.routes(),
                        ),
                        route_of_node,
                    ),
                    token=settings.http_token.get_secret_value(),
                    host=settings.http_host,
                ),
                host=settings.http_host,
                port=settings.http_port,
                log_config=None,
                lifespan="off",
                ws="websockets-sansio",
            )
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(_serve(server), name="hub-http")
        tasks.create_task(events.run(), name="events")
        tasks.create_task(spans.run(), name="spans")
        if enrolment is not None:
            tasks.create_task(enrolment.run(serve=_serve), name="enrolment")
            await enrolment.begun.wait()  # hub's own way to the broker may need a certificate
        async with fabric.running():
            connected.set()
            ready()
            await asyncio.Event().wait()


@asynccontextmanager
async def spans_opened(settings: SpanSettings) -> AsyncIterator[tuple[Spans, TraceApi]]:
    """Open what takes spans, and what tells of them."""
    exporter = (
        OtlpExporter(settings.otlp_endpoint, headers=_headers(settings))
        if settings.otlp_endpoint
        else None
    )
    async with AsyncExitStack() as stack:
        store: SpanStore | None = None
        traces: Traces | None = None
        if settings.jaeger_url:
            traces = Jaeger(settings.jaeger_url)
        elif settings.keep:
            opening = SpanStore.opened(settings.store, most=settings.keep)
            traces = store = await stack.enter_async_context(opening)
        spans = Spans(exporter=exporter, keeper=store)
        web_url = settings.jaeger_web_url or settings.jaeger_url
        yield spans, TraceApi(traces=traces, spans=spans, web_url=web_url)


def _headers(settings: SpanSettings) -> dict[str, str]:
    pairs = (
        each.partition("=") for each in settings.otlp_headers.get_secret_value().split(",") if each
    )
    return {name.strip(): value.strip() for name, _, value in pairs}


async def _serve(server: uvicorn.Server, listening: socket.socket | None = None) -> None:
    """Answer HTTP until cancelled, and leave nobody listening."""
    try:
        # serve() would take the process's signals, which belong to whoever runs the services
        await server._serve(None if listening is None else [listening])  # noqa: SLF001
    finally:
        for each in getattr(server, "servers", ()):
            each.close()


plugin = ServicePlugin(
    name="hub",
    side="cloud",
    summary="the door to the nodes: what each should have, who is there",
    settings=HubSettings,
    run=run,
)
