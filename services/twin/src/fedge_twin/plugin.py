"""Twin, put together."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiosqlite
import structlog

from fedge_devices import DEVICE_CREDENTIALS
from fedge_fabric import UnavailableError
from fedge_fabric.effects import Effects
from fedge_objects import Change, NodeName, ObjectKey
from fedge_sealing import NodeSeal
from fedge_service import Ready, ServicePlugin, backoff
from fedge_store import ObjectReader
from fedge_twin.accounts import Accounts
from fedge_twin.device import DEVICE_MODELS, DEVICES
from fedge_twin.payloads import Message
from fedge_twin.settings import TwinSettings
from fedge_twin.store import TwinStore
from fedge_twin.twins import Twins

if TYPE_CHECKING:
    from fedge_twin.mqtt import MqttLink
    from fedge_twin.reporting import Reporting

log = structlog.stdlib.get_logger("fedge.twin")

STORE_NAME = "twin.db"
GIVEN_STORE_NAME = "meta.db"


class _Outlets:
    """Hands on to what is loaded later; before that there is nobody to be told."""

    link: "MqttLink | None" = None
    reporting: "Reporting | None" = None

    def to_devices(self, messages: Iterable[Message]) -> None:
        if self.link is not None:
            self.link.send(messages)

    def to_cloud(self, news: Mapping[ObjectKey, float]) -> None:
        if self.reporting is not None:
            self.reporting.add(news)


async def run(settings: TwinSettings, ready: Ready) -> None:
    """Serve until cancelled."""
    edge = settings.edge
    node = NodeName(edge.node_name)
    given_path = edge.data_dir / GIVEN_STORE_NAME
    async with TwinStore.opened(edge.data_dir / STORE_NAME) as store:
        effects = Effects(node, "twin")

        async def given() -> Sequence[Change] | None:
            changes = await read_given(given_path, DEVICE_MODELS, DEVICES)
            for each in changes or ():  # under the store's lock: taken at once
                effects.applied(each.key, each.version)
            return changes

        outlets = _Outlets()
        twins = Twins(node=node, store=store, outlets=outlets, given=given, clock=_now)
        await _reconcile(twins)

        # the twins are known; only now what takes long to load
        from fedge_fabric import topology  # noqa: PLC0415
        from fedge_fabric.fabric import Fabric  # noqa: PLC0415
        from fedge_twin.broker import Broker  # noqa: PLC0415
        from fedge_twin.handlers import Handlers  # noqa: PLC0415
        from fedge_twin.listeners import EVENTS, SUBSCRIBED, filter_of  # noqa: PLC0415
        from fedge_twin.mqtt import MqttLink  # noqa: PLC0415
        from fedge_twin.quota import Quota  # noqa: PLC0415
        from fedge_twin.reporting import Reporting  # noqa: PLC0415

        quota = Quota(
            words_per_second=settings.words_per_second,
            burst=settings.words_at_once,
            clock=time.monotonic,
        )
        twins.dropped = quota.dropped
        link = outlets.link = MqttLink(
            settings.mqtt_url.get_secret_value(), node, quota, version=settings.mqtt_version
        )
        reporting = Reporting(node, every_seconds=settings.report_every_seconds)
        outlets.reporting = reporting
        fabric = Fabric(
            edge.amqp_url.get_secret_value(), service="twin", exchanges=topology.EDGE_EXCHANGES
        )
        accounts = Accounts(
            broker=Broker(settings.broker_command) if settings.broker_command else None,
            given=lambda: read_given(given_path, DEVICE_CREDENTIALS),
            effects=effects,
            unsealed=NodeSeal(edge.sealing_key_file, joined=edge.joined_file).unsealed,
        )
        await accounts.reconcile()
        Handlers(twins, effects, accounts=accounts, fabric=fabric, node=node).subscribe()

        def listening(event: Mapping[str, Any]) -> None:
            topic_filter = filter_of(event)
            if topic_filter is not None:
                twins.show(topic_filter)

        fabric.overhear(EVENTS, SUBSCRIBED, listening)
        reconnected = asyncio.Event()
        fabric.on_reconnected(reconnected.set)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(store.damage.wait(), name="damage")
            tasks.create_task(link.run(twins), name="mqtt")
            tasks.create_task(accounts.run(), name="accounts")
            async with fabric.running(), asyncio.TaskGroup() as telling:
                telling.create_task(reporting.run(fabric, twins), name="reporting")
                telling.create_task(effects.run(fabric), name="effects")
                telling.create_task(
                    _stay_reconciled(twins, accounts, reconnected), name="reconciling"
                )
                await link.connected.wait()
                ready()


async def _reconcile(twins: Twins) -> None:
    """Look at what the node was given, as soon as that can be stored."""
    async for _ in backoff(first_seconds=0.2, most_seconds=2):
        try:
            await twins.reconcile()
        except UnavailableError as exc:
            log.warning("reconciling_again", reason=str(exc))
        else:
            return


async def _stay_reconciled(twins: Twins, accounts: Accounts, reconnected: asyncio.Event) -> None:
    """Look again at what the node was given, and tell the cloud of every device.

    First when the queue is there, so that no change can pass unseen between the first look and the
    first message; then whenever the broker comes back, which may have lost what it held.
    """
    while True:
        await _reconcile(twins)
        await accounts.reconcile()
        await reconnected.wait()
        reconnected.clear()


async def read_given(path: Path, *resources: str) -> Sequence[Change] | None:
    """Return the objects of these resources in meta's store; None while there is none."""
    try:
        async with ObjectReader.opened(path) as reader:
            return [each for name in resources for each in await reader.list(name)]
    except FileNotFoundError:
        return None
    except aiosqlite.OperationalError as exc:
        # meta is making it at this moment: what comes into it is told by message
        log.info("store_not_readable_yet", path=str(path), reason=str(exc))
        return None


def _now() -> datetime:
    return datetime.now(UTC)


plugin = ServicePlugin(
    name="twin",
    side="edge",
    summary="desired and reported state of each device, over MQTT",
    settings=TwinSettings,
    run=run,
)
