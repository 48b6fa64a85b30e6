"""Keeping what the node is given, and saying so.

An object, the word to hub that it is stored and the word to the neighbours that it changed are one
transaction. Neighbours are told which object changed; what it is now is read when the word goes
out, so that many changes of one object cost the disk no copies.
"""

from collections.abc import Callable, Collection

import structlog

from fedge_fabric import Address, Envelope, InvalidError, MessageClass, envelope_of, kinds
from fedge_fabric import topology as t
from fedge_fabric.effects import Effects
from fedge_objects import Change, NodeName, ObjectKey, VersionTree
from fedge_sealing import CONFIDENTIAL, NodeSeal, SealError
from fedge_store import ObjectStore, Outgoing

OWN_KINDS = frozenset(
    {
        "namespaces",
        *(
            f"{each}.rbac.authorization.k8s.io"
            for each in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
        ),
    }
)
"""Resources that nobody but meta acts on: they are in effect once they are stored."""

log = structlog.stdlib.get_logger("fedge.meta")


class Keeping:
    """Meta's domain: one node's objects."""

    def __init__(
        self, *, node: NodeName, store: ObjectStore, seal: NodeSeal, effects: Effects
    ) -> None:
        self._effects = effects
        self._node = node
        self._store = store
        self._seal = seal
        self._source = f"/node/{node}/meta"
        self.observers: list[Callable[[Change], None]] = []
        """Called with what was stored, as it is stored; must not fail."""

    async def seal_what_lies_open(self) -> None:
        """Seal what was stored before, and forget what this node's key does not open."""
        sealed, forgotten = [], []
        for change in await self._store.objects(CONFIDENTIAL):
            try:
                now = self._seal.sealed(change)
            except SealError as exc:
                log.warning("sealed_object_forgotten", object=str(change.key), reason=str(exc))
                forgotten.append(change.key)
                continue
            if now is not change:
                sealed.append(now)
        if sealed or forgotten:
            await self._store.rewrite(sealed, forgotten)
            log.info("store_sealed", objects=len(sealed), forgotten=len(forgotten))

    async def keep(self, change: Change) -> None:
        """Store ``change`` unless it is known; then see that hub and neighbours learn of it.

        Raises:
            InvalidError: it is sealed to another key than this node's.
        """
        try:
            change = self._seal.sealed(change)
        except SealError as exc:
            raise InvalidError(str(exc)) from exc
        stored = self._stored(change)
        key = change.key
        told = Outgoing(
            exchange=t.LOCAL,
            routing_key=t.local_key(key.resource, key.namespace, key.name),
            envelope=Envelope(type=kinds.OBJECT_CHANGED, source=self._source, subject=str(key)),
        )
        if not await self._store.apply(change, [stored, told]):
            # a repeat: hub has not heard that it is stored, or would not have sent it
            await self._store.enqueue([stored])
            return
        if key.resource in OWN_KINDS:
            self._effects.applied(key, change.version)
        for observe in self.observers:
            observe(change)

    async def tell_effects(self) -> None:
        """Have it told of all that meta alone acts on that it is in effect."""
        for change in await self._store.objects(OWN_KINDS):
            self._effects.applied(change.key, change.version)
        self._effects.tell_again()

    async def digest(self, prefixes: Collection[str] | None = None) -> Outgoing:
        """Return the word to hub of what the node has, true at this moment.

        Args:
            prefixes: in which branches; None: the hash of the whole.
        """
        versions = {str(key): str(v) for key, v in (await self._store.versions()).items()}
        tree = VersionTree(versions)
        hashes: dict[str, str] = {}
        told: dict[str, dict[str, str]] = {}
        if prefixes is None:
            hashes[""] = tree.hash()
        for prefix in prefixes or ():
            if tree.is_small(prefix):
                told[prefix] = tree.versions(prefix)
            else:
                hashes |= tree.hashes(prefix)
        return Outgoing(
            exchange=t.UP,
            routing_key=str(Address(self._node, MessageClass.STATE, ("digest",))),
            envelope=Envelope(
                type=kinds.DIGEST_TAKEN,
                source=self._source,
                data={"hashes": hashes, "versions": told},
            ),
        )

    async def in_full(self, outgoing: Outgoing) -> Outgoing | None:
        """Return a message as it goes out now; None if there is nothing left to say."""
        if outgoing.envelope.type != kinds.OBJECT_CHANGED:
            return outgoing
        change = await self._store.get(ObjectKey.parse(outgoing.envelope.subject))
        if change is None:
            return None
        return Outgoing(
            exchange=outgoing.exchange,
            routing_key=outgoing.routing_key,
            envelope=envelope_of(change, source=self._source),
        )

    def _stored(self, change: Change) -> Outgoing:
        return Outgoing(
            exchange=t.UP,
            routing_key=str(Address.of_object(self._node, change.key)),
            envelope=Envelope(
                type=kinds.OBJECT_STORED,
                source=self._source,
                subject=str(change.key),
                version=change.version,
                traceparent=change.traceparent,
                since=change.since,
            ),
        )
