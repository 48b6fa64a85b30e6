"""What hub's domain needs from outside."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fedge_fabric import Envelope, UnavailableError
from fedge_fabric.streams import Ledger
from fedge_objects import Change, NodeName, ObjectKey, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Of one object: what the node should have, and what it was last sent and has stored.

    Attributes:
        version: the newest.
        since: the oldest version with the same content: a node that has it, or any later one, has
            nothing to learn.
        gone: whether it is a tombstone.
        sent: what left for the node last.
        stored: what the node has on disk.
        applied: what the node said last of its effect.
    """

    version: Version
    since: Version
    gone: bool
    sent: Version | None = None
    stored: Version | None = None
    applied: "Applied | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of a version on the node.

    Attributes:
        version: which.
        failed: whether it is not in effect, and will not be as things are.
        reason: why.
    """

    version: Version
    failed: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """When a node was last heard, in hub's time.

    Attributes:
        at: seconds since the epoch.
        interval_seconds: how often it means to be heard.
        backlog: messages that waited at the node to go up, by class; None if it did not say.
        settled: whether it is known what the node has (see ``mark_settled``).
        asked_at: when the node was asked what it has, in hub's time, if that is not known yet.
    """

    at: float
    interval_seconds: float
    backlog: Mapping[str, int] | None = None
    settled: bool = False
    asked_at: float | None = None


class WantedStore(Protocol):
    """What each node should have. Each method is atomic; several hubs may call at once.

    Any of them raises ``fedge_fabric.UnavailableError`` when the store is away.
    """

    async def want(self, node: NodeName, change: Change) -> None:
        """Keep ``change`` if it is newer than what is kept.

        One with the same content raises the version and leaves ``since``: the node has nothing to
        learn from it.
        """
        ...

    async def unsent(
        self, node: NodeName, keys: Collection[ObjectKey] | None = None
    ) -> list[Change]:
        """Return what the node should have and was not sent, of ``keys`` or of everything."""
        ...

    async def mark_sent(self, node: NodeName, change: Change) -> None:
        """Note that this version left for the node; an older note never replaces a newer."""
        ...

    async def mark_stored(self, node: NodeName, key: ObjectKey, version: Version) -> None:
        """Note that the node has this version on disk."""
        ...

    async def stored(self, node: NodeName) -> Mapping[ObjectKey, Version]:
        """Return all that the node has on disk, as far as it said, wanted or not."""
        ...

    async def replace_stored(
        self, node: NodeName, has: Mapping[ObjectKey, Version], lost: Collection[ObjectKey]
    ) -> None:
        """Note exactly these versions as being on the node's disk, and ``lost`` as not there."""
        ...

    async def mark_applied(self, node: NodeName, applied: Mapping[ObjectKey, Applied]) -> None:
        """Note what the node said of the effect of objects; the last word counts."""
        ...

    async def forget_sent(self, node: NodeName, keys: Collection[ObjectKey]) -> None:
        """Have ``keys`` count as not sent."""
        ...

    async def wanted(
        self, node: NodeName, keys: Collection[ObjectKey] | None = None
    ) -> Mapping[ObjectKey, Wanted]:
        """Return what is kept for ``node``, of ``keys`` or everything."""
        ...

    async def mark_listed(self, node: NodeName, resource: str, version: Version) -> None:
        """Note that everything of ``resource`` up to ``version`` has been told for ``node``."""
        ...

    async def listed(self, node: NodeName) -> Mapping[str, Version]:
        """Return the newest complete list per resource."""
        ...

    async def mark_seen(self, node: NodeName, sighting: Sighting) -> None:
        """Note that the node was heard; ``settled`` and ``asked_at`` stay as they were."""
        ...

    async def mark_asked(self, node: NodeName, at: float) -> None:
        """Note that the node is being asked what it has, which is not known until it is settled."""
        ...

    async def mark_settled(self, node: NodeName) -> None:
        """Note that what the node has was compared with what it should have."""
        ...

    async def last_seen(self, node: NodeName) -> Sighting | None:
        """Return when the node was last heard."""
        ...

    async def first_seen(self, node: NodeName) -> float | None:
        """Return when the node was first marked as seen, as far as this store remembers."""
        ...

    async def ledgers(self, node: NodeName) -> Mapping[str, Ledger]:
        """Return what came of each stream of events of the node."""
        ...

    async def keep_ledgers(
        self, node: NodeName, ledgers: Mapping[str, Ledger], dropped: Collection[str] = ()
    ) -> None:
        """Keep these ledgers, and drop those of other streams."""
        ...


class NoSealingKeyError(Exception):
    """A node has no key to which a Secret could be sealed; the message says what to do."""


class SealingKeys(Protocol):
    """The nodes' keys."""

    async def sealing_key(self, node: NodeName) -> bytes:
        """Return the public key of a node; empty: it has none. Raises ``UnavailableError``."""
        ...


class Downlink(Protocol):
    """The way to the nodes."""

    async def send(self, node: NodeName, change: Change) -> None:
        """Send an object; returns when the broker has it.

        Raises:
            UnroutableError: the node has never linked.
            UnavailableError: the broker is away.
            NoSealingKeyError: only the node may read the object, and it has no key.
        """
        ...

    async def ask_digest(self, node: NodeName, prefixes: Collection[str]) -> None:
        """Ask the node what it has in these branches (``fedge_objects.VersionTree``).

        None at all: it is told that nothing differs. Raises like ``send``.
        """
        ...

    async def ask_statuses(self, node: NodeName) -> None:
        """Ask the node for all statuses anew. Raises like ``send``."""
        ...

    async def say_heard(self, node: NodeName, heartbeat_id: str) -> None:
        """Tell the node that this heartbeat was heard. Raises like ``send``."""
        ...

    async def waiting(self, node: NodeName) -> int | None:
        """Return how many messages wait in the broker for the node; None if it never linked.

        Raises:
            UnavailableError: the broker is away.
        """
        ...


class CloudLink(Protocol):
    """The way to controller and device, and back in their stead."""

    async def pass_on(self, routing_key: str, envelope: Envelope) -> None:
        """Hand on what a node reported. Raises ``UnavailableError``."""
        ...

    async def refuse_write(
        self, node: NodeName, write_id: str, code: int, reason: str, message: str
    ) -> None:
        """Answer a node that a write goes no further. Raises ``UnavailableError``."""
        ...

    async def ask_resync(self, node: NodeName) -> None:
        """Have everything told again that ``node`` should have. Raises ``UnavailableError``."""
        ...


class NodeAwayError(UnavailableError):
    """The node cannot be asked: the message says since when, and what can be done."""


class RequestLink(Protocol):
    """Questions to a node."""

    def ask(
        self,
        node: NodeName,
        kind: str,
        data: Mapping[str, object],
        *,
        deadline_seconds: float,
        goes_on: bool = False,
        inputs: AsyncIterator[bytes] | None = None,
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield the pieces of the answer.

        A request with an effect is not begun before a piece with ``ready`` was yielded and the next
        one is asked for: the node hears then that it is still waited for.

        Args:
            node: who is asked.
            kind: of the question.
            data: the question.
            deadline_seconds: how long to wait for each piece; the node hears of it.
            goes_on: whether the node goes on answering until nobody reads any more.
            inputs: what is given to the node meanwhile.

        Raises:
            UnroutableError: the node has never linked.
            UnavailableError: the way to the node, or the node, is away.
            TimeoutError: no piece came in time.
        """
        ...


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        ...
