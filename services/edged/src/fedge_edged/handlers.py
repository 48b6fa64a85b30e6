"""Messages in: changes that meta stored, and requests of hub."""

from collections.abc import Callable
from datetime import UTC, datetime

from fedge_edged.logs import LogError, LogOptions, read_log
from fedge_edged.node_pods import NodePods
from fedge_edged.specs import Specs
from fedge_fabric import (
    Address,
    Envelope,
    InvalidError,
    MalformedError,
    MessageClass,
    change_of,
    kinds,
)
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import Change, NodeName

RESOURCES = ("pods", "configmaps", "secrets", "serviceaccounts", "nodes")
PIECE_CHARACTERS = 256 * 1024


class Handlers:
    """Reads messages and calls the domain."""

    def __init__(
        self,
        *,
        node: NodeName,
        pods: NodePods,
        specs: Specs,
        fabric: Fabric,
        take: Callable[[Change], None],
        report_all: Callable[[], None],
    ) -> None:
        self._take = take
        self._report_all = report_all
        self._node = node
        self._pods = pods
        self._specs = specs
        self._fabric = fabric

    def subscribe(self) -> None:
        """Take part in all of edged's queues."""
        self._fabric.subscribe(t.local_objects("edged", RESOURCES), self.on_change)
        self._fabric.subscribe(
            t.edge_request("edged", self._node, ("logs", "inventory")), self.on_request
        )

    async def on_change(self, delivery: Delivery) -> None:
        """Take an object or its tombstone."""
        self._take(change_of(delivery.envelope))

    async def on_request(self, delivery: Delivery) -> None:
        """Answer a request."""
        match delivery.envelope.type:
            case kinds.INVENTORY_ASKED:
                self._report_all()
            case kinds.LOGS_ASKED:
                await self._logs(delivery.envelope)
            case other:
                raise InvalidError(f"message type {other!r} is no request to edged")

    async def _logs(self, request: Envelope) -> None:
        data = request.data
        if not isinstance(data, dict):
            raise MalformedError("a request for logs without data")
        try:
            text, status = self._read(data), 200
        except LogError as exc:
            text, status = f"{exc}\n", exc.code
        except (KeyError, AttributeError) as exc:
            raise MalformedError(f"a request for logs without {exc}") from exc
        pieces = [
            text[start : start + PIECE_CHARACTERS]
            for start in range(0, max(1, len(text)), PIECE_CHARACTERS)
        ]
        for index, piece in enumerate(pieces):
            await self._fabric.publish(
                Envelope(
                    type=kinds.ANSWERED,
                    source=f"/node/{self._node}/edged",
                    subject=request.id,
                    data={
                        "status": status,
                        "body": piece,
                        "index": index,
                        "last": index == len(pieces) - 1,
                    },
                ),
                exchange=t.UP,
                routing_key=str(Address(self._node, MessageClass.REQUEST, ("answer",))),
            )

    def _read(self, data: dict[str, object]) -> str:
        namespace, name = str(data["namespace"]), str(data["pod"])
        container, query = str(data["container"]), data["options"]
        if not isinstance(query, dict):
            raise MalformedError("a request for logs without options")
        if query.get("follow") == "true":
            raise LogError(501, "following a log is not served by this node")
        worker = self._pods.find(namespace, name)
        if worker is None or worker.pod is None:
            raise LogError(404, f'pod "{namespace}/{name}" is not on this node')
        options = LogOptions.parse(query, datetime.now(UTC))
        attempts = worker.observed.attempts_of(container)
        index = 1 if options.previous else 0
        if len(attempts) <= index:
            what = "previous terminated container" if options.previous else "container"
            raise LogError(
                400, f'{what} "{container}" in pod "{name}" not found or not started yet'
            )
        folder = self._specs.log_folder(namespace, name, worker.uid)
        return read_log(folder / container / f"{attempts[index].attempt}.log", options)
