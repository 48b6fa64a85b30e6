"""How an object is named across services: resource, namespace and name."""

from dataclasses import dataclass
from typing import NewType, Self

NodeName = NewType("NodeName", str)
"""The name of a Kubernetes Node, e.g. ``gw-1.plant.example``."""


class InvalidKeyError(ValueError):
    """A text that does not name an object."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """One Kubernetes object, whatever its version.

    Attributes:
        resource: plural and, outside the core group, group: ``pods``,
            ``devices.devices.kubeedge.io`` (Kubernetes' GroupResource).
        namespace: empty for a cluster-scoped object.
        name: the object's name.
    """

    resource: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """Return ``resource/namespace/name``, with ``-`` for no namespace."""
        return f"{self.resource}/{self.namespace or '-'}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str()`` wrote.

        Raises:
            InvalidKeyError: ``text`` has not the three parts.
        """
        parts = text.split("/", 2)
        if len(parts) != 3 or not all(parts):  # noqa: PLR2004 - resource, namespace, name
            raise InvalidKeyError(f"{text!r} is no object key: expected resource/namespace/name")
        resource, namespace, name = parts
        return cls(resource, "" if namespace == "-" else namespace, name)
