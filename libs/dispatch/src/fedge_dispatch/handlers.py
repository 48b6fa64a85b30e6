"""Messages in: reports of nodes, hub's wishes."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import structlog

from fedge_dispatch.placement import Placement
from fedge_dispatch.replicas import Replicas
from fedge_dispatch.reports import Reports
from fedge_dispatch.resources import Report
from fedge_dispatch.telling import Telling
from fedge_fabric import (
    Address,
    InvalidError,
    MalformedError,
    MessageClass,
    UnavailableError,
    UnroutableError,
    fields,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import NodeName

log = structlog.stdlib.get_logger("fedge.dispatch")


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(
        self,
        fabric: Fabric,
        *,
        service: str,
        placement: Placement,
        telling: Telling,
        reports: Reports,
        replicas: Replicas,
    ) -> None:
        self._fabric = fabric
        self._service = service
        self._placement = placement
        self._telling = telling
        self._reports = reports
        self._replicas = replicas

    def subscribe(self, resources: Iterable[str], *, reports_at_once: int) -> None:
        """Take part in the service's queues."""
        fabric, service, me = self._fabric, self._service, self._replicas.me
        reported = t.reported(service, MessageClass.STATE, tuple(resources))
        fabric.subscribe(dataclasses.replace(reported, prefetch=reports_at_once), self.on_state)
        fabric.subscribe(t.owned(service, me, prefetch=reports_at_once), self.on_owned)
        fabric.subscribe(t.control(service, me), self.on_control)

    async def on_state(self, delivery: Delivery) -> None:
        """Take a status, and write it or hand it to the replica whose node it is of."""
        node, report, observed = _status(delivery)
        owner = await self._replicas.owner(node)
        if owner == self._replicas.me:
            await self._reports.status(report, observed)
            return
        try:
            await self._fabric.hand_on(delivery, t.owned(self._service, owner))
        except UnroutableError as exc:
            raise UnavailableError(f"replica {owner} of {self._service} is gone") from exc

    async def on_owned(self, delivery: Delivery) -> None:
        """Take a status that another replica handed to this one.

        Raises:
            UnavailableError: the node is not its own; who takes it later may know better.
        """
        node, report, observed = _status(delivery)
        if await self._replicas.owner(node) != self._replicas.me:
            raise UnavailableError(f"node {node!r} is not this replica's")
        await self._reports.status(report, observed)

    async def on_control(self, delivery: Delivery) -> None:
        """Tell again what a node, or every node, should have; hear other replicas."""
        match delivery.envelope.type:
            case kinds.RESYNC_ASKED:
                node = fields.text(delivery.envelope.data, "node", default="", most=253)
                self._tell_again([NodeName(node)] if node else sorted(self._placement.nodes()))
            case kinds.REPLICA_HEARD:
                self._replicas.heard(delivery.envelope)
            case _:
                return

    def _tell_again(self, nodes: Iterable[NodeName]) -> None:
        for each in filter(self._replicas.owns, nodes):
            self._telling.tell(self._placement.everything(each))
            log.info("node_told_again", node=each)


def _status(delivery: Delivery) -> tuple[NodeName, Report, tuple[int, int]]:
    node, envelope = Address.parse(delivery.routing_key).node, delivery.envelope
    if envelope.type != kinds.STATUS_REPORTED:
        raise InvalidError(f"message type {envelope.type!r} is no report")
    return node, *_report(node, envelope.subject, envelope.data)


def _report(node: NodeName, subject: str, data: Any) -> tuple[Report, tuple[int, int]]:
    observed = fields.array(data, "observed")
    if len(observed) != 2 or not all(map(_is_count, observed)):  # noqa: PLR2004 - two numbers
        raise MalformedError(
            f"report about {subject!r}: 'observed' is {fields.shown(observed)}: expected"
            " [incarnation, sequence]"
        )
    labels = _texts(data.get("labels") or {}, "labels")
    return (
        Report(
            node=node,
            key=fields.key_in(subject),
            uid=fields.text(data, "uid", default=""),
            status=fields.part(data, "status"),
            labels=labels,
            finished=fields.flag(data, "finished", default=False),
        ),
        (observed[0], observed[1]),
    )


def _texts(data: object, name: str) -> dict[str, str]:
    texts = fields.mapping(data)
    if not all(isinstance(each, str) for each in texts.values()):
        raise MalformedError(f"{name!r} of the message has values that are no texts")
    return texts


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= fields.MAX_WHOLE
