"""Messages in: what the cloud's services want, what the nodes say."""

from typing import Any

import structlog

from fedge_fabric import (
    Address,
    InvalidError,
    MalformedError,
    MessageClass,
    UnavailableError,
    change_of,
    fields,
    kinds,
    protocol,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_fabric.writes import NOT_BELIEVED, Author, read_write
from fedge_hub.domain import Nodes
from fedge_hub.events import Events
from fedge_hub.ports import Applied, CloudLink
from fedge_hub.requests import Requests
from fedge_objects import MAX_BRANCHES, NodeName, ObjectKey, Version, is_branch, lies_below

log = structlog.stdlib.get_logger("fedge.hub")

MAX_REASON = 512


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(
        self, *, nodes: Nodes, events: Events, cloud: CloudLink, requests: Requests
    ) -> None:
        self._nodes = nodes
        self._events = events
        self._cloud = cloud
        self._requests = requests
        self._protocols: dict[NodeName, str] = {}

    def subscribe(self, fabric: Fabric) -> None:
        """Take part in all of hub's queues."""
        fabric.subscribe(t.HUB_WANTED, self.on_wanted)
        fabric.subscribe(t.hub_up(MessageClass.STATE), self.on_state)
        fabric.subscribe(t.hub_up(MessageClass.EVENT), self.on_event)
        fabric.subscribe(t.hub_up(MessageClass.REQUEST), self.on_request)
        fabric.subscribe(t.answers(self._requests.replica), self.on_own_answer)

    async def on_wanted(self, delivery: Delivery) -> None:
        """Take what a cloud service wants a node to have."""
        node = Address.parse(delivery.routing_key).node
        envelope = delivery.envelope
        match envelope.type:
            case kinds.OBJECT_PUT | kinds.OBJECT_GONE:
                await self._nodes.want(node, change_of(envelope))
            case kinds.OBJECTS_LISTED:
                if envelope.version is None:
                    raise MalformedError("a list has no version")
                await self._nodes.listed(
                    node,
                    envelope.subject,
                    {fields.key_in(each) for each in fields.array(envelope.data, "keys")},
                    envelope.version,
                )
            case kinds.STATUSES_ASKED:
                await self._nodes.ask_statuses(node)
            case other:
                raise InvalidError(f"message type {other!r} is not for hub")

    async def on_state(self, delivery: Delivery) -> None:
        """Take what a node says about itself and its objects."""
        node, envelope = _speaker(delivery), delivery.envelope
        match envelope.type:
            case kinds.NODE_ALIVE:
                interval = fields.interval(envelope.data)
                wants_answer = fields.flag(envelope.data, "answer", default=False)
                self._look_at_protocol(node, envelope.data)
                await self._nodes.heard(node, interval, _backlog(envelope.data))
                await self._cloud.pass_on(delivery.routing_key, envelope)
                if wants_answer:
                    await self._nodes.answer(node, envelope.id)
            case kinds.OBJECT_STORED:
                if envelope.version is None:
                    raise MalformedError("what was stored has no version")
                await self._nodes.stored(node, fields.key_in(envelope.subject), envelope.version)
            case kinds.OBJECTS_APPLIED:
                await self._nodes.applied(node, _applied(envelope.data))
            case kinds.DIGEST_TAKEN:
                await self._nodes.compare(node, *_digest(envelope.data))
            case kinds.STATUS_REPORTED:
                await self._nodes.check_speaks_for_itself(node, fields.key_in(envelope.subject))
                await self._cloud.pass_on(delivery.routing_key, envelope)
            case other:
                raise InvalidError(f"message type {other!r} is no state that hub knows")

    def _look_at_protocol(self, node: NodeName, data: Any) -> None:
        """Say it, once, of a node that is more than a minor version apart."""
        told = fields.text(data, "protocol", default="1.0")
        if self._protocols.get(node, "") == told:
            return
        self._protocols[node] = told
        if not protocol.understands(told):
            log.warning("protocol_differs", node=node, reason=protocol.mismatch(told))

    async def on_event(self, delivery: Delivery) -> None:
        """Take an event that a node recorded."""
        node, envelope = _speaker(delivery), delivery.envelope
        if await self._events.is_repeat(node, envelope):
            return
        if envelope.type in {kinds.EVENT_RECORDED, kinds.TOKEN_ASKED}:
            key = fields.key_in(envelope.subject)
            try:
                await self._nodes.check_speaks_for_itself(node, key)
            except InvalidError as exc:
                # events come late: the pod, and what told that it was this node's, may be gone
                log.warning("event_refused", node=node, object=str(key), reason=str(exc))
                await self._events.took(node, envelope)
                return
        await self._cloud.pass_on(delivery.routing_key, envelope)
        await self._events.took(node, envelope)

    async def on_own_answer(self, delivery: Delivery) -> None:
        """Take a piece of an answer to this replica, which another one took."""
        self._requests.answered(_speaker(delivery), delivery.envelope)

    async def on_request(self, delivery: Delivery) -> None:
        """Take a piece of an answer to any replica, or what a program on a node wants written."""
        node, envelope = _speaker(delivery), delivery.envelope
        if envelope.type == kinds.WRITE_ASKED:
            await self._write(node, delivery)
        elif not await self._requests.hand_on(delivery):
            self._requests.answered(node, envelope)

    async def _write(self, node: NodeName, delivery: Delivery) -> None:
        """Pass a write on, if it can be somebody's on that node; else say so at once.

        Somebody waits for the answer, so nothing of it waits here.
        """
        envelope = delivery.envelope
        author = read_write(envelope.subject, envelope.data).author
        try:
            _check_author(node, author)
            await self._nodes.check_speaks_for_itself(node, author.about)
            await self._cloud.pass_on(delivery.routing_key, envelope)
        except InvalidError as exc:
            log.warning("write_refused", node=node, reason=str(exc))
            message = f"{author.user} is no account of a pod on node {node}"
            await self._cloud.refuse_write(node, envelope.id, 403, NOT_BELIEVED, message)
        except UnavailableError as exc:
            log.info("write_waits", node=node, reason=str(exc))
            await self._cloud.refuse_write(
                node, envelope.id, 503, "ServiceUnavailable", f"the cloud is starting: {exc}"
            )


def _check_author(node: NodeName, author: Author) -> None:
    if not author.speaks_for(node):
        raise InvalidError(f"node {node!r} writes as {author.user!r} of {author.about}")


def _speaker(delivery: Delivery) -> NodeName:
    """Return the node that a message came from.

    The broker lets a node publish under its own routing keys only; the source must agree.

    Raises:
        InvalidError: the source is another node's.
    """
    node = Address.parse(delivery.routing_key).node
    if not delivery.envelope.source.startswith(f"/node/{node}/"):
        raise InvalidError(f"node {node!r} sent a message of source {delivery.envelope.source!r}")
    return node


def _digest(data: Any) -> tuple[dict[str, str], dict[str, dict[ObjectKey, Version]]]:
    hashes, versions = fields.part(data, "hashes"), fields.part(data, "versions")
    branches = len(hashes) + len(versions)
    if branches > MAX_BRANCHES:
        raise InvalidError(
            f"a digest of {branches} branches: more than {MAX_BRANCHES} are not read"
        )
    if not all(map(is_branch, [*hashes, *versions])):
        raise MalformedError("a digest of what is no branch")
    return (
        {prefix: str(each) for prefix, each in hashes.items()},
        {prefix: _versions(each, prefix) for prefix, each in versions.items()},
    )


def _versions(data: Any, prefix: str) -> dict[ObjectKey, Version]:
    try:
        return {
            fields.key_in(key): Version.parse(version)
            for key, version in data.items()
            if lies_below(key, prefix)
        }
    except (ValueError, AttributeError, TypeError) as exc:
        raise MalformedError(f"versions in a digest are wrong: {exc}") from exc


def _applied(data: Any) -> dict[ObjectKey, Applied]:
    try:
        return {
            fields.key_in(key): Applied(
                version=Version.parse(each["version"]),
                failed=each["state"] == "failed",
                reason=str(each.get("reason") or "")[:MAX_REASON],
            )
            for key, each in fields.part(data, "objects").items()
        }
    except (ValueError, AttributeError, TypeError, KeyError) as exc:
        raise MalformedError(f"what was applied is wrong: {exc!r}") from exc


def _backlog(data: Any) -> dict[str, int] | None:
    backlog = data.get("backlog")
    if not isinstance(backlog, dict):
        return None
    return {
        str(each): backlog[each]
        for each in MessageClass
        if isinstance(backlog.get(each), int)
        and not isinstance(backlog[each], bool)
        and 0 <= backlog[each] <= fields.MAX_WHOLE
    }
