"""Messages in: reports of nodes, hub's wishes."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import structlog

from fedge_dispatch.placement import Placement
from fedge_dispatch.reports import Reports
from fedge_dispatch.resources import Report
from fedge_dispatch.telling import Telling
from fedge_fabric import Address, InvalidError, MalformedError, MessageClass, fields, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import NodeName

log = structlog.stdlib.get_logger("fedge.dispatch")


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(self, *, placement: Placement, telling: Telling, reports: Reports) -> None:
        self._placement = placement
        self._telling = telling
        self._reports = reports

    def subscribe(
        self,
        fabric: Fabric,
        *,
        service: str,
        replica: str,
        resources: Iterable[str],
        reports_at_once: int,
    ) -> None:
        """Take part in the service's queues."""
        reported = t.reported(service, MessageClass.STATE, tuple(resources))
        fabric.subscribe(dataclasses.replace(reported, prefetch=reports_at_once), self.on_state)
        fabric.subscribe(t.control(service, replica), self.on_control)

    async def on_state(self, delivery: Delivery) -> None:
        """Take a status."""
        node, envelope = Address.parse(delivery.routing_key).node, delivery.envelope
        match envelope.type:
            case kinds.STATUS_REPORTED:
                report, observed = _report(node, envelope.subject, envelope.data)
                await self._reports.status(report, observed)
            case other:
                raise InvalidError(f"message type {other!r} is no report")

    async def on_control(self, delivery: Delivery) -> None:
        """Tell again what a node, or every node, should have."""
        if delivery.envelope.type != kinds.RESYNC_ASKED:
            return
        node = fields.text(delivery.envelope.data, "node", default="", most=253)
        for each in [NodeName(node)] if node else sorted(self._placement.nodes()):
            self._telling.tell(self._placement.everything(each))
            log.info("node_told_again", node=each)


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
