"""Definitions that a broker loads at boot: users, rights, exchanges, queues, links.

A broker that loads them comes up configured, with no call to its API. The format is RabbitMQ's
(https://www.rabbitmq.com/docs/definitions). Rights of a link user follow what a federation link
and a shovel do upstream, and no more (https://www.rabbitmq.com/docs/access-control): its own link
queue with the internal exchanges beside it, binding and publishing only under its own routing keys.
"""

import base64
import hashlib
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fedge_fabric import topology
from fedge_fabric.addresses import MessageClass, encode_word
from fedge_objects import NodeName

LINK_PREFETCH = 100
LINK_HEARTBEAT_SECONDS = 5
LINK_CONNECT_SECONDS = 4
LINK_RECONNECT_SECONDS = 1
LINK_RECONNECT_SPREAD = 3
"""Links dial again after 1 to 3 s, each node and link after another time, so that those of a whole
fleet do not come at once when the cloud is back."""
LINK_MAX_CONNECTIONS = 16
"""Of one node: five links, and those of before that the broker still takes for alive."""
LINK_MAX_CHANNELS = 48
LINK_CHAIN_DEPTH = 4
_VHOST = "/"
_MQTT_EXCHANGE = "amq.topic"
ANONYMOUS = "anonymous-device"
"""For whom a node's broker takes a device that names no user, where that is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Someone who may log in to a broker. The password is never printed."""

    name: str
    password: str

    def __repr__(self) -> str:
        """Return the name only."""
        return f"User({self.name!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """By what an edge's broker shows the cloud's who it is (AMQPS, mechanism EXTERNAL).

    Attributes:
        certificate: file of its certificate, PEM.
        key: file of its key, PEM.
        authorities: file of those that it trusts, PEM.
        server_name: of the cloud's broker, in its certificate.
    """

    certificate: Path
    key: Path
    authorities: Path
    server_name: str


def cloud_definitions(
    *,
    admin: User,
    nodes: Mapping[NodeName, User],
    admin_tags: str = "",
    services: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the definitions of the cloud's broker.

    Args:
        admin: the user of hub, controller and device.
        nodes: the link user of each node that is known in advance.
        admin_tags: ``administrator`` where hub makes the nodes' users by the management API.
        services: users that log in with certificates only and may do the same.
    """
    users = [_user(admin) | {"tags": admin_tags}, *map(_user_without_password, services)]
    permissions = [_permission(user, ".*", ".*", ".*") for user in (admin.name, *services)]
    topic_permissions: list[dict[str, str]] = []
    for node, user in nodes.items():
        users.append(_user(user))
        permissions.append(_link_permission(node, user.name))
        topic_permissions.extend(_link_topic_permissions(node, user.name))
    return {
        "users": users,
        "vhosts": [{"name": _VHOST}],
        "permissions": permissions,
        "topic_permissions": topic_permissions,
        "exchanges": [_exchange(name) for name in topology.CLOUD_EXCHANGES],
        "queues": [
            _dead_queue(),
            _queue(topology.HUB_WANTED.name),
            *(_queue(queue.name, queue.arguments) for queue in map(topology.hub_up, MessageClass)),
        ],
        "bindings": [
            _binding(topology.DEAD, topology.DEAD, "#"),
            *(
                _binding(b.exchange, topology.HUB_WANTED.name, b.routing_key)
                for b in topology.HUB_WANTED.bindings
            ),
            *(
                _binding(b.exchange, topology.hub_up(each).name, b.routing_key)
                for each in MessageClass
                for b in topology.hub_up(each).bindings
            ),
        ],
    }


def node_definitions(users: Mapping[str, NodeName]) -> dict[str, list[dict[str, Any]]]:
    """Return the definitions by which nodes may log in with their certificates, and their rights.

    Such a user has no password, so nobody logs in with one.

    Args:
        users: name of each user, and which node it is.
    """
    return {
        "users": [
            _user_without_password(user)
            | {
                "limits": {
                    "max-connections": LINK_MAX_CONNECTIONS,
                    "max-channels": LINK_MAX_CHANNELS,
                }
            }
            for user in users
        ],
        "permissions": [_link_permission(node, user) for user, node in users.items()],
        "topic_permissions": [
            each for user, node in users.items() for each in _link_topic_permissions(node, user)
        ],
    }


def edge_definitions(
    *, node: NodeName, admin: User, link: User | Certificate, cloud: str
) -> dict[str, Any]:
    """Return the definitions of a node's broker: its queues, federation down and shovels up.

    Args:
        node: the node; its broker's cluster name must be the same.
        admin: the user of meta, edged and twin.
        link: as whom it logs in at the cloud's broker.
        cloud: the cloud's broker as ``host:port``.
    """
    uri = _link_uri(link, cloud)
    upstream = upstream_name(node)
    state = topology.meta_state(node)
    return {
        "users": [_user(admin)],
        "vhosts": [{"name": _VHOST}],
        "permissions": [_permission(admin.name, ".*", ".*", ".*")],
        "global_parameters": [{"name": "cluster_name", "value": node}],
        "exchanges": [_exchange(name) for name in topology.EDGE_EXCHANGES],
        "queues": [
            _dead_queue(),
            _queue(state.name),
            *(
                _queue(
                    topology.up_queue(each),
                    topology.up_arguments(each),
                )
                for each in MessageClass
            ),
        ],
        "bindings": [
            _binding(topology.DEAD, topology.DEAD, "#"),
            *(_binding(b.exchange, state.name, b.routing_key) for b in state.bindings),
            *(
                _binding(topology.UP, topology.up_queue(each), f"node.{encode_word(node)}.{each}.#")
                for each in MessageClass
            ),
        ],
        "parameters": [
            {
                "vhost": _VHOST,
                "component": "federation-upstream",
                "name": upstream,
                "value": {
                    "uri": uri,
                    "ack-mode": "on-confirm",
                    "prefetch-count": LINK_PREFETCH,
                    "reconnect-delay": _reconnect_seconds(node, upstream),
                    # without it a clean stop of this broker deletes the node's queue in the cloud
                    "resource-cleanup-mode": "never",
                    "trust-user-id": False,
                },
            },
            *(_shovel(node, each, uri) for each in MessageClass),
        ],
        "policies": [
            {
                "vhost": _VHOST,
                "name": "fedge-down",
                "pattern": f"^{re.escape(topology.DOWN)}$",
                "apply-to": "exchanges",
                "definition": {"federation-upstream": upstream},
                "priority": 10,
            }
        ],
    }


def with_anonymous_devices(definitions: Mapping[str, Any], user: User) -> dict[str, Any]:
    """Return the definitions of a node's broker that lets in devices without a password.

    They may publish and hear every device's topics, and nothing else. Sessions whose client ids
    begin with ``fedge-``, or have a ``/`` as those of accounts have, are not theirs.

    Args:
        definitions: of the broker.
        user: whom it takes them for.
    """
    queue = r"mqtt-subscription-(?!fedge-)[^/]*qos[01]"
    both = rf"^({re.escape(_MQTT_EXCHANGE)}|{queue})\z"
    topics = r"^\$hw\.events\.device\..*\z"
    permission = _permission(user.name, rf"^{queue}\z", both, both)
    topic_permission = _topic_permission(user.name, _MQTT_EXCHANGE, write=topics, read=topics)
    return {
        **definitions,
        "users": [*definitions["users"], _user(user)],
        "permissions": [*definitions["permissions"], permission],
        "topic_permissions": [*definitions.get("topic_permissions", ()), topic_permission],
    }


def link_queue(node: NodeName) -> str:
    """Return the name of the cloud's queue that holds what waits for ``node``."""
    return f"federation: {topology.DOWN} -> {node}"


def upstream_name(node: NodeName) -> str:
    """Return the name of a node's federation upstream, which is the cloud."""
    return f"cloud-{encode_word(node)}"


def _link_uri(link: User | Certificate, cloud: str) -> str:
    """Return the address for links (https://www.rabbitmq.com/docs/uri-query-parameters)."""
    times = {
        "heartbeat": LINK_HEARTBEAT_SECONDS,
        "connection_timeout": LINK_CONNECT_SECONDS * 1000,
    }
    if isinstance(link, User):
        account = f"{quote(link.name, safe='')}:{quote(link.password, safe='')}"
        return f"amqp://{account}@{cloud}/%2f?{urlencode(times)}"
    tls = {
        "auth_mechanism": "external",
        "cacertfile": link.authorities,
        "certfile": link.certificate,
        "keyfile": link.key,
        "verify": "verify_peer",
        "server_name_indication": link.server_name,
        "depth": LINK_CHAIN_DEPTH,
    }
    return f"amqps://{cloud}/%2f?{urlencode(tls | times, quote_via=quote, safe='/')}"


def _reconnect_seconds(node: NodeName, link: str) -> int:
    spread = zlib.crc32(f"{node}/{link}".encode()) % LINK_RECONNECT_SPREAD
    return LINK_RECONNECT_SECONDS + spread


def _shovel(node: NodeName, message_class: MessageClass, uri: str) -> dict[str, Any]:
    name = topology.up_queue(message_class)
    return {
        "vhost": _VHOST,
        "component": "shovel",
        "name": name,
        "value": {
            "src-protocol": "amqp091",
            "src-uri": "amqp://",
            "src-queue": name,
            "src-prefetch-count": LINK_PREFETCH,
            "dest-protocol": "amqp091",
            "dest-uri": uri,
            "dest-exchange": topology.UP,
            "ack-mode": "on-confirm",
            "reconnect-delay": _reconnect_seconds(node, name),
        },
    }


def _link_permission(node: NodeName, user: str) -> dict[str, str]:
    queue = re.escape(link_queue(node))
    down, up = re.escape(topology.DOWN), re.escape(topology.UP)
    own = f"{queue}( [AB])?"
    # not $, before which a line may end
    return _permission(user, rf"^{own}\z", rf"^({own}|{up})\z", rf"^({down}|{own})\z")


def _link_topic_permissions(node: NodeName, user: str) -> list[dict[str, str]]:
    own = rf"^node\.{re.escape(encode_word(node))}(\..*)?\z"
    nothing = r"^\z"
    return [
        _topic_permission(user, topology.DOWN, write=nothing, read=own),
        _topic_permission(user, topology.UP, write=own, read=nothing),
    ]


def _user(user: User) -> dict[str, Any]:
    """Return a user with a salted hash (https://www.rabbitmq.com/docs/passwords)."""
    salt = os.urandom(4)
    digest = hashlib.sha256(salt + user.password.encode()).digest()
    return {
        "name": user.name,
        "password_hash": base64.b64encode(salt + digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
        "limits": {},
    }


def _user_without_password(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "password_hash": "",
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
        "limits": {},
    }


def _permission(user: str, configure: str, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": _VHOST, "configure": configure, "write": write, "read": read}


def _topic_permission(user: str, exchange: str, *, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": _VHOST, "exchange": exchange, "write": write, "read": read}


def _exchange(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": _VHOST,
        "type": "topic",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }


def _queue(name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": _VHOST,
        "durable": True,
        "auto_delete": False,
        "arguments": dict(arguments or {}),
    }


def _dead_queue() -> dict[str, Any]:
    return _queue(topology.DEAD, {"x-max-length-bytes": topology.DEAD_MAX_BYTES})


def _binding(source: str, queue: str, routing_key: str) -> dict[str, Any]:
    return {
        "source": source,
        "vhost": _VHOST,
        "destination": queue,
        "destination_type": "queue",
        "routing_key": routing_key,
        "arguments": {},
    }
