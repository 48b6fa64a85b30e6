"""The key of a node, and what it keeps confidential by it."""

import dataclasses
from pathlib import Path
from typing import Final

import msgspec

from fedge_objects import Change
from fedge_sealing._keys import SealError, SealingKey, is_sealed, key_of, seal

CONFIDENTIAL: Final = frozenset({"secrets", "devicecredentials"})
"""Resources whose objects never lie readable on a node's disk or in a broker."""


class NodeSeal:
    """A node's own key, read when it is first needed."""

    def __init__(self, path: Path, *, joined: Path) -> None:
        """Prepare.

        Args:
            path: of the key's file. It may be handed in by the host.
            joined: a file that is there once the cloud knows the key; then no other is made.
        """
        self._path = path
        self._joined = joined
        self._loaded: SealingKey | None = None

    @property
    def key(self) -> SealingKey:
        """The key.

        Raises:
            SealError: it is not there; the message says what to do.
        """
        if self._loaded is None:
            if self._joined.exists() and not self._path.exists():
                raise SealError(
                    f"the sealing key {self._path} is missing, by which this node's Secrets are"
                    f" read: put it back, or move {self._joined.parent} away and join again"
                )
            self._loaded = SealingKey.load_or_make(self._path)
        return self._loaded

    def sealed(self, change: Change) -> Change:
        """Return a change as it may be stored: sealed to this key if it is confidential.

        Raises:
            SealError: it is sealed to another key, or there is no key.
        """
        if change.object is None or change.key.resource not in CONFIDENTIAL:
            return change
        if not is_sealed(change.object):
            return seal_change(change, self.key.public)
        if (other := key_of(change.object)) != self.key.id:
            raise SealError(
                f"{change.key} is sealed to key {other[:40]!r}, this node's is {self.key.id!r}"
            )
        return change

    def unsealed(self, change: Change) -> Change:
        """Return a change as it can be read.

        Raises:
            SealError: it is sealed to another key, damaged, or there is no key.
        """
        if change.key.resource not in CONFIDENTIAL or not is_sealed(change.object):
            return change
        content = self.key.unseal(change.object, str(change.key))
        try:
            obj = msgspec.json.decode(content)
        except msgspec.DecodeError as exc:
            raise SealError(f"{change.key} holds no object") from exc
        if not isinstance(obj, dict):
            raise SealError(f"{change.key} holds no object")
        return dataclasses.replace(change, object=obj)


def seal_change(change: Change, public: bytes) -> Change:
    """Return a change whose object only the owner of a key can read; raises `SealError`."""
    if change.object is None:
        return change
    content = msgspec.json.encode(change.object)
    sealed = seal(content, public, str(change.key))
    # still an object, of which whoever passes it on sees no more than its key says
    metadata = {"namespace": change.key.namespace, "name": change.key.name}
    return dataclasses.replace(change, object={"metadata": metadata, **sealed})
