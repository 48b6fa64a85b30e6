"""Who may do what: roles, bindings, reviews, eviction; over HTTP only."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.apiserver.test_conformance_objects import (
    MERGE,
    config_map,
    made,
    maps,
    pod,
    pods,
    refused,
)

RBAC = "/apis/rbac.authorization.k8s.io/v1"
READER = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}


def as_user(name: str, *groups: str) -> list[tuple[str, str]]:
    return [("impersonate-user", name), *(("impersonate-group", group) for group in groups)]


class Access:
    """Makes roles and bindings of a test's own."""

    def __init__(self, api: httpx.Client, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.user = f"user-{uuid4().hex[:8]}"
        self._made: list[str] = []

    def role(self, *rules: dict[str, Any], cluster: bool = False, **fields: Any) -> str:
        name = f"role-{uuid4().hex[:8]}"
        body = {"metadata": {"name": name}, "rules": list(rules), **fields}
        if cluster:
            made(self.api.post(f"{RBAC}/clusterroles", json=body))
            self._made.append(f"{RBAC}/clusterroles/{name}")
        else:
            made(self.api.post(f"{RBAC}/namespaces/{self.namespace}/roles", json=body))
        return name

    def bind(
        self,
        role: str,
        subject: dict[str, Any] | None = None,
        *,
        kind: str = "Role",
        everywhere: bool = False,
    ) -> str:
        name = f"binding-{uuid4().hex[:8]}"
        body = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [subject or {"kind": "User", "name": self.user}],
        }
        if everywhere:
            made(self.api.post(f"{RBAC}/clusterrolebindings", json=body))
            self._made.append(f"{RBAC}/clusterrolebindings/{name}")
        else:
            made(self.api.post(f"{RBAC}/namespaces/{self.namespace}/rolebindings", json=body))
        return name

    def get(self, path: str, *groups: str) -> httpx.Response:
        return self.api.get(path, headers=as_user(self.user, *groups))

    def clean(self) -> None:
        for path in self._made:
            self.api.delete(path)


@pytest.fixture
def access(api: httpx.Client, namespace: str) -> Iterator[Access]:
    """Roles and bindings, removed afterwards."""
    held = Access(api, namespace)
    yield held
    held.clean()


def test_nobody_may_do_anything_unless_it_is_given(access: Access) -> None:
    status = refused(access.get(maps(access.namespace)), 403, "Forbidden")
    assert status["message"] == (
        f'configmaps is forbidden: User "{access.user}" cannot list resource "configmaps" in API '
        f'group "" in the namespace "{access.namespace}"'
    )
    assert status["details"] == {"kind": "configmaps"}
    status = refused(access.get("/api/v1/nodes/a"), 403, "Forbidden")
    assert status["message"] == (
        f'nodes "a" is forbidden: User "{access.user}" cannot get resource "nodes" in API group '
        '"" at the cluster scope'
    )


def test_role_gives_its_verbs_in_its_namespace_only(access: Access) -> None:
    access.bind(access.role(READER))
    assert access.get(maps(access.namespace)).status_code == 200
    refused(access.get(maps("default")), 403, "Forbidden")
    refused(access.get("/api/v1/configmaps"), 403, "Forbidden")
    refused(access.get(pods(access.namespace)), 403, "Forbidden")
    headers = as_user(access.user)
    body = config_map("a", k="v")
    refused(access.api.post(maps(access.namespace), json=body, headers=headers), 403, "Forbidden")
    watching = access.get(f"{maps(access.namespace)}?watch=true&timeoutSeconds=1")
    refused(watching, 403, "Forbidden")


def test_taking_a_binding_away_takes_the_right_away(access: Access) -> None:
    name = access.bind(access.role(READER))
    assert access.get(maps(access.namespace)).status_code == 200
    access.api.delete(f"{RBAC}/namespaces/{access.namespace}/rolebindings/{name}")
    refused(access.get(maps(access.namespace)), 403, "Forbidden")


def test_cluster_role_bound_in_a_namespace_holds_there(access: Access) -> None:
    access.bind(access.role(READER, cluster=True), kind="ClusterRole")
    assert access.get(maps(access.namespace)).status_code == 200
    refused(access.get(maps("default")), 403, "Forbidden")


def test_cluster_role_bound_everywhere_holds_everywhere(access: Access) -> None:
    access.bind(access.role(READER, cluster=True), kind="ClusterRole", everywhere=True)
    assert access.get("/api/v1/configmaps").status_code == 200
    assert access.get(maps("default")).status_code == 200


def test_names_in_a_rule_limit_it(access: Access) -> None:
    access.api.post(maps(access.namespace), json=config_map("mine"))
    access.bind(access.role({**READER, "resourceNames": ["mine"]}))
    assert access.get(maps(access.namespace, "mine")).status_code == 200
    refused(access.get(maps(access.namespace, "other")), 403, "Forbidden")
    refused(access.get(maps(access.namespace)), 403, "Forbidden")
    one = access.get(f"{maps(access.namespace)}?fieldSelector=metadata.name%3Dmine")
    assert one.status_code == 200


def test_subresources_are_given_apart(access: Access) -> None:
    access.api.post(pods(access.namespace), json=pod("p"))
    access.bind(access.role({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}))
    assert access.get(pods(access.namespace, "p")).status_code == 200
    status = refused(access.get(f"{pods(access.namespace, 'p')}/status"), 403, "Forbidden")
    assert 'cannot get resource "pods/status"' in status["message"]


def test_groups_and_accounts_are_subjects(access: Access) -> None:
    role = access.role(READER)
    access.bind(role, {"kind": "Group", "name": "operators"})
    access.bind(role, {"kind": "ServiceAccount", "name": "app", "namespace": access.namespace})
    assert access.get(maps(access.namespace), "operators").status_code == 200
    refused(access.get(maps(access.namespace), "others"), 403, "Forbidden")
    account = as_user(f"system:serviceaccount:{access.namespace}:app")
    assert access.api.get(maps(access.namespace), headers=account).status_code == 200


def test_token_of_an_account_lets_in_as_far_as_its_roles_go(access: Access) -> None:
    where = f"/api/v1/namespaces/{access.namespace}/serviceaccounts"
    made(access.api.post(where, json={"metadata": {"name": "app"}}))
    token = made(access.api.post(f"{where}/app/token", json={"spec": {}}))["status"]["token"]
    bearer = {"authorization": f"Bearer {token}"}
    subject = {"kind": "ServiceAccount", "name": "app", "namespace": access.namespace}
    access.bind(access.role(READER), subject)
    assert access.api.get(maps(access.namespace), headers=bearer).status_code == 200
    refused(access.api.get(maps("default"), headers=bearer), 403, "Forbidden")
    assert access.api.get("/apis", headers=bearer).status_code == 200
    review = made(
        access.api.post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews", json={}, headers=bearer
        )
    )
    assert review["status"]["userInfo"]["username"] == (
        f"system:serviceaccount:{access.namespace}:app"
    )
    access.api.delete(f"{where}/app")
    refused(access.api.get(maps(access.namespace), headers=bearer), 401, "Unauthorized")


def test_bad_token_is_refused(api: httpx.Client) -> None:
    for token in ("no", "a.b.c"):
        answer = api.get("/api/v1/namespaces", headers={"authorization": f"Bearer {token}"})
        refused(answer, 401, "Unauthorized")


def test_impersonation_must_be_given(access: Access) -> None:
    where = f"/api/v1/namespaces/{access.namespace}/serviceaccounts"
    made(access.api.post(where, json={"metadata": {"name": "app"}}))
    token = made(access.api.post(f"{where}/app/token", json={"spec": {}}))["status"]["token"]
    headers = [("authorization", f"Bearer {token}"), *as_user("admin", "system:masters")]
    status = refused(access.api.get(maps(access.namespace), headers=headers), 403, "Forbidden")
    assert 'cannot impersonate resource "users"' in status["message"]


def test_reviews_say_what_the_rules_say(access: Access) -> None:
    path = "/apis/authorization.k8s.io/v1"
    attributes = {"verb": "list", "resource": "configmaps", "namespace": access.namespace}
    body: dict[str, Any] = {"spec": {"user": access.user, "resourceAttributes": attributes}}

    def allowed() -> bool:
        review = made(access.api.post(f"{path}/subjectaccessreviews", json=body))
        return bool(review["status"]["allowed"])

    assert not allowed()
    access.bind(access.role(READER))
    assert allowed()
    own = {"spec": {"resourceAttributes": attributes}}
    answer = access.api.post(
        f"{path}/selfsubjectaccessreviews", json=own, headers=as_user(access.user)
    )
    # who is impersonated is authenticated, and may ask about themselves
    assert made(answer)["status"]["allowed"]
    local = f"{path}/namespaces/{access.namespace}/localsubjectaccessreviews"
    assert made(access.api.post(local, json=body))["status"]["allowed"]
    rules = made(
        access.api.post(
            f"{path}/selfsubjectrulesreviews",
            json={"spec": {"namespace": access.namespace}},
            headers=as_user(access.user),
        )
    )["status"]["resourceRules"]
    assert any(rule["resources"] == ["configmaps"] for rule in rules)


def test_review_without_a_question_is_invalid(api: httpx.Client) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    refused(api.post(path, json={"spec": {}}), 422, "Invalid")


def test_nobody_can_give_what_they_do_not_have(access: Access) -> None:
    writers = {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["roles", "rolebindings"],
        "verbs": ["create", "update", "patch"],
    }
    access.bind(access.role(READER, writers))
    headers = as_user(access.user)
    roles = f"{RBAC}/namespaces/{access.namespace}/roles"

    def give(name: str, rule: dict[str, Any]) -> httpx.Response:
        body = {"metadata": {"name": name}, "rules": [rule]}
        return access.api.post(roles, json=body, headers=headers)

    made(give("less", {**READER, "verbs": ["get"]}))
    status = refused(
        give("more", {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
        403,
        "Forbidden",
    )
    assert "is attempting to grant RBAC permissions not currently held" in status["message"]
    assert '{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}' in status["message"]
    change = {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}
    answer = access.api.patch(f"{roles}/less", json=change, headers=[*headers, *MERGE.items()])
    refused(answer, 403, "Forbidden")
    binding = {
        "metadata": {"name": "admin"},
        "roleRef": {"kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "User", "name": access.user}],
    }
    where = f"{RBAC}/namespaces/{access.namespace}/rolebindings"
    refused(access.api.post(where, json=binding, headers=headers), 403, "Forbidden")


def test_roles_that_gather_others_are_filled(access: Access) -> None:
    mark = {f"fedge.io/{access.user}": "true"}
    gathered = access.role(
        cluster=True, aggregationRule={"clusterRoleSelectors": [{"matchLabels": mark}]}
    )
    part = access.role(READER, cluster=True)
    body = {"metadata": {"labels": mark}}
    made(access.api.patch(f"{RBAC}/clusterroles/{part}", json=body, headers=MERGE))
    access.bind(gathered, kind="ClusterRole")
    query = f"fieldSelector=metadata.name%3D{gathered}&watch=true&timeoutSeconds=10"
    with access.api.stream("GET", f"{RBAC}/clusterroles?{query}") as answer:
        assert any('"configmaps"' in line for line in answer.iter_lines())
    assert access.get(maps(access.namespace)).status_code == 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}, "rules[0].verbs"),
        ({"rules": [{"verbs": ["get"]}]}, "rules[0].apiGroups"),
        ({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}, "rules[0].nonResourceURLs"),
    ],
)
def test_role_that_says_nothing_is_invalid(access: Access, body: dict[str, Any], text: str) -> None:
    where = f"{RBAC}/namespaces/{access.namespace}/roles"
    status = refused(
        access.api.post(where, json={"metadata": {"name": "bad"}, **body}), 422, "Invalid"
    )
    assert text in status["message"]


def test_binding_keeps_its_role(access: Access) -> None:
    name = access.bind(access.role(READER))
    where = f"{RBAC}/namespaces/{access.namespace}/rolebindings/{name}"
    answer = access.api.patch(where, json={"roleRef": {"name": "other"}}, headers=MERGE)
    status = refused(answer, 422, "Invalid")
    assert "cannot change roleRef" in status["message"]


class TestEviction:
    """Pods that are asked to go."""

    def test_pod_without_a_budget_goes(self, api: httpx.Client, namespace: str) -> None:
        made(api.post(pods(namespace), json=pod("p")))
        answer = api.post(f"{pods(namespace, 'p')}/eviction", json=eviction("p"))
        assert answer.status_code == 201
        refused(api.get(pods(namespace, "p")), 404, "NotFound")

    def test_budget_keeps_its_pods(self, api: httpx.Client, namespace: str) -> None:
        for name in ("a", "b"):
            ready_pod(api, namespace, name)
        where = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
        budget = {
            "metadata": {"name": "one"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}},
        }
        made(api.post(where, json=budget))
        query = "watch=true&timeoutSeconds=10"
        with api.stream("GET", f"{where}?{query}") as answer:
            assert any('"disruptionsAllowed":1' in line for line in answer.iter_lines())
        first = api.post(f"{pods(namespace, 'a')}/eviction", json=eviction("a"))
        assert first.status_code == 201, first.text
        with api.stream("GET", f"{where}?{query}") as answer:
            assert any('"disruptionsAllowed":0' in line for line in answer.iter_lines())
        second = api.post(f"{pods(namespace, 'b')}/eviction", json=eviction("b"))
        status = refused(second, 429, "TooManyRequests")
        assert status["message"] == (
            "Cannot evict pod as it would violate the pod's disruption budget."
        )
        assert api.get(pods(namespace, "b")).status_code == 200


def eviction(name: str) -> dict[str, Any]:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}


def ready_pod(api: httpx.Client, namespace: str, name: str) -> None:
    body = pod(name)
    body["metadata"]["labels"] = {"app": "x"}
    made(api.post(pods(namespace), json=body))
    condition = {"type": "Ready", "status": "True"}
    status = {"status": {"phase": "Running", "conditions": [condition]}}
    made(api.patch(f"{pods(namespace, name)}/status", json=status, headers=MERGE))
