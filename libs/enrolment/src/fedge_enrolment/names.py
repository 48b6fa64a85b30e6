"""What certificates call the parties.

Servers are known by names of their own that no DNS has: whichever address a gateway dials, it is
the service that is verified and not the address, and an address that changes breaks nothing.
"""

import hashlib
import re
from typing import Final

from fedge_objects import NodeName

HUB: Final = "hub.fedge.internal"
BROKER: Final = "broker.fedge.internal"
"""Top-level domain ``internal`` is reserved for such names (ICANN resolution 2024.07.29.06)."""

ENROLMENT_PORT: Final = 8443
BROKER_PORT: Final = 5671

_NODE: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NAME: Final = 253
_KEPT: Final = 160
"""A user's name has to fit into AMQP's short strings of 255 bytes."""
_USER_PREFIX: Final = "urn:fedge:node:"


def is_node_name(text: str) -> bool:
    """Whether ``text`` can name a Kubernetes Node (RFC 1123 subdomain, at most 253)."""
    return len(text) <= _MAX_NAME and _NODE.fullmatch(text) is not None


def user_of(node: NodeName, identity: str) -> str:
    """Return the broker's user of a node, which is what its certificate says who it is.

    Args:
        node: the node.
        identity: of this life of the node. A gateway that joins anew has another one: the keys of
            its former life, wherever they are, log in nowhere.
    """
    name: str = node
    if len(name) > _KEPT:
        name = f"{name[:_KEPT]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return f"{_USER_PREFIX}{name}:{identity}"


def user_of_service(service: str) -> str:
    """Return the broker's user of a service of the cloud that logs in with a certificate."""
    return f"urn:fedge:service:{service}"


def is_user_of_a_node(user: str) -> bool:
    """Whether a broker's user is one that hub made for a node."""
    return user.startswith(_USER_PREFIX)
