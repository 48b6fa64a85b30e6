"""The version of an object as a node should have it.

A node is given an object for two reasons that change apart from each other: the object itself
changes, and it starts or stops to concern the node (a pod that needs it is bound or goes).
A version holds the cluster's revision for both, so that the newest decision wins wherever messages
are repeated or overtake each other, and nothing but the cluster itself counts versions: no counter
of ours can be lost.
"""

import re
from typing import NamedTuple, Self

_VERSION = re.compile(r"(\d{1,18})\.(\d{1,18})", re.ASCII)
"""Revisions of etcd have 63 bits, which is what SQLite and others can keep as well."""


class Version(NamedTuple):
    """Two cluster revisions (``resourceVersion`` as a number), compared in this order.

    Attributes:
        decided: the revision of the object (a pod, a device) by which this one was found to concern
            the node, or no longer to concern it. An object that names its node itself has its own.
        revision: the object's own revision.
    """

    decided: int
    revision: int

    def __str__(self) -> str:
        """Return ``decided.revision``."""
        return f"{self.decided}.{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str()`` wrote.

        Raises:
            ValueError: ``text`` is not two numbers of at most 18 digits joined by a dot.
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text[:64]!r} is no version: expected two numbers of at most 18 digits joined by"
                " a dot"
            )
        return cls(int(match[1]), int(match[2]))
