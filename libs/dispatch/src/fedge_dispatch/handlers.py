"""Messages in: reports of nodes, hub's wishes."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import structlog

from fedge_dispatch.placement import Placement
from fedge_dispatch.reports import Reports
from fedge_dispatch.resources import Report
from fedge_dispatch.telling import Telling
from fedge_fabric import Address, InvalidError, MalformedError, MessageClass, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import NodeName, ObjectKey

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
        data = _dict(envelope.data)
        match envelope.type:
            case kinds.STATUS_REPORTED:
                report, observed = _report(node, envelope.subject, data)
                await self._reports.status(report, observed)
            case other:
                raise InvalidError(f"message type {other!r} is no report")

    async def on_control(self, delivery: Delivery) -> None:
        """Tell again what a node, or every node, should have."""
        if delivery.envelope.type != kinds.RESYNC_ASKED:
            return
        node = _dict(delivery.envelope.data).get("node")
        for each in [NodeName(node)] if node else sorted(self._placement.nodes()):
            self._telling.tell(self._placement.everything(each))
            log.info("node_told_again", node=each)


def _dict(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise MalformedError(f"expected an object in the message, found {type(data).__name__}")
    return data


def _report(node: NodeName, subject: str, data: dict[str, Any]) -> tuple[Report, tuple[int, int]]:
    try:
        incarnation, sequence = data["observed"]
        return (
            Report(
                node=node,
                key=ObjectKey.parse(subject),
                uid=str(data.get("uid") or ""),
                status=_dict(data["status"]),
                labels=_dict(data.get("labels") or {}),
                finished=bool(data.get("finished")),
            ),
            (int(incarnation), int(sequence)),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise MalformedError(f"report about {subject!r} is wrong: {exc!r}") from exc
