"""Which replicas of a service there are, and whose a node is.

Pure: words of replicas in, owners out. Whoever knows of the same replicas comes to the same owners,
and when one comes or goes, only nodes that it gains or loses change hands (rendezvous hashing:
https://en.wikipedia.org/wiki/Rendezvous_hashing).
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass


def owner_of(key: str, replicas: Collection[str]) -> str:
    """Return which of ``replicas`` a key belongs to; empty if there are none."""
    return max(replicas, key=lambda each: (_weight(each, key), each), default="")


def _weight(replica: str, key: str) -> bytes:
    return hashlib.blake2b(f"{replica}/{key}".encode(), digest_size=8).digest()


@dataclass(slots=True)
class _Other:
    is_live: bool
    heard: float


class Members:
    """The replicas of a service as one of them, ``me``, knows them.

    Each replica hears its own words as well, by the same queue as those of others. Others are
    judged by these: a replica that was stopped itself, or is slow to read, takes nobody for gone
    whose words lie unread.

    Attributes:
        me: this one.
        is_live: whether this one is ready to own nodes.
    """

    def __init__(self, me: str) -> None:
        self.me = me
        self.is_live = False
        self._others: dict[str, _Other] = {}
        self._ever: set[str] = set()
        self._heard_self = 0.0

    @property
    def others(self) -> frozenset[str]:
        """The other replicas that are there."""
        return frozenset(self._others)

    @property
    def was_alone(self) -> bool:
        """Whether no other replica was ever heard."""
        return not self._ever

    @property
    def owners(self) -> tuple[str, ...]:
        """Those among whom nodes are shared out: all that are live, or all if none is yet."""
        live = {name for name, each in self._others.items() if each.is_live}
        if self.is_live:
            live.add(self.me)
        return tuple(sorted(live or {self.me, *self._others}))

    def knew(self, replica: str) -> bool:
        """Whether a replica was heard before, now or at any time."""
        return replica in self._ever

    def heard(self, replica: str, *, is_live: bool, now: float) -> bool:
        """Take a replica's word that it is there; return whether it was not thought to be.

        Args:
            replica: who says so; its own word says how far this one has heard the others.
            is_live: whether it is ready to own nodes.
            now: when that was heard, in seconds of any clock that only goes forward.
        """
        if replica == self.me:
            self._heard_self = now
            return False
        if not self._others:
            self._heard_self = now  # while there was nobody else, nothing was said
        is_new = replica not in self._others
        self._others[replica] = _Other(is_live, now)
        self._ever.add(replica)
        return is_new

    def drop(self, replica: str) -> None:
        """Take that a replica is gone."""
        self._others.pop(replica, None)

    def silent(self, seconds: float) -> list[str]:
        """Return the others that were not heard for so long, by what of them could be heard."""
        until = self._heard_self - seconds
        return sorted(name for name, each in self._others.items() if each.heard < until)

    def is_heard(self, now: float, seconds: float) -> bool:
        """Whether this one's own word came back within so long: then others hear it too."""
        return not self._others or now - self._heard_self <= seconds
