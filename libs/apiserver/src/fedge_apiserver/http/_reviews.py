"""Questions about who somebody is and what they may do, answered by the rules that decide it.

https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/
"""

from typing import Any

from fedge_apiserver.access import Attributes, Authorizer, User
from fedge_apiserver.decoding import decode_object
from fedge_apiserver.errors import Causes, bad_request, invalid
from fedge_apiserver.http._messages import Request
from fedge_apiserver.objects import conform_to
from fedge_apiserver.resources import (
    ACCESS_REVIEWS,
    LOCAL_ACCESS_REVIEWS,
    SELF_REVIEWS,
    SELF_RULES_REVIEWS,
    Resource,
)
from fedge_objects import JsonObject


class Reviews:
    """Answers the kinds that are asked and not stored."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def answer(self, request: Request, resource: Resource, namespace: str) -> None:
        """Answer one.

        Raises:
            ApiError: 400 or 422, it does not say what it asks for.
        """
        content_type = request.header(b"content-type")
        value, _ = decode_object(await request.body(), content_type, resource.kind, resource.schema)
        conform_to(resource, value)
        value["metadata"] = {"creationTimestamp": None}
        spec: dict[str, Any] = value.get("spec") or {}
        if resource is SELF_REVIEWS:
            value["status"] = {"userInfo": request.user.info()}
        elif resource is SELF_RULES_REVIEWS:
            value["status"] = self._rules(request.user, str(spec.get("namespace") or ""))
        else:
            value["status"] = self._access(request.user, resource, namespace, spec)
        await request.answer_json(value, code=201)

    def _access(
        self, user: User, resource: Resource, namespace: str, spec: dict[str, Any]
    ) -> JsonObject:
        asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        causes = Causes()
        if (asked is None) == (path is None):
            causes.invalid(
                "spec.resourceAttributes",
                asked,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            )
        if resource in (ACCESS_REVIEWS, LOCAL_ACCESS_REVIEWS):
            if not spec.get("user") and not spec.get("groups"):
                causes.invalid("spec.user", "", "at least one of user or group must be specified")
            extra = spec.get("extra") or {}
            user = User(
                str(spec.get("user") or ""),
                tuple(spec.get("groups") or ()),
                str(spec.get("uid") or ""),
                tuple((key, tuple(values)) for key, values in sorted(extra.items())),
            )
        if causes.found:
            raise invalid(resource, "", causes)
        if asked is not None:
            where = asked.get("namespace", "")
            if resource is LOCAL_ACCESS_REVIEWS and where != namespace:
                raise bad_request(
                    f"spec.resourceAttributes.namespace must be {namespace!r}, as in the path"
                )
            attributes = Attributes(
                verb=asked.get("verb", ""),
                group=asked.get("group", ""),
                resource=asked.get("resource", ""),
                subresource=asked.get("subresource", ""),
                namespace=where,
                name=asked.get("name", ""),
            )
        else:
            path = path or {}
            attributes = Attributes(verb=path.get("verb", ""), path=path.get("path", "") or "/")
        decision = self._authorizer.decide(user, attributes)
        status: JsonObject = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return status

    def _rules(self, user: User, namespace: str) -> JsonObject:
        if not namespace:
            raise bad_request("no namespace on request")
        resource_rules: list[JsonObject] = []
        path_rules: list[JsonObject] = []
        for rule in self._authorizer.rules_for(user, namespace):
            if rule.get("nonResourceURLs"):
                path_rules.append(
                    {"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]}
                )
            else:
                fields = ("verbs", "apiGroups", "resources", "resourceNames")
                resource_rules.append({k: rule[k] for k in fields if rule.get(k)})
        return {
            "resourceRules": resource_rules,
            "nonResourceRules": path_rules,
            "incomplete": False,
        }
