"""Messages out: to the nodes, to the cloud's services."""

import json
from collections.abc import Collection
from datetime import timedelta

from typing_extensions import override

from fedge_fabric import (
    Address,
    Envelope,
    MessageClass,
    UnavailableError,
    UnroutableError,
    envelope_of,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.definitions import link_queue
from fedge_fabric.fabric import Fabric
from fedge_fabric.protocol import PROTOCOL
from fedge_hub.ports import CloudLink, Downlink, NoSealingKeyError, SealingKeys
from fedge_objects import Change, NodeName
from fedge_sealing import CONFIDENTIAL, seal_change

SOURCE = "/cloud/hub"
ASKED_FOR = timedelta(seconds=60)
"""A question to a node that was not read by then is asked again, if it still matters."""


class FabricDownlink(Downlink):
    """``Downlink`` over the exchange that the nodes' brokers federate with."""

    def __init__(self, fabric: Fabric, keys: SealingKeys | None = None) -> None:
        """Take the way.

        Args:
            fabric: to the cloud's broker.
            keys: to which confidential objects are sealed; None: they go as they are.
        """
        self._fabric = fabric
        self._keys = keys

    @override
    async def send(self, node: NodeName, change: Change) -> None:
        if self._keys is not None and change.key.resource in CONFIDENTIAL:
            public = await self._keys.sealing_key(node)
            if not public:
                raise NoSealingKeyError(
                    f"node {node!r} has no key to seal {change.key} to: let it join again"
                )
            change = seal_change(change, public)
        await self._fabric.publish(
            envelope_of(change, source=SOURCE),
            exchange=t.DOWN,
            routing_key=str(Address.of_object(node, change.key)),
            mandatory=True,
        )

    @override
    async def ask_digest(self, node: NodeName, prefixes: Collection[str]) -> None:
        data = {"prefixes": sorted(prefixes), "protocol": PROTOCOL}
        await self._ask(node, Envelope(type=kinds.DIGEST_ASKED, source=SOURCE, data=data), "digest")

    @override
    async def ask_statuses(self, node: NodeName) -> None:
        await self._ask(node, Envelope(type=kinds.STATUSES_ASKED, source=SOURCE), "statuses")

    @override
    async def say_heard(self, node: NodeName, heartbeat_id: str) -> None:
        answer = Envelope(type=kinds.NODE_HEARD, source=SOURCE, subject=heartbeat_id)
        await self._ask(node, answer, "heard")

    @override
    async def waiting(self, node: NodeName) -> int | None:
        name = link_queue(node)
        depth = (await self._fabric.depths([name])).get(name)
        return None if depth is None else depth.messages

    async def _ask(self, node: NodeName, envelope: Envelope, word: str) -> None:
        await self._fabric.publish(
            envelope,
            exchange=t.DOWN,
            routing_key=str(Address(node, MessageClass.REQUEST, (word,))),
            mandatory=True,
            expires_after=ASKED_FOR,
        )


class FabricCloudLink(CloudLink):
    """``CloudLink`` over the cloud's broker."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric

    @override
    async def pass_on(self, routing_key: str, envelope: Envelope) -> None:
        try:
            await self._fabric.publish(
                envelope,
                exchange=t.REPORTED,
                routing_key=routing_key,
                # a heartbeat that nobody hears is worth nothing later
                mandatory=envelope.type != kinds.NODE_ALIVE,
            )
        except UnroutableError as exc:
            raise UnavailableError(
                f"no service takes reports at {routing_key!r} yet: is it running?"
            ) from exc

    @override
    async def refuse_write(
        self, node: NodeName, write_id: str, code: int, reason: str, message: str
    ) -> None:
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": code,
        }
        await self._fabric.publish(
            Envelope(
                type=kinds.WRITE_ANSWERED,
                source=SOURCE,
                subject=write_id,
                data={"code": code, "body": json.dumps(status), "conflict": []},
            ),
            exchange=t.DOWN,
            routing_key=str(Address(node, MessageClass.REQUEST, ("written",))),
            expires_after=ASKED_FOR,
        )

    @override
    async def ask_resync(self, node: NodeName) -> None:
        await self._fabric.publish(
            Envelope(type=kinds.RESYNC_ASKED, source=SOURCE, data={"node": node}),
            exchange=t.CONTROL,
            routing_key=t.RESYNC,
        )
