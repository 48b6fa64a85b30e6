"""Messages in: objects, the question what the node has, and answers to writes."""

from typing import TYPE_CHECKING

import structlog

from fedge_fabric import InvalidError, MalformedError, change_of, fields, kinds, protocol
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_meta.digests import Digests
from fedge_meta.keeping import Keeping
from fedge_objects import MAX_BRANCHES, NodeName, is_branch

if TYPE_CHECKING:
    from fedge_meta.api.cloud import Cloud

log = structlog.stdlib.get_logger("fedge.meta")


_REQUESTS = ("digest", "written", "statuses")


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(self, keeping: Keeping, digests: Digests, cloud: "Cloud | None" = None) -> None:
        self._keeping = keeping
        self._digests = digests
        self._protocol = "1.0"
        self._cloud = cloud

    def subscribe(self, fabric: Fabric, node: NodeName) -> None:
        """Take part in all of meta's queues."""
        fabric.subscribe(t.meta_state(node), self.on_state)
        fabric.subscribe(
            t.edge_request("meta", node, ("digest", "written", "statuses")), self.on_request
        )

    async def on_state(self, delivery: Delivery) -> None:
        """Take an object or its tombstone."""
        if delivery.envelope.type not in {kinds.OBJECT_PUT, kinds.OBJECT_GONE}:
            raise InvalidError(f"message type {delivery.envelope.type!r} is no object")
        await self._keeping.keep(change_of(delivery.envelope))

    async def on_request(self, delivery: Delivery) -> None:
        """Answer a question, or take an answer."""
        match delivery.envelope.type:
            case kinds.DIGEST_ASKED:
                await self._tell_digest(delivery.envelope.data)
            case kinds.STATUSES_ASKED:
                await self._keeping.tell_effects()
            case kinds.WRITE_ANSWERED:
                if self._cloud is not None:
                    await self._cloud.on_answer(delivery)
            case other:
                raise InvalidError(f"message type {other!r} is no request to meta")

    async def _tell_digest(self, data: object) -> None:
        prefixes = fields.array(data, "prefixes")
        self._look_at_protocol(fields.text(data, "protocol", default="1.0"))
        if len(prefixes) > MAX_BRANCHES:
            raise InvalidError(
                f"a question for {len(prefixes)} branches: more than {MAX_BRANCHES} are not told"
            )
        if not all(isinstance(each, str) and is_branch(each) for each in prefixes):
            raise MalformedError("a question for a digest of what is no branch")
        if prefixes:
            await self._digests.tell(set(prefixes))

    def _look_at_protocol(self, told: str) -> None:
        """Say it, once, of a cloud that is more than a minor version apart."""
        if told != self._protocol and not protocol.understands(told):
            log.warning("protocol_differs", reason=protocol.mismatch(told))
        self._protocol = told
