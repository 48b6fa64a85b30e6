"""What every cluster's API machinery does, whatever the kind; over HTTP only."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.integration.apiserver.test_conformance_objects import (
    APPLY,
    JSON_PATCH,
    MERGE,
    STRATEGIC,
    config_map,
    made,
    maps,
    refused,
)

SECONDS = 30
NOWHERE = {"no-node-has-this": "true"}


def until(holds: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def owned(api: httpx.Client, namespace: str) -> None:
    """Make two ConfigMaps of which the second belongs to the first."""
    owner = made(api.post(maps(namespace), json=config_map("owner")))
    body = config_map("dependent")
    body["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "owner",
            "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": True,
        }
    ]
    made(api.post(maps(namespace), json=body))


def is_gone(api: httpx.Client, path: str) -> bool:
    return api.get(path).status_code == 404


class TestPropagation:
    """What becomes of an object's dependents."""

    def test_background_takes_the_owner_at_once_and_the_rest_later(
        self, api: httpx.Client, namespace: str
    ) -> None:
        owned(api, namespace)
        answer = api.request("DELETE", maps(namespace, "owner"), json={})
        assert answer.status_code == 200
        assert is_gone(api, maps(namespace, "owner"))
        until(lambda: is_gone(api, maps(namespace, "dependent")), "the dependent goes")

    def test_foreground_takes_the_owner_last(self, api: httpx.Client, namespace: str) -> None:
        owned(api, namespace)
        hold = {"metadata": {"finalizers": ["example.com/hold"]}}
        made(api.patch(maps(namespace, "dependent"), json=hold, headers=MERGE))
        body = {"propagationPolicy": "Foreground"}
        held = made(api.request("DELETE", maps(namespace, "owner"), json=body))
        assert held["metadata"]["finalizers"] == ["foregroundDeletion"]
        assert "deletionTimestamp" in held["metadata"]

        def is_going() -> bool:
            meta = made(api.get(maps(namespace, "dependent")))["metadata"]
            return "deletionTimestamp" in meta

        until(is_going, "the dependent is deleted first")
        assert not is_gone(api, maps(namespace, "owner"))
        free = {"metadata": {"finalizers": None}}
        api.patch(maps(namespace, "dependent"), json=free, headers=MERGE)
        until(lambda: is_gone(api, maps(namespace, "owner")), "the owner goes after it")

    def test_orphan_leaves_the_rest_without_an_owner(
        self, api: httpx.Client, namespace: str
    ) -> None:
        owned(api, namespace)
        query = {"propagationPolicy": "Orphan"}
        assert api.delete(maps(namespace, "owner"), params=query).status_code == 200
        until(lambda: is_gone(api, maps(namespace, "owner")), "the owner goes")
        meta = made(api.get(maps(namespace, "dependent")))["metadata"]
        assert not meta.get("ownerReferences")


def test_namespace_that_goes_takes_nothing_new(api: httpx.Client, namespace: str) -> None:
    body = config_map("held")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    made(api.post(maps(namespace), json=body))
    held = made(api.delete(f"/api/v1/namespaces/{namespace}"))
    assert held["status"]["phase"] == "Terminating"
    status = refused(api.post(maps(namespace), json=config_map("late")), 403, "Forbidden")
    assert [c["reason"] for c in status["details"]["causes"]] == ["NamespaceTerminating"]
    assert made(api.get(f"/api/v1/namespaces/{namespace}"))["metadata"]["name"] == namespace
    free = {"metadata": {"finalizers": None}}
    api.patch(maps(namespace, "held"), json=free, headers=MERGE)
    until(lambda: is_gone(api, f"/api/v1/namespaces/{namespace}"), "the namespace goes")


class TestDiscovery:
    """What clients learn of the server."""

    def test_groups_and_resources_are_listed(self, api: httpx.Client) -> None:
        groups = {g["name"]: g for g in made(api.get("/apis"))["groups"]}
        assert groups["apps"]["preferredVersion"]["groupVersion"] == "apps/v1"
        assert made(api.get("/api"))["versions"] == ["v1"]
        resources = {r["name"]: r for r in made(api.get("/apis/apps/v1"))["resources"]}
        assert resources["deployments"]["shortNames"] == ["deploy"]
        assert resources["deployments/scale"]["kind"] == "Scale"
        assert resources["deployments/scale"]["group"] == "autoscaling"

    @pytest.mark.parametrize("path", ["/api", "/apis"])
    def test_all_can_be_had_at_once(self, api: httpx.Client, path: str) -> None:
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        answer = api.get(path, headers={"accept": f"{accept},application/json"})
        assert "as=APIGroupDiscoveryList" in answer.headers["content-type"]
        found = made(answer)
        assert found["kind"] == "APIGroupDiscoveryList"
        versions = [v for group in found["items"] for v in group["versions"]]
        kinds = {r["responseKind"]["kind"] for v in versions for r in v["resources"]}
        assert kinds >= ({"Pod", "ConfigMap"} if path == "/api" else {"Deployment", "Job"})

    def test_document_of_each_group_describes_its_kinds(self, api: httpx.Client) -> None:
        paths = made(api.get("/openapi/v3"))["paths"]
        document = made(api.get(paths["apis/batch/v1"]["serverRelativeURL"]))
        schemas = document["components"]["schemas"]
        (job,) = [
            s
            for s in schemas.values()
            if any(k["kind"] == "Job" for k in s.get("x-kubernetes-group-version-kind", ()))
        ]
        assert "spec" in job["properties"]
        path = "/apis/batch/v1/namespaces/{namespace}/jobs"
        assert document["paths"][path]["post"]["x-kubernetes-group-version-kind"]["kind"] == "Job"

    def test_old_document_describes_all_kinds(self, api: httpx.Client) -> None:
        document = made(api.get("/openapi/v2"))
        assert document["swagger"] == "2.0"
        kinds = {
            kind["kind"]
            for each in document["definitions"].values()
            for kind in each.get("x-kubernetes-group-version-kind", ())
        }
        assert {"Pod", "Deployment", "CronJob"} <= kinds

    def test_kind_that_is_not_there_is_not_found(self, api: httpx.Client) -> None:
        refused(api.get("/apis/nobody.example/v1"), 404, "NotFound")
        refused(api.get("/apis/nobody.example/v1/namespaces/default/things"), 404, "NotFound")


class TestBodies:
    """What a server makes of the bodies that it cannot take, and of those it is asked for."""

    @pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-yaml2"])
    def test_other_content_is_unsupported(
        self, api: httpx.Client, namespace: str, kind: str
    ) -> None:
        answer = api.post(maps(namespace), content=b"a", headers={"content-type": kind})
        refused(answer, 415, "UnsupportedMediaType")

    def test_answer_in_another_form_is_not_acceptable(
        self, api: httpx.Client, namespace: str
    ) -> None:
        answer = api.get(maps(namespace), headers={"accept": "text/html"})
        refused(answer, 406, "NotAcceptable")

    def test_answer_in_yaml(self, api: httpx.Client, namespace: str) -> None:
        answer = api.get(maps(namespace), headers={"accept": "application/yaml"})
        assert answer.headers["content-type"].startswith("application/yaml")
        assert "kind: ConfigMapList" in answer.text

    @pytest.mark.parametrize("body", [b"", b"[]", b'"a"', b"null", b"{", b"\xff\xfe", b"[" * 20000])
    def test_body_that_is_no_object_is_refused(
        self, api: httpx.Client, namespace: str, body: bytes
    ) -> None:
        headers = {"content-type": "application/json"}
        refused(api.post(maps(namespace), content=body, headers=headers), 400, "BadRequest")

    def test_names_of_every_shape_are_judged(self, api: httpx.Client, namespace: str) -> None:
        for name in ("A", "a_b", "-a", "a..b", "a" * 254, "ä", "a b"):
            refused(api.post(maps(namespace), json=config_map(name)), 422, "Invalid")
        body = {"metadata": {"generateName": "x-"}}
        assert made(api.post(maps(namespace), json=body))["metadata"]["name"].startswith("x-")
        refused(api.post(maps(namespace), json={"metadata": {}}), 422, "Invalid")

    def test_labels_and_annotations_are_judged(self, api: httpx.Client, namespace: str) -> None:
        for meta in (
            {"labels": {"a": "b c"}},
            {"labels": {"a/b/c": "d"}},
            {"labels": {"a": "x" * 64}},
            {"annotations": {"bad key": "x"}},
            {"annotations": {"a": "x" * 300_000}},
            {"finalizers": ["plain"]},
        ):
            body = config_map("a")
            body["metadata"].update(meta)
            refused(api.post(maps(namespace), json=body), 422, "Invalid")

    def test_selectors_that_do_not_read_are_refused(
        self, api: httpx.Client, namespace: str
    ) -> None:
        for query in (
            {"labelSelector": "a in (b"},
            {"labelSelector": "a=b c"},
            {"labelSelector": "=,"},
            {"fieldSelector": "metadata.name"},
            {"fieldSelector": "data.k=v"},
            {"limit": "many"},
            {"continue": "no-token"},
            {"resourceVersion": "later"},
        ):
            assert api.get(maps(namespace), params=query).status_code in (400, 422), query

    def test_match_needs_a_version(self, api: httpx.Client, namespace: str) -> None:
        query = {"resourceVersionMatch": "Exact"}
        assert api.get(maps(namespace), params=query).status_code in (400, 422)


class TestTrials:
    """Dry run: everything is judged, nothing is kept."""

    def test_each_verb_can_be_tried(self, api: httpx.Client, namespace: str) -> None:
        query = {"dryRun": "All"}
        held = made(api.post(maps(namespace), json=config_map("a", k="1")))
        version = held["metadata"]["resourceVersion"]
        changed = {**held, "data": {"k": "2"}}
        answer = api.put(maps(namespace, "a"), json=changed, params=query)
        assert made(answer)["data"] == {"k": "2"}
        patch = {"data": {"k": "3"}}
        answer = api.patch(maps(namespace, "a"), json=patch, params=query, headers=MERGE)
        assert made(answer)["data"] == {"k": "3"}
        applied = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("b", k="4")}
        answer = api.patch(
            maps(namespace, "b"), json=applied, params={**query, "fieldManager": "m"}, headers=APPLY
        )
        assert made(answer)["data"] == {"k": "4"}
        assert api.delete(maps(namespace, "a"), params=query).status_code == 200
        refused(api.post(maps(namespace), json=config_map("a"), params=query), 409, "AlreadyExists")
        refused(api.post(maps(namespace), json=config_map("A"), params=query), 422, "Invalid")
        left = made(api.get(maps(namespace, "a")))
        assert (left["data"], left["metadata"]["resourceVersion"]) == ({"k": "1"}, version)
        assert is_gone(api, maps(namespace, "b"))

    def test_trial_of_another_kind_is_refused(self, api: httpx.Client, namespace: str) -> None:
        answer = api.post(maps(namespace), json=config_map("a"), params={"dryRun": "Some"})
        assert answer.status_code in (400, 422)


class TestScale:
    """The number of replicas as a resource of its own."""

    def test_scale_is_read_and_written(self, api: httpx.Client, namespace: str) -> None:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        labels = {"app": "x"}
        containers = [{"name": "main", "image": "registry.example/none:1"}]
        template = {
            "metadata": {"labels": labels},
            "spec": {"nodeSelector": NOWHERE, "containers": containers},
        }
        spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        made(api.post(path, json={"metadata": {"name": "d"}, "spec": spec}))
        scale = made(api.get(f"{path}/d/scale"))
        assert (scale["kind"], scale["spec"].get("replicas", 0)) == ("Scale", 0)
        assert scale["status"]["selector"] == "app=x"
        patch = {"spec": {"replicas": 1}}
        made(api.patch(f"{path}/d/scale", json=patch, headers=MERGE))
        assert made(api.get(f"{path}/d"))["spec"]["replicas"] == 1
        stale = {**scale, "spec": {"replicas": 2}}
        refused(api.put(f"{path}/d/scale", json=stale), 409, "Conflict")
        patch = {"spec": {"replicas": -1}}
        refused(api.patch(f"{path}/d/scale", json=patch, headers=MERGE), 422, "Invalid")


class TestApply:
    """Server-side apply."""

    def apply(
        self, api: httpx.Client, namespace: str, manager: str, *, force: bool = False, **data: str
    ) -> httpx.Response:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}
        query = {"fieldManager": manager, "force": str(force).lower()}
        return api.patch(maps(namespace, "a"), json=body, params=query, headers=APPLY)

    def test_managers_share_what_they_agree_on(self, api: httpx.Client, namespace: str) -> None:
        assert self.apply(api, namespace, "one", k="1", only="one").status_code == 201
        held = made(self.apply(api, namespace, "two", k="1"))
        fields = {m["manager"]: m["fieldsV1"] for m in held["metadata"]["managedFields"]}
        assert fields["one"] == {"f:data": {"f:k": {}, "f:only": {}}}
        assert fields["two"] == {"f:data": {"f:k": {}}}
        held = made(self.apply(api, namespace, "one", only="one"))
        assert held["data"] == {"k": "1", "only": "one"}, "the other one still wants it"

    def test_force_takes_a_field_over(self, api: httpx.Client, namespace: str) -> None:
        made(self.apply(api, namespace, "one", k="1"))
        status = refused(self.apply(api, namespace, "two", k="2"), 409, "Conflict")
        (cause,) = status["details"]["causes"]
        assert (cause["reason"], cause["field"]) == ("FieldManagerConflict", ".data.k")
        assert '"one"' in cause["message"]
        held = made(self.apply(api, namespace, "two", force=True, k="2"))
        assert held["data"] == {"k": "2"}
        assert [m["manager"] for m in held["metadata"]["managedFields"]] == ["two"]

    def test_update_by_others_is_a_conflict_too(self, api: httpx.Client, namespace: str) -> None:
        made(self.apply(api, namespace, "one", k="1"))
        operation = [{"op": "replace", "path": "/data/k", "value": "9"}]
        query = {"fieldManager": "editor"}
        made(api.patch(maps(namespace, "a"), json=operation, params=query, headers=JSON_PATCH))
        refused(self.apply(api, namespace, "one", k="1"), 409, "Conflict")

    def test_what_was_there_before_is_a_conflict_too(
        self, api: httpx.Client, namespace: str
    ) -> None:
        made(api.post(maps(namespace), json=config_map("a", k="0", other="x")))
        refused(self.apply(api, namespace, "one", k="1"), 409, "Conflict")
        held = made(self.apply(api, namespace, "one", k="0"))
        assert held["data"] == {"k": "0", "other": "x"}
        held = made(self.apply(api, namespace, "one", force=True, k="1"))
        assert held["data"] == {"k": "1", "other": "x"}

    def test_field_that_others_changed_is_theirs(self, api: httpx.Client, namespace: str) -> None:
        made(self.apply(api, namespace, "one", k="1", more="1"))
        query = {"fieldManager": "editor"}
        patch = {"data": {"k": "9", "new": "9", "more": None}}
        made(api.patch(maps(namespace, "a"), json=patch, params=query, headers=MERGE))
        held = made(self.apply(api, namespace, "one", more="1"))
        assert held["data"] == {"k": "9", "new": "9", "more": "1"}, "what is not its own stays"
        managers = {m["manager"]: m for m in held["metadata"]["managedFields"]}
        assert managers["editor"]["operation"] == "Update"
        assert managers["editor"]["fieldsV1"] == {"f:data": {"f:k": {}, "f:new": {}}}
        refused(self.apply(api, namespace, "one", new="1"), 409, "Conflict")

    def test_status_has_managers_of_its_own(self, api: httpx.Client, namespace: str) -> None:
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/d"
        labels = {"app": "x"}
        containers = [{"name": "main", "image": "registry.example/none:1"}]
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "d"},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
            },
        }
        made(api.patch(path, json=body, params={"fieldManager": "one"}, headers=APPLY))
        containers = [{"name": "main", "image": "b:2"}]
        patch: dict[str, Any] = {"spec": {"template": {"spec": {"containers": containers}}}}
        query = {"fieldManager": "setter"}
        made(api.patch(path, json=patch, params=query, headers=STRATEGIC))
        status = refused(
            api.patch(path, json=body, params={"fieldManager": "one"}, headers=APPLY),
            409,
            "Conflict",
        )
        (cause,) = status["details"]["causes"]
        assert cause["field"] == '.spec.template.spec.containers[name="main"].image'
        assert '"setter"' in cause["message"]

    def test_managers_can_be_forgotten(self, api: httpx.Client, namespace: str) -> None:
        made(self.apply(api, namespace, "one", k="1"))
        patch: dict[str, Any] = {"metadata": {"managedFields": [{}]}}
        held = made(api.patch(maps(namespace, "a"), json=patch, headers=MERGE))
        assert "managedFields" not in held["metadata"]

    def test_apply_must_name_its_manager(self, api: httpx.Client, namespace: str) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", **config_map("a")}
        answer = api.patch(maps(namespace, "a"), json=body, headers=APPLY)
        assert answer.status_code in (400, 422)


def test_token_of_an_account_is_made_and_reviewed(api: httpx.Client, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    made(api.post(path, json={"metadata": {"name": "robot"}}))
    request = {"spec": {"expirationSeconds": 600}}
    held = made(api.post(f"{path}/robot/token", json=request))
    assert held["status"]["expirationTimestamp"]
    review = {"spec": {"token": held["status"]["token"]}}
    status = made(api.post("/apis/authentication.k8s.io/v1/tokenreviews", json=review))["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:robot"
    wrong = {"spec": {"token": held["status"]["token"] + "x"}}
    status = made(api.post("/apis/authentication.k8s.io/v1/tokenreviews", json=wrong))["status"]
    assert not status.get("authenticated")
    short = {"spec": {"expirationSeconds": 1}}
    refused(api.post(f"{path}/robot/token", json=short), 422, "Invalid")
