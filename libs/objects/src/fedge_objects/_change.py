"""One object as a node should have it."""

from dataclasses import dataclass
from typing import Any

from fedge_objects._key import ObjectKey
from fedge_objects._version import Version

JsonObject = dict[str, Any]
"""A Kubernetes object as its JSON says, decoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An object in one version, or the proof that it is gone.

    Attributes:
        key: which object.
        version: newest wins; repeats are harmless.
        object: the whole object as the Kubernetes API gave it; None is a tombstone. Absence alone
            never deletes anything: only a tombstone does.
        traceparent: W3C trace context of what caused the change, or empty.
        since: when that came here, in seconds since the epoch; 0 if nobody knows.
    """

    key: ObjectKey
    version: Version
    object: JsonObject | None
    traceparent: str = ""
    since: float = 0.0

    @property
    def is_gone(self) -> bool:
        """Whether this is a tombstone."""
        return self.object is None

    @property
    def trace(self) -> str:
        """The trace context and its time as one text, for a store; see ``split_trace``."""
        if not self.traceparent:
            return ""
        return f"{self.traceparent} {self.since:.6f}" if self.since else self.traceparent


def split_trace(text: str) -> tuple[str, float]:
    """Return the trace context of a stored text, and since when it is here, or 0."""
    traceparent, _, since = text.partition(" ")
    try:
        return traceparent, float(since or 0)
    except ValueError:
        return traceparent, 0.0
