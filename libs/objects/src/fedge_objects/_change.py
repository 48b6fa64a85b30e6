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
    """

    key: ObjectKey
    version: Version
    object: JsonObject | None
    traceparent: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether this is a tombstone."""
        return self.object is None
