"""Fills cluster roles that gather the rules of others.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles
"""

from fedge_apiserver.controllers._following import follow
from fedge_apiserver.errors import ApiError
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import CLUSTER_ROLES
from fedge_apiserver.selectors import matches_labels
from fedge_objects import JsonObject


class RoleAggregation:
    """Follows the cluster roles."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def run(self) -> None:
        """Work until cancelled."""
        async for _ in follow(self._registry, CLUSTER_ROLES):
            # What one gathers another may gather again: each write brings the next round.
            await self._gather()

    async def _gather(self) -> None:
        roles = list(self._registry.objects(CLUSTER_ROLES))
        for role in roles:
            selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
            if not selectors:
                continue
            rules: list[JsonObject] = []
            for other in roles:
                labels = other["metadata"].get("labels") or {}
                if other is not role and any(matches_labels(each, labels) for each in selectors):
                    rules += [rule for rule in other.get("rules") or () if rule not in rules]
            if rules != (role.get("rules") or []):
                await self._write(role["metadata"]["name"], rules)

    async def _write(self, name: str, rules: list[JsonObject]) -> None:
        try:
            await self._registry.update(
                CLUSTER_ROLES, "", name, lambda old: {**old, "rules": rules}
            )
        except ApiError as exc:
            if exc.reason != "NotFound":
                raise
