"""What holds for one kind and not for all: defaults, and rules beyond its fields' types."""

from collections.abc import Mapping
from typing import Final

from fedge_apiserver.kinds._configuration import (
    CONFIG_MAP_RULES,
    SECRET_RULES,
    fold_plain_texts,
)
from fedge_apiserver.kinds._definitions import DEFINITION_RULES, resources_of
from fedge_apiserver.kinds._jobs import CRON_JOB_RULES, JOB_RULES, parse_indexes
from fedge_apiserver.kinds._metadata import check_metadata, check_metadata_update
from fedge_apiserver.kinds._pods import POD_RULES
from fedge_apiserver.kinds._policy import DISRUPTION_BUDGET_RULES
from fedge_apiserver.kinds._roles import BINDING_RULES, CLUSTER_ROLE_RULES, ROLE_RULES
from fedge_apiserver.kinds._rules import Rules
from fedge_apiserver.kinds._simple import (
    EVENT_RULES,
    LEASE_RULES,
    NAMESPACE_RULES,
    NODE_RULES,
    from_new_event,
    to_new_event,
)
from fedge_apiserver.kinds._workloads import (
    DAEMON_SET_RULES,
    DEPLOYMENT_RULES,
    REPLICA_SET_RULES,
    STATEFUL_SET_RULES,
)

RULES: Final[Mapping[str, Rules]] = {
    "clusterrolebindings.rbac.authorization.k8s.io": BINDING_RULES,
    "clusterroles.rbac.authorization.k8s.io": CLUSTER_ROLE_RULES,
    "configmaps": CONFIG_MAP_RULES,
    "cronjobs.batch": CRON_JOB_RULES,
    "customresourcedefinitions.apiextensions.k8s.io": DEFINITION_RULES,
    "daemonsets.apps": DAEMON_SET_RULES,
    "deployments.apps": DEPLOYMENT_RULES,
    "events": EVENT_RULES,
    "jobs.batch": JOB_RULES,
    "leases.coordination.k8s.io": LEASE_RULES,
    "namespaces": NAMESPACE_RULES,
    "nodes": NODE_RULES,
    "poddisruptionbudgets.policy": DISRUPTION_BUDGET_RULES,
    "pods": POD_RULES,
    "replicasets.apps": REPLICA_SET_RULES,
    "rolebindings.rbac.authorization.k8s.io": BINDING_RULES,
    "roles.rbac.authorization.k8s.io": ROLE_RULES,
    "secrets": SECRET_RULES,
    "statefulsets.apps": STATEFUL_SET_RULES,
}
"""The rules of each kind that has some, by storage name."""

NO_RULES: Final = Rules()

__all__ = [
    "NO_RULES",
    "RULES",
    "Rules",
    "check_metadata",
    "check_metadata_update",
    "fold_plain_texts",
    "from_new_event",
    "parse_indexes",
    "resources_of",
    "to_new_event",
]
