"""What the node's services say of its objects: their newest statuses, and events.

The cloud is told the same, so this is what ``kubectl`` shows there, only earlier. Nothing of it is
written to flash: edged and twin say all of it again when they are asked.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from fedge_fabric import InvalidError, MalformedError, fields, kinds
from fedge_fabric import topology as t
from fedge_fabric.fabric import Delivery, Fabric
from fedge_objects import JsonObject, NodeName, ObjectKey

MOST_EVENTS: Final = 256
EVENTS: Final = "events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What was said of an object.

    Attributes:
        uid: of the object that is meant; empty: the one of that name.
        status: the whole status.
        labels: that the node gives itself.
        observed: rises with each word.
    """

    uid: str
    status: JsonObject
    labels: dict[str, str] = field(default_factory=dict)
    observed: tuple[int, int]


class Observed:
    """The newest that was said."""

    def __init__(self) -> None:
        self.statuses: dict[ObjectKey, Status] = {}
        self.events: OrderedDict[ObjectKey, JsonObject] = OrderedDict()
        self._news = asyncio.Event()
        self.changed: Callable[[ObjectKey], None] | None = None
        """Called with what news there are of, once somebody wants to know."""

    def subscribe(self, fabric: Fabric, node: NodeName, replica: str) -> None:
        """Hear what the neighbours say from now on."""
        fabric.subscribe(t.meta_overhears(node, replica), self.on_message)

    async def on_message(self, delivery: Delivery) -> None:
        """Take a status or an event."""
        envelope = delivery.envelope
        match envelope.type:
            case kinds.STATUS_REPORTED:
                self._take_status(fields.key_in(envelope.subject), envelope.data)
            case kinds.EVENT_RECORDED:
                self.take_event(envelope.data)
            case kinds.OBJECT_STORED:
                return  # meta's own, by the same key
            case other:
                raise InvalidError(f"message type {other!r} says nothing of an object")

    def take_event(self, event: object) -> None:
        """Take an event; of many the oldest are forgotten.

        Raises:
            MalformedError: it is none.
        """
        metadata = fields.part(event, "metadata")
        namespace, name = fields.text(metadata, "namespace"), fields.text(metadata, "name")
        key = fields.key_in(f"{EVENTS}/{namespace}/{name}")
        self.events[key] = fields.mapping(event)
        self.events.move_to_end(key)
        self._tell(key)
        while len(self.events) > MOST_EVENTS:
            oldest, _ = self.events.popitem(last=False)
            self._tell(oldest)

    async def told_of(self, keys: AbstractSet[ObjectKey]) -> None:
        """Return once the neighbours have told of all these objects."""
        while not keys <= self.statuses.keys():
            self._news.clear()
            await self._news.wait()

    def forget(self, key: ObjectKey) -> None:
        """Drop what was said of an object that is gone."""
        self.statuses.pop(key, None)

    def _take_status(self, key: ObjectKey, data: object) -> None:
        observed = fields.array(data, "observed")
        if len(observed) != 2 or not all(type(each) is int for each in observed):  # noqa: PLR2004
            raise MalformedError(f"a status of {key} of which nobody knows how new it is")
        labels = fields.mapping(fields.mapping(data).get("labels") or {})
        if not all(isinstance(each, str) for each in labels.values()):
            raise InvalidError(f"labels of {key} that are no texts")
        status = Status(
            uid=fields.text(data, "uid", default=""),
            status=fields.part(data, "status"),
            labels=labels,
            observed=(observed[0], observed[1]),
        )
        held = self.statuses.get(key)
        if held is None or held.observed < status.observed or held.uid != status.uid:
            self.statuses[key] = status
            self._tell(key)

    def _tell(self, key: ObjectKey) -> None:
        self._news.set()
        if self.changed is not None:
            self.changed(key)
