"""Meta, put together."""

import asyncio
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from fedge_enrolment.identity import Identity
from fedge_meta.settings import MetaSettings
from fedge_objects import NodeName
from fedge_sealing import NodeSeal
from fedge_service import Ready, ServicePlugin
from fedge_store import ObjectStore

if TYPE_CHECKING:
    from fedge_meta.broker import Broker
    from fedge_meta.links import Links

STORE_NAME = "meta.db"
AMQP_PORT = 5672
AMQPS_PORT = 5671


async def run(settings: MetaSettings, ready: Ready) -> None:
    """Serve until cancelled."""
    edge = settings.edge
    node = NodeName(edge.node_name)
    async with ObjectStore.opened(edge.data_dir / STORE_NAME) as store:
        # the store is open, so the neighbours may read; only now what takes long to load
        from fedge_fabric import topology  # noqa: PLC0415
        from fedge_fabric.effects import Effects  # noqa: PLC0415
        from fedge_fabric.fabric import Fabric  # noqa: PLC0415
        from fedge_meta.digests import Digests  # noqa: PLC0415
        from fedge_meta.handlers import Handlers  # noqa: PLC0415
        from fedge_meta.join_spans import send_join_spans  # noqa: PLC0415
        from fedge_meta.keeping import Keeping  # noqa: PLC0415
        from fedge_meta.relay import relay  # noqa: PLC0415

        seal = NodeSeal(edge.sealing_key_file, joined=edge.joined_file)
        effects = Effects(node, "meta")
        keeping = Keeping(node=node, store=store, seal=seal, effects=effects)
        await keeping.seal_what_lies_open()
        fabric = Fabric(
            edge.amqp_url.get_secret_value(), service="meta", exchanges=topology.EDGE_EXCHANGES
        )
        digests = Digests(
            keeping=keeping, fabric=fabric, every=timedelta(seconds=settings.digest_seconds)
        )
        api = None
        if settings.api_port:
            from fedge_meta.api.serving import Api  # noqa: PLC0415

            api = Api(
                settings,
                store=store,
                seal=seal,
                keeping=keeping,
                fabric=fabric,
                replica=uuid.uuid4().hex[:8],
            )
        Handlers(keeping, digests, None if api is None else api.cloud).subscribe(fabric, node)
        async with fabric.running(), asyncio.TaskGroup() as tasks:
            tasks.create_task(store.damage.wait(), name="damage")
            tasks.create_task(relay(store, keeping, fabric), name="relay")
            tasks.create_task(digests.run(), name="digests")
            tasks.create_task(effects.run(fabric), name="effects")
            broker = _broker(settings, node) if settings.broker_command else None
            if broker is not None:
                links = _links(settings, broker, tasks)
                if api is not None:
                    links.changed = api.cloud.line_changed
                tasks.create_task(links.run(), name="links")
            if api is not None:
                tasks.create_task(api.run(), name="api")
            spans = Identity(edge.identity_dir).join_spans
            if spans.exists():
                work = send_join_spans(fabric, node, spans)
                tasks.create_task(work, name="join spans")
            if edge.joined_file.exists():
                from fedge_meta.certificate import keep_valid  # noqa: PLC0415

                work = keep_valid(edge.identity_dir, broker)
                tasks.create_task(work, name="certificate")
            ready()


def _links(settings: MetaSettings, broker: "Broker", tasks: asyncio.TaskGroup) -> "Links":
    from fedge_meta.links import Links  # noqa: PLC0415

    host, _, number = settings.cloud_address.rpartition(":")
    host, port = host.strip("[]"), int(number)
    if not settings.forward_to:
        from fedge_meta.sockets import Sockets  # noqa: PLC0415

        line = Sockets(host=host, port=port, own_port=_own_port(settings))
        return Links(line=line, broker=broker)

    from fedge_enrolment.dialling import Address  # noqa: PLC0415
    from fedge_meta.forwarder import Forwarder  # noqa: PLC0415

    target = Address.parse(settings.forward_to, AMQPS_PORT)
    forwarder = Forwarder(listen=(host, port), target=target)
    tasks.create_task(forwarder.run(), name="forwarder")
    return Links(line=forwarder, broker=broker)


def _broker(settings: MetaSettings, node: NodeName) -> "Broker":
    from fedge_meta.broker import Broker  # noqa: PLC0415

    return Broker(
        node=node,
        command=settings.broker_command,
        port=int(settings.cloud_address.rpartition(":")[2]),
        own_port=_own_port(settings),
    )


def _own_port(settings: MetaSettings) -> int:
    from yarl import URL  # noqa: PLC0415

    return URL(settings.edge.amqp_url.get_secret_value()).port or AMQP_PORT


plugin = ServicePlugin(
    name="meta",
    side="edge",
    summary="every object that the node was given, kept in SQLite",
    settings=MetaSettings,
    run=run,
)
