"""Print the Secrets that ``deploy/k8s/overlays/prod`` needs, with passwords made on the spot.

Usage::

    python scripts/cluster_secrets.py edge-1 gw-1.plant.example | kubectl apply -f -

Each node gets a user of the broker, bound to its own addresses, kept in the Secret
``fedge-link-<node>`` for whoever sets the gateway up. Running it again makes new passwords.
"""

import json
import secrets
import sys
from typing import Any

import yaml

from fedge_fabric.definitions import User, cloud_definitions
from fedge_objects import NodeName

NAMESPACE = "fedge-system"
BROKER = "fedge-rabbitmq:5672"
REDIS = "fedge-redis:6379"
REDIS_CONF = """save ""
appendonly no
maxmemory 400mb
maxmemory-policy noeviction
requirepass {password}
"""


def cluster_secrets(nodes: list[str]) -> list[dict[str, Any]]:
    """Return the Secret objects for a cluster with these nodes."""
    admin = User(name="fedge", password=secrets.token_urlsafe(24))
    links = {
        NodeName(node): User(name=f"node-{node}", password=secrets.token_urlsafe(24))
        for node in nodes
    }
    redis_password = secrets.token_urlsafe(24)
    definitions = cloud_definitions(admin=admin, nodes=links)
    return [
        _secret(
            "fedge-broker",
            {
                "amqp-url": f"amqp://{admin.name}:{admin.password}@{BROKER}/",
                "definitions.json": json.dumps(definitions, indent=2),
            },
        ),
        _secret(
            "fedge-redis",
            {
                "url": f"redis://:{redis_password}@{REDIS}/0",
                "redis.conf": REDIS_CONF.format(password=redis_password),
            },
        ),
        *(
            _secret(f"fedge-link-{node}", {"user": link.name, "password": link.password})
            for node, link in links.items()
        ),
    ]


def _secret(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": data,
    }


if __name__ == "__main__":
    print(yaml.safe_dump_all(cluster_secrets(sys.argv[1:]), sort_keys=False), end="")
