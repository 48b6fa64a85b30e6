"""Every exchange and queue of fedge, in one place.

Cloud broker::

    controller, device ─► fedge.wanted ─► hub.wanted ─► hub
    hub ─► fedge.down ─► (one federation queue per node) ─► edge
    edge ─► fedge.up ─► hub.up.state|event|request|spans ─► hub
    hub ─► fedge.reported ─► controller.reported.*, device.reported.* ─► controller, device
    hub, controller, device ─► fedge.control ─► (one queue per replica) ─► controller, device
    controller, device ─► (a queue per replica) ─► the replica whose a report is
    hub ─► (a queue per replica) ─► the replica of hub that asked

Edge broker::

    (federation) ─► fedge.down ─► meta.state ─► meta;  edged.request ─► edged; ...
    meta ─► fedge.local ─► edged.objects, twin.objects ─► edged, twin
    meta, edged, twin ─► fedge.up ─► up.state|event|request|spans ─► (shovels) ─► cloud
                         fedge.up ─► meta.overhears.* ─► meta

Each queue that services consume together has a waiting room ``<queue>.later`` for what is tried
again, and what can never be handled goes to ``fedge.dead`` with its reason.
"""

from dataclasses import dataclass
from typing import Final

from fedge_fabric.addresses import MessageClass, encode_word, routing_key_of
from fedge_fabric.envelope import MAX_BODY_BYTES
from fedge_objects import NodeName

WANTED: Final = "fedge.wanted"
DOWN: Final = "fedge.down"
UP: Final = "fedge.up"
REPORTED: Final = "fedge.reported"
CONTROL: Final = "fedge.control"
LOCAL: Final = "fedge.local"
DEAD: Final = "fedge.dead"
RESYNC: Final = "resync"
"""Routing key of hub's wishes to the cloud's services."""

CLOUD_EXCHANGES: Final = (WANTED, DOWN, UP, REPORTED, CONTROL, DEAD)
EDGE_EXCHANGES: Final = (DOWN, UP, LOCAL, DEAD)
"""All are durable topic exchanges."""

_TOLD_OF: Final = ("pods", "nodes", "devices.devices.kubeedge.io")
"""Of which objects edged and twin tell statuses."""

RETRY_AFTER_SECONDS: Final = 2.0
HANDED_SECONDS: Final = 10.0
"""What was handed to a replica and is not read by then goes back to where all take from."""
FORSAKEN_SECONDS: Final = 60.0
"""A replica's queue that nobody has read from for so long is removed; by then it is empty."""
MAX_ATTEMPTS: Final = 20
DEAD_MAX_BYTES: Final = 64 * 1024 * 1024
EVENT_MAX_BYTES: Final = 1024 * 1024
"""Kubernetes' own events have at most 1.5 KiB of text, a device's value a few."""
UP_MAX_BYTES: Final = 512 * 1024 * 1024
SPANS_MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Binding:
    """A queue takes from ``exchange`` what matches ``routing_key`` (AMQP topic pattern)."""

    exchange: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue that one service consumes.

    Attributes:
        name: in the broker.
        bindings: what it takes.
        prefetch: messages in hand at once, which is how many handlers run side by side.
        exclusive: one per consumer, gone with it.
        shared: one per replica, for what it is handed of the queue of this name, which all of them
            take from; what lies there unread goes back, and so does all once the replica is gone.
        ordered: messages of one routing key are handled one after the other, in the order in which
            they came, by one consumer at a time (single active consumer). One that something is
            away for holds the later ones of its key up instead of waiting elsewhere.
        max_bytes: a message whose body is larger, as it travels, is not read.
    """

    name: str
    bindings: tuple[Binding, ...] = ()
    prefetch: int = 64
    exclusive: bool = False
    shared: str = ""
    ordered: bool = False
    max_bytes: int = MAX_BODY_BYTES

    @property
    def pattern(self) -> str:
        """The name, without what tells one replica's queue from another's."""
        return self.name.rpartition(".")[0] if self.exclusive or self.shared else self.name

    @property
    def arguments(self) -> dict[str, object]:
        """The queue's own arguments in the broker."""
        if self.shared:
            return {
                "x-message-ttl": int(HANDED_SECONDS * 1000),
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self.shared,
                "x-expires": int(FORSAKEN_SECONDS * 1000),
            }
        return {"x-single-active-consumer": True} if self.ordered else {}

    @property
    def later(self) -> str:
        """Name of the queue in which messages wait to be tried again."""
        return f"{self.shared or self.name}.later"


HUB_WANTED: Final = Queue("hub.wanted", (Binding(WANTED, "#"),))


def hub_up(message_class: MessageClass) -> Queue:
    """Return hub's queue for one class of what nodes say."""
    bindings = (Binding(UP, f"node.*.{message_class}.#"),)
    if message_class is MessageClass.EVENT:
        return Queue(
            f"hub.up.{message_class}",
            bindings,
            prefetch=256,
            ordered=True,
            max_bytes=EVENT_MAX_BYTES,
        )
    if message_class is MessageClass.SPANS:
        # the cloud's own come the same way; nodes have no right to that key
        own = Binding(UP, f"cloud.{message_class}.#")
        return Queue(f"hub.up.{message_class}", (*bindings, own), prefetch=8)
    return Queue(f"hub.up.{message_class}", bindings)


def reported(service: str, message_class: MessageClass, resources: tuple[str, ...]) -> Queue:
    """Return a cloud service's queue for what nodes report about ``resources``."""
    return Queue(
        f"{service}.reported.{message_class}",
        tuple(
            Binding(REPORTED, f"node.*.{message_class}.{encode_word(resource)}.#")
            for resource in resources
        ),
        ordered=message_class is MessageClass.EVENT,
    )


def heartbeats(service: str) -> Queue:
    """Return a cloud service's queue for the nodes' signs of life."""
    return Queue(f"{service}.heartbeats", (Binding(REPORTED, "node.*.state.alive"),))


def token_requests(service: str) -> Queue:
    """Return a cloud service's queue for the nodes' questions for tokens of their pods."""
    return Queue(f"{service}.tokens", (Binding(REPORTED, "node.*.event.tokens.#"),))


def answers(replica: str) -> Queue:
    """Return the queue in which a replica of hub is handed answers that another one took."""
    return Queue(f"hub.answers.{replica}", exclusive=True)


def owned(service: str, replica: str, *, prefetch: int = 64) -> Queue:
    """Return the queue in which a replica is handed the reports that are its to write."""
    shared = f"{service}.reported.{MessageClass.STATE}"
    return Queue(f"{service}.owned.{replica}", prefetch=prefetch, shared=shared)


def replicas_key(service: str) -> str:
    """Return the routing key by which a service's replicas speak to each other."""
    return f"replicas.{service}"


def writes(service: str) -> Queue:
    """Return a cloud service's queue for what programs on nodes want written."""
    return Queue(f"{service}.writes", (Binding(REPORTED, "node.*.request.write.#"),), prefetch=32)


def control(service: str, replica: str) -> Queue:
    """Return the queue in which each replica of a cloud service hears hub, and the others."""
    keys = (RESYNC, replicas_key(service))
    bindings = tuple(Binding(CONTROL, key) for key in keys)
    return Queue(f"{service}.control.{replica}", bindings, exclusive=True)


def meta_state(node: NodeName) -> Queue:
    """Return meta's queue for objects."""
    return Queue("meta.state", (Binding(DOWN, f"node.{encode_word(node)}.state.#"),))


def edge_request(service: str, node: NodeName, requests: tuple[str, ...]) -> Queue:
    """Return an edge service's queue for requests of the kinds that it answers."""
    return Queue(
        f"{service}.request",
        tuple(Binding(DOWN, f"node.{encode_word(node)}.request.{word}.#") for word in requests),
    )


def local_objects(service: str, resources: tuple[str, ...]) -> Queue:
    """Return an edge service's queue for changes of ``resources`` that meta has stored."""
    return Queue(
        f"{service}.objects",
        tuple(Binding(LOCAL, f"object.{encode_word(resource)}.#") for resource in resources),
    )


def local_key(resource: str, namespace: str, name: str) -> str:
    """Return the routing key by which meta tells its neighbours of a change."""
    return routing_key_of(("object", *map(encode_word, (resource, namespace, name))), kept=2)


def meta_overhears(node: NodeName, replica: str) -> Queue:
    """Return the queue in which meta hears what its neighbours say of objects; gone with it."""
    own = f"node.{encode_word(node)}"
    kept = (*(f"{own}.state.{encode_word(each)}.#" for each in _TOLD_OF), f"{own}.event.events.#")
    bindings = tuple(Binding(UP, key) for key in kept)
    return Queue(f"meta.overhears.{replica}", bindings, exclusive=True)


def up_arguments(message_class: MessageClass) -> dict[str, object]:
    """Return the arguments of that queue.

    When it is full, spans are refused, so that who made them counts what is lost.
    """
    if message_class is MessageClass.SPANS:
        return {"x-max-length-bytes": SPANS_MAX_BYTES, "x-overflow": "reject-publish"}
    return {"x-max-length-bytes": UP_MAX_BYTES}


def up_queue(message_class: MessageClass) -> str:
    """Return the name of the edge's queue from which a shovel takes one class up."""
    return f"up.{message_class}"
