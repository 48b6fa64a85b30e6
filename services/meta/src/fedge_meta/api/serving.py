"""The edge's API, put together: what is there at once, and what the first connection loads."""

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import structlog

from fedge_fabric import Address, Envelope, MessageClass, UnavailableError, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_meta.api.cloud import Cloud
from fedge_meta.api.endpoint import ApiFolder, EndpointError
from fedge_meta.api.observing import Observed
from fedge_meta.api.waiting import wait_and_serve
from fedge_meta.keeping import Keeping
from fedge_meta.settings import MetaSettings
from fedge_objects import NodeName
from fedge_sealing import NodeSeal
from fedge_service import backoff
from fedge_store import ObjectStore

if TYPE_CHECKING:
    from fedge_meta.api.outbox import Outbox
    from fedge_meta.api.view import View

log = structlog.stdlib.get_logger("fedge.meta")

STATUSES_SECONDS: Final = 2.0
"""For so long the first connection waits for the neighbours to tell of all objects."""


class Api:
    """The local Kubernetes API of one node."""

    def __init__(
        self,
        settings: MetaSettings,
        *,
        store: ObjectStore,
        seal: NodeSeal,
        keeping: Keeping,
        fabric: Fabric,
        replica: str,
    ) -> None:
        """Prepare, and take part in the queues that it needs."""
        self._settings = settings
        self._node = NodeName(settings.edge.node_name)
        self._store = store
        self._seal = seal
        self._keeping = keeping
        self._fabric = fabric
        self._folder = ApiFolder(settings.edge.data_dir)
        self._observed = Observed()
        self.cloud = Cloud(fabric, self._node)
        self._observed.subscribe(fabric, self._node, replica)

    async def run(self) -> None:
        """Serve until cancelled."""
        settings = self._settings
        is_owed = bool(await self._store.writes())
        await wait_and_serve(
            settings.api_address,
            settings.api_port,
            self._serve,
            listens=self._prepare,
            at_once=is_owed,
        )

    async def _prepare(self, address: str) -> None:
        """Make the files by which others find the API, once it listens."""
        async for _ in backoff(first_seconds=1, most_seconds=60):
            try:
                await self._folder.prepare(address, self._settings.api_port)
            except EndpointError as exc:
                log.error("api_not_prepared", reason=str(exc))  # noqa: TRY400 - it says it all
            else:
                return

    async def _serve(self, sockets: Sequence[socket.socket]) -> None:
        # megabytes that a node nobody asks does without
        from fedge_meta.api.outbox import Outbox  # noqa: PLC0415
        from fedge_meta.api.view import View  # noqa: PLC0415

        outbox = Outbox(self._store, self._seal, most_bytes=self._settings.api_outbox_bytes)
        await outbox.read()
        view = View(
            node=self._node,
            store=self._store,
            seal=self._seal,
            observed=self._observed,
            outbox=outbox,
        )
        # before anything is read: what comes meanwhile is looked at once more
        self._keeping.observers.append(view.take)
        try:
            await self._hear_statuses()
            await view.open()
            await self._answer(sockets, view, outbox)
        finally:
            self._keeping.observers.remove(view.take)

    async def _answer(
        self, sockets: Sequence[socket.socket], view: "View", outbox: "Outbox"
    ) -> None:
        from fedge_apiserver.http import ApiApplication  # noqa: PLC0415
        from fedge_apiserver.listening import answering  # noqa: PLC0415
        from fedge_apiserver.registry import Registry  # noqa: PLC0415
        from fedge_meta.api.accounts import NodeAccounts  # noqa: PLC0415
        from fedge_meta.api.catalog import node_user  # noqa: PLC0415
        from fedge_meta.api.gate import Gate  # noqa: PLC0415
        from fedge_meta.api.logs import NodeLogs  # noqa: PLC0415
        from fedge_meta.api.offline import OfflineWriting  # noqa: PLC0415
        from fedge_meta.api.passing import Passing  # noqa: PLC0415
        from fedge_meta.api.sending import Sending  # noqa: PLC0415

        registry = Registry(view.shown, view.catalog)
        accounts = NodeAccounts(
            registry,
            node=self._node,
            issuers=self._folder.issuers,
            node_key=self._settings.edge.data_dir / "token.key",
        )
        passing = Passing(
            view=view,
            cloud=self.cloud,
            keeping=self._keeping,
            answer_seconds=self._settings.api_answer_seconds,
        )
        gate = Gate(
            node=self._node,
            view=view,
            registry=registry,
            accounts=accounts,
            cloud=self.cloud,
            outbox=outbox,
            passing=passing,
            logs=NodeLogs(self._settings.api_edged_socket),
        )
        application = ApiApplication(
            registry,
            token=(self._folder.pki / "token").read_text().strip(),
            accounts=accounts,
            administrator=node_user(self._node),
            elsewhere=gate,
        )
        gate.offline = OfflineWriting(view=view, outbox=outbox, application=application)
        sending = Sending(
            node=self._node,
            outbox=outbox,
            cloud=self.cloud,
            passing=passing,
            view=view,
            registry=registry,
            observed=self._observed,
        )
        async with (
            answering(
                application,
                sockets,
                certificate=self._folder.pki / "server.crt",
                key=self._folder.pki / "server.key",
                web_sockets="none",
            ),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(view.run(), name="api view")
            tasks.create_task(sending.run(), name="api outbox")
            log.info("api_answers", objects=_count(view))

    async def _hear_statuses(self) -> None:
        """Have the neighbours tell of all objects, and wait until they have, but not for long."""
        try:
            async with asyncio.timeout(STATUSES_SECONDS):
                await self._fabric.publish(
                    Envelope(type=kinds.STATUSES_ASKED, source=f"/node/{self._node}/meta"),
                    exchange=t.DOWN,
                    routing_key=str(Address(self._node, MessageClass.REQUEST, ("statuses",))),
                )
                wanted = {each.key for each in await self._store.objects({"pods", "nodes"})}
                await self._observed.told_of(wanted)
        except (TimeoutError, UnavailableError) as exc:
            log.warning("statuses_not_heard", reason=str(exc) or "not of all objects in time")


def _count(view: "View") -> int:
    shown = view.shown
    return sum(shown.count(each) for each in shown.resources())
