"""What edged's domain needs from outside."""

from typing import Any, Protocol

from fedge_edged.pods import Pod, ServiceAccountTokenSource
from fedge_objects import JsonObject, ObjectKey, Version


class Objects(Protocol):
    """The objects that this node was given."""

    def get(self, key: ObjectKey) -> JsonObject | None:
        """Return an object, or None if the node has none of that key."""
        ...


class Tokens(Protocol):
    """Gives tokens of service accounts, and renews them in time."""

    def token(self, pod: Pod, source: ServiceAccountTokenSource) -> str:
        """Return a token that is valid now.

        Raises:
            MountError: none is here yet, or none is to be had.
        """
        ...


class Reporter(Protocol):
    """Where statuses and events go. Never blocks and never fails: what cannot leave, waits."""

    def pod_status(self, pod: Pod, status: JsonObject, *, finished: bool) -> None:
        """Report a pod's whole status; newest wins."""
        ...

    def pod_effect(self, pod: Pod, status: JsonObject) -> None:
        """Report whether the version of a pod is in effect, as its status says."""
        ...

    def applied(self, key: ObjectKey, version: Version) -> None:
        """Report that a version of an object is in effect."""
        ...

    def failed(self, key: ObjectKey, version: Version, reason: str) -> None:
        """Report that a version of an object cannot be acted on."""
        ...

    def event(self, pod: Pod, kind: str, reason: str, message: str, *, field: str = "") -> None:
        """Record a Kubernetes event.

        Args:
            pod: what it is about.
            kind: ``Normal`` or ``Warning``.
            reason: as the kubelet names it, e.g. ``Started``.
            message: as the kubelet words it.
            field: part of the pod, e.g. ``spec.containers{main}``.
        """
        ...


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        ...


Status = dict[str, Any]
