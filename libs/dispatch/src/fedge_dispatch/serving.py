"""A cloud service that carries kinds of objects down and their statuses up."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fedge_dispatch.budget import Budget
from fedge_dispatch.handlers import Handlers
from fedge_dispatch.placement import Placement
from fedge_dispatch.replicas import Replicas
from fedge_dispatch.reports import Reports
from fedge_dispatch.resources import Companion, Maker, ResourcePlugin, load_resources
from fedge_dispatch.takeover import Takeover
from fedge_dispatch.telling import StatusesAsked, Telling
from fedge_dispatch.watching import Watching
from fedge_fabric import topology
from fedge_fabric.fabric import Fabric
from fedge_kube import KubeClient
from fedge_service import Ready

WRITTEN_SECONDS = 5.0
"""How long the end of a service waits for what it is writing."""

Subscribe = Callable[[KubeClient, Fabric], None]


async def serve(
    service: str,
    *,
    amqp_url: str,
    kubeconfig: Path | None,
    ready: Ready,
    plugins: Mapping[str, ResourcePlugin] | None = None,
    companions: Sequence[Companion] = (),
    makers: Sequence[Maker] = (),
    more: Sequence[Subscribe] = (),
    replicas: Replicas | None = None,
    reshared: Sequence[Callable[[], None]] = (),
    budget: Budget | None = None,
    write_every_seconds: float = 0.0,
    reports_at_once: int = 64,
) -> None:
    """Serve until cancelled.

    Args:
        service: whose queues.
        amqp_url: the cloud's broker.
        kubeconfig: the API; None inside a cluster's pod.
        ready: called once everything that the API serves was listed and the broker is connected.
        plugins: its kinds; without them those installed as ``fedge.<service>.resources``.
        companions: what it does besides, knowing its objects.
        makers: what it makes of its objects and of others, for the nodes.
        more: what else the service takes from the broker.
        replicas: this replica of the service among the others.
        reshared: called whenever nodes changed hands between replicas.
        budget: how often the API is written to by all reports together.
        write_every_seconds: least time between two writes of one object's status (see ``Reports``).
        reports_at_once: how many reports may be in hand, those that wait for their turn included.
    """
    if plugins is None:
        plugins = load_resources(service)
    leading = {name for name, plugin in plugins.items() if plugin.leads}
    replicas = replicas or Replicas(service)
    fabric = Fabric(amqp_url, service=service, exchanges=topology.CLOUD_EXCHANGES)
    made = {each.resource: (each.leading, each.source.name) for each in makers}
    optional = [name for name, plugin in plugins.items() if plugin.optional]
    placement = Placement(leading, plugins.keys() - leading, made, optional)
    telling = Telling(fabric, service=service)
    async with KubeClient.connected(kubeconfig) as kube:
        reports = Reports(
            kube,
            plugins,
            write_every_seconds=write_every_seconds,
            budget=budget,
            owns=replicas.owns,
            written_late=lambda node: telling.tell([StatusesAsked(node)]),
        )
        watching = Watching(
            kube,
            placement,
            telling,
            reports,
            companions,
            makers,
            service=service,
            owns=replicas.owns,
        )
        handlers = Handlers(
            fabric,
            service=service,
            placement=placement,
            telling=telling,
            reports=reports,
            replicas=replicas,
        )
        handlers.subscribe(plugins, reports_at_once=reports_at_once)
        for subscribe in more:
            subscribe(kube, fabric)
        takeover = Takeover(
            replicas, placement=placement, telling=telling, watching=watching, reshared=reshared
        )
        async with (
            fabric.running(),
            replicas.taking_part(fabric),
            _written(reports, replicas),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(telling.run(), name="telling")
            tasks.create_task(replicas.run(fabric), name="replicas")
            await replicas.settled.wait()
            for number, companion in enumerate(companions):
                running = companion.run(kube, watching.complete)
                tasks.create_task(running, name=f"companion {number}")
            for companion in companions:
                await companion.prepared.wait()
            tasks.create_task(watching.run(plugins.values()), name="watching")
            tasks.create_task(takeover.run(), name="takeover")
            await watching.complete.wait()
            ready()


@asynccontextmanager
async def _written(reports: Reports, replicas: Replicas) -> AsyncIterator[None]:
    """At the end begin no write any more and see those through that are begun.

    Only then the others are told that this replica has gone.
    """
    try:
        yield
    finally:
        replicas.leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(WRITTEN_SECONDS):
                await reports.idle()
