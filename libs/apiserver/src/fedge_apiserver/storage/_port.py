"""What the server asks of a place that keeps objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class StorageError(Exception):
    """The storage could not do its work; nothing of what was asked has happened."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One write of one object.

    Attributes:
        revision: the position in the one order of all writes; an object's resourceVersion.
        resource: plural and group, e.g. ``pods``, ``leases.coordination.k8s.io``.
        namespace: empty for a cluster-scoped object.
        name: the object's name.
        created: revision of the write that made the object; equal to ``revision`` for that one.
        previous: revision of the object's write before this one; 0 if this one made it.
        deleted: the object is gone; ``body`` is its last state.
        body: the object as JSON.
    """

    revision: int
    resource: str
    namespace: str
    name: str
    created: int
    previous: int
    deleted: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """What a storage holds when it is opened.

    Attributes:
        entries: in the order of their revisions.
        revision: the newest ever given out; 0 for a new storage.
        compacted: entries up to this one may be missing, unless they are an object's newest.
    """

    entries: Sequence[Entry]
    revision: int
    compacted: int


class Storage(Protocol):
    """A durable log of entries. Used by one owner, one call at a time."""

    async def open(self) -> Log:
        """Open and return what is there.

        Raises:
            StorageError: it cannot be read.
        """

    async def append(self, entries: Sequence[Entry], forget: Sequence[int], compacted: int) -> None:
        """Add entries and drop those with the revisions in ``forget``, all or nothing.

        On return the entries outlive a power cut.

        Raises:
            StorageError: nothing was changed.
        """

    async def close(self) -> None:
        """Release what ``open`` took. Safe to call more than once."""
