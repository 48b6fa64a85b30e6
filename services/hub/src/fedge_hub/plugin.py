"""Hub, put together."""

import asyncio
import socket
import time
from contextlib import AsyncExitStack

import uvicorn
from redis.asyncio import Redis

from fedge_fabric import topology
from fedge_fabric.fabric import Fabric
from fedge_hub.domain import Nodes
from fedge_hub.enrolment import opened as enrolment_opened
from fedge_hub.events import Events
from fedge_hub.handlers import Handlers
from fedge_hub.http import create_app
from fedge_hub.links import FabricCloudLink, FabricDownlink
from fedge_hub.presence import Presence, PresentNodes
from fedge_hub.redis_store import RedisWantedStore
from fedge_hub.requests import Requests
from fedge_hub.settings import HubSettings
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
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(
                    requests=PresentNodes(requests, Presence(nodes, store, clock)),
                    views=Views(nodes=nodes, store=store, down=down),
                    is_ready=connected.is_set,
                    statistics=fabric.statistics,
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
        if enrolment is not None:
            tasks.create_task(enrolment.run(serve=_serve), name="enrolment")
            await enrolment.begun.wait()  # hub's own way to the broker may need a certificate
        async with fabric.running():
            connected.set()
            ready()
            await asyncio.Event().wait()


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
