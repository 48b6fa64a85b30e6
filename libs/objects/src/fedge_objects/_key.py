"""How an object is named across services: resource, namespace and name."""

import re
from dataclasses import dataclass
from typing import NewType, Self

NodeName = NewType("NodeName", str)
"""The name of a Kubernetes Node, e.g. ``gw-1.plant.example``."""


_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,252}")
"""What the Kubernetes API takes as a name, of any kind, and no path that leads elsewhere."""


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
            InvalidKeyError: ``text`` has not the three parts, or one of them is no name.
        """
        parts = text.split("/", 2)
        if len(parts) != 3:  # noqa: PLR2004 - resource, namespace, name
            raise InvalidKeyError(_no_key(text))
        resource, namespace, name = parts
        names = (resource, name) if namespace == "-" else (resource, namespace, name)
        if not all(map(_PART.fullmatch, names)):
            raise InvalidKeyError(_no_key(text))
        return cls(resource, "" if namespace == "-" else namespace, name)


def _no_key(text: str) -> str:
    return f"{text[:300]!r} is no object key: expected resource/namespace/name"
