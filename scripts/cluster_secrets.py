"""Print the Secrets that ``deploy/k8s/overlays/prod`` needs, with passwords made on the spot.

Usage::

    python scripts/cluster_secrets.py | kubectl apply -f -

Nodes need none: they join by token and log in with certificates. Running it again makes new
passwords.
"""

import json
import secrets
from typing import Any

import yaml

from fedge_enrolment.authority import SERVICES
from fedge_enrolment.names import user_of_service
from fedge_fabric.definitions import User, cloud_definitions

NAMESPACE = "fedge-system"
MANAGEMENT = "fedge-rabbitmq-management:15672"
REDIS = "fedge-redis:6379"
REDIS_CONF = """save ""
appendonly no
maxmemory 400mb
maxmemory-policy noeviction
requirepass {password}
"""


def cluster_secrets() -> list[dict[str, Any]]:
    """Return the Secret objects for a cluster."""
    admin = User(name="fedge", password=secrets.token_urlsafe(24))
    redis_password = secrets.token_urlsafe(24)
    definitions = cloud_definitions(
        admin=admin,
        nodes={},
        admin_tags="administrator",
        services=[user_of_service(name) for name in SERVICES],
    )
    return [
        _secret(
            "fedge-broker",
            {
                "management-url": f"http://{admin.name}:{admin.password}@{MANAGEMENT}",
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
    ]


def _secret(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": data,
    }


if __name__ == "__main__":
    print(yaml.safe_dump_all(cluster_secrets(), sort_keys=False), end="")
