"""What every cluster does with objects, over HTTP only."""

import base64
import json
from typing import Any

import httpx
import pytest

from tests.integration.apiserver.servers import watch_lines

MERGE = {"content-type": "application/merge-patch+json"}
JSON_PATCH = {"content-type": "application/json-patch+json"}
STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}
APPLY = {"content-type": "application/apply-patch+yaml"}
TABLE = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"name": name}},
        "data": data,
    }


def pod(name: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "busybox:1.36"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": containers, "schedulerName": "nobody", **spec},
    }


def maps(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps" + (f"/{name}" if name else "")


def pods(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code in (200, 201), answer.text
    value: dict[str, Any] = answer.json()
    return value


def refused(answer: httpx.Response, code: int, reason: str) -> dict[str, Any]:
    assert answer.status_code == code, answer.text
    status: dict[str, Any] = answer.json()
    assert status["kind"] == "Status"
    assert status["apiVersion"] == "v1"
    assert status["status"] == "Failure"
    assert (status["code"], status["reason"]) == (code, reason)
    return status


def test_created_object_has_its_metadata(api: httpx.Client, namespace: str) -> None:
    answer = api.post(maps(namespace), json=config_map("a", k="v"))
    assert answer.status_code == 201
    meta = answer.json()["metadata"]
    assert meta["namespace"] == namespace
    assert len(meta["uid"]) == 36
    assert meta["creationTimestamp"].endswith("Z")
    assert int(meta["resourceVersion"]) > 0
    assert made(api.get(maps(namespace, "a")))["data"] == {"k": "v"}


def test_generated_names_differ(api: httpx.Client, namespace: str) -> None:
    body = {"metadata": {"generateName": "gen-"}}
    names = {made(api.post(maps(namespace), json=body))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("gen-") and len(name) == 9 for name in names)


def test_pages_show_one_moment_whatever_is_written_between(
    api: httpx.Client, namespace: str
) -> None:
    for name in "abcde":
        made(api.post(maps(namespace), json=config_map(name, v="old")))
    first = made(api.get(maps(namespace), params={"limit": "2", "labelSelector": "name"}))
    made(api.put(maps(namespace, "c"), json=config_map("c", v="new")))
    made(api.delete(maps(namespace, "d")))
    made(api.post(maps(namespace), json=config_map("cc", v="new")))
    query = {"limit": "10", "labelSelector": "name", "continue": first["metadata"]["continue"]}
    second = made(api.get(maps(namespace), params=query))
    shown = {item["metadata"]["name"]: item["data"]["v"] for item in second["items"]}
    assert shown == {"c": "old", "d": "old", "e": "old"}
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_list_at_an_exact_version(api: httpx.Client, namespace: str) -> None:
    made(api.post(maps(namespace), json=config_map("a", v="old")))
    version = made(api.get(maps(namespace)))["metadata"]["resourceVersion"]
    made(api.put(maps(namespace, "a"), json=config_map("a", v="new")))
    query = {"resourceVersion": version, "resourceVersionMatch": "Exact"}
    then = made(api.get(maps(namespace), params=query))
    assert then["metadata"]["resourceVersion"] == version
    assert [item["data"]["v"] for item in then["items"] if "v" in item.get("data", {})] == ["old"]
    bad = {"resourceVersion": version, "resourceVersionMatch": "Roughly"}
    assert api.get(maps(namespace), params=bad).status_code in (400, 422)


def test_create_of_an_existing_name_is_refused(api: httpx.Client, namespace: str) -> None:
    made(api.post(maps(namespace), json=config_map("a")))
    status = refused(api.post(maps(namespace), json=config_map("a")), 409, "AlreadyExists")
    assert status["message"] == 'configmaps "a" already exists'
    assert status["details"] == {"name": "a", "kind": "configmaps"}


def test_missing_object_is_not_found(api: httpx.Client, namespace: str) -> None:
    status = refused(api.get(pods(namespace, "x")), 404, "NotFound")
    assert status["message"] == 'pods "x" not found'
    assert status["details"] == {"name": "x", "kind": "pods"}


def test_create_in_a_missing_namespace_is_refused(api: httpx.Client) -> None:
    status = refused(api.post(maps("no-such"), json=config_map("a")), 404, "NotFound")
    assert status["message"] == 'namespaces "no-such" not found'


def test_unknown_resource_is_not_found(api: httpx.Client) -> None:
    status = refused(api.get("/api/v1/gizmos"), 404, "NotFound")
    assert status["message"] == "the server could not find the requested resource"


def test_method_that_a_resource_lacks_is_refused(api: httpx.Client, namespace: str) -> None:
    refused(api.post(maps(namespace, "a"), json={}), 405, "MethodNotAllowed")


def test_stale_update_conflicts(api: httpx.Client, namespace: str) -> None:
    first = made(api.post(maps(namespace), json=config_map("a", k="1")))
    made(api.put(maps(namespace, "a"), json={**first, "data": {"k": "2"}}))
    status = refused(
        api.put(maps(namespace, "a"), json={**first, "data": {"k": "3"}}), 409, "Conflict"
    )
    assert "the object has been modified" in status["message"]


def test_update_that_changes_nothing_keeps_the_version(api: httpx.Client, namespace: str) -> None:
    first = made(api.post(maps(namespace), json=config_map("a", k="1")))
    second = made(api.put(maps(namespace, "a"), json=first))
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_patch_with_another_uid_conflicts(api: httpx.Client, namespace: str) -> None:
    made(api.post(maps(namespace), json=config_map("a")))
    patch = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "data": {"x": "y"}}
    refused(api.patch(maps(namespace, "a"), json=patch, headers=MERGE), 409, "Conflict")


def test_delete_with_another_uid_conflicts(api: httpx.Client, namespace: str) -> None:
    made(api.post(maps(namespace), json=config_map("a")))
    body = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    refused(api.request("DELETE", maps(namespace, "a"), json=body), 409, "Conflict")
    status = made(api.delete(maps(namespace, "a")))
    assert (status["kind"], status["status"]) == ("Status", "Success")


def test_merge_patch_removes_with_null(api: httpx.Client, namespace: str) -> None:
    made(api.post(maps(namespace), json=config_map("a", k="1", gone="x")))
    patch = {"data": {"gone": None, "new": "2"}}
    value = made(api.patch(maps(namespace, "a"), json=patch, headers=MERGE))
    assert value["data"] == {"k": "1", "new": "2"}


def test_json_patch_applies_and_its_test_can_fail(api: httpx.Client, namespace: str) -> None:
    made(api.post(maps(namespace), json=config_map("a", k="1")))
    patch = [{"op": "replace", "path": "/data/k", "value": "2"}]
    value = made(api.patch(maps(namespace, "a"), json=patch, headers=JSON_PATCH))
    assert value["data"] == {"k": "2"}
    failing = [{"op": "test", "path": "/data/k", "value": "1"}, *patch]
    refused(api.patch(maps(namespace, "a"), json=failing, headers=JSON_PATCH), 422, "Invalid")


def test_strategic_patch_merges_containers_by_name(api: httpx.Client, namespace: str) -> None:
    made(api.post(pods(namespace), json=pod("p")))
    patch = {"spec": {"containers": [{"name": "main", "image": "busybox:1.37"}]}}
    value = made(api.patch(pods(namespace, "p"), json=patch, headers=STRATEGIC))
    assert [c["image"] for c in value["spec"]["containers"]] == ["busybox:1.37"]
    assert value["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"


def test_unknown_patch_type_is_refused(api: httpx.Client, namespace: str) -> None:
    made(api.post(maps(namespace), json=config_map("a")))
    answer = api.patch(maps(namespace, "a"), content="{}", headers={"content-type": "text/plain"})
    refused(answer, 415, "UnsupportedMediaType")


def test_status_is_written_by_its_subresource_only(api: httpx.Client, namespace: str) -> None:
    made(api.post(pods(namespace), json=pod("p")))
    patch = {"status": {"message": "m"}, "metadata": {"labels": {"a": "b"}}}
    value = made(api.patch(pods(namespace, "p"), json=patch, headers=MERGE))
    assert "message" not in value["status"]
    value = made(api.patch(pods(namespace, "p") + "/status", json=patch, headers=STRATEGIC))
    assert value["status"]["message"] == "m"
    patch = {"spec": {"hostname": "x"}, "status": {"phase": "Running"}}
    value = made(api.patch(pods(namespace, "p") + "/status", json=patch, headers=MERGE))
    assert "hostname" not in value["spec"]
    assert value["status"]["phase"] == "Running"


def test_pod_gets_kubernetes_defaults(api: httpx.Client, namespace: str) -> None:
    value = made(api.post(pods(namespace), json=pod("p")))
    spec = value["spec"]
    assert spec["restartPolicy"] == "Always"
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["serviceAccountName"] == "default"
    assert spec["securityContext"] == {}
    assert spec["enableServiceLinks"] is True
    assert {t["key"] for t in spec["tolerations"]} == {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    }
    container = spec["containers"][0]
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["terminationMessagePath"] == "/dev/termination-log"
    assert container["terminationMessagePolicy"] == "File"
    assert value["status"]["phase"] == "Pending"
    assert value["status"]["qosClass"] == "BestEffort"


def test_pod_without_image_is_invalid(api: httpx.Client, namespace: str) -> None:
    body = pod("p", containers=[{"name": "main"}])
    status = refused(api.post(pods(namespace), json=body), 422, "Invalid")
    assert status["message"] == ('Pod "p" is invalid: spec.containers[0].image: Required value')
    assert status["details"]["causes"] == [
        {
            "reason": "FieldValueRequired",
            "message": "Required value",
            "field": "spec.containers[0].image",
        }
    ]


def test_pod_spec_is_immutable_but_for_some_fields(api: httpx.Client, namespace: str) -> None:
    made(api.post(pods(namespace), json=pod("p")))
    patch = {"spec": {"hostNetwork": True}}
    status = refused(api.patch(pods(namespace, "p"), json=patch, headers=MERGE), 422, "Invalid")
    assert "spec: Forbidden: pod updates may not change fields other than" in status["message"]


def test_wrong_type_is_a_bad_request(api: httpx.Client, namespace: str) -> None:
    body = pod("p", hostNetwork="yes")
    status = refused(api.post(pods(namespace), json=body), 400, "BadRequest")
    assert (
        'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string'
        in (status["message"])
    )
    assert "spec.hostNetwork of type bool" in status["message"]


@pytest.mark.parametrize("mode", ["Strict", "Warn", "Ignore"])
def test_unknown_field_is_refused_told_or_dropped(
    api: httpx.Client, namespace: str, mode: str
) -> None:
    body = pod("p", contaners=[])
    answer = api.post(pods(namespace), json=body, params={"fieldValidation": mode})
    match mode:
        case "Strict":
            status = refused(answer, 400, "BadRequest")
            assert status["message"].endswith(
                'strict decoding error: unknown field "spec.contaners"'
            )
        case "Warn":
            assert answer.headers["warning"] == '299 - "unknown field \\"spec.contaners\\""'
            assert "contaners" not in made(answer)["spec"]
        case _:
            assert "warning" not in answer.headers
            assert "contaners" not in made(answer)["spec"]


def test_doubled_field_is_refused_when_strict(api: httpx.Client, namespace: str) -> None:
    text = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"1","k":"2"}}'
    headers = {"content-type": "application/json"}
    strict = {"fieldValidation": "Strict"}
    answer = api.post(maps(namespace), content=text, headers=headers, params=strict)
    assert 'duplicate field "data.k"' in refused(answer, 400, "BadRequest")["message"]


@pytest.mark.parametrize("text", ["{", "[1]", "nonsense", '{"a": NaN}', "{" * 2000])
def test_malformed_json_is_a_bad_request(api: httpx.Client, namespace: str, text: str) -> None:
    headers = {"content-type": "application/json"}
    answer = api.post(maps(namespace), content=text, headers=headers)
    refused(answer, 400, "BadRequest")


def test_malformed_yaml_is_a_bad_request(api: httpx.Client, namespace: str) -> None:
    headers = {"content-type": "application/yaml"}
    answer = api.post(maps(namespace), content="a: [b", headers=headers)
    refused(answer, 400, "BadRequest")


def test_yaml_body_is_understood(api: httpx.Client, namespace: str) -> None:
    text = "metadata: {name: a}\ndata:\n  day: '2026-01-01'\n"
    headers = {"content-type": "application/yaml"}
    value = made(api.post(maps(namespace), content=text, headers=headers))
    assert value["data"] == {"day": "2026-01-01"}


def test_other_kind_is_a_bad_request(api: httpx.Client, namespace: str) -> None:
    refused(api.post(maps(namespace), json=pod("p")), 400, "BadRequest")


def test_bad_name_is_invalid(api: httpx.Client, namespace: str) -> None:
    status = refused(api.post(maps(namespace), json=config_map("Not_OK")), 422, "Invalid")
    assert "a lowercase RFC 1123 subdomain must consist of" in status["message"]
    assert {cause["field"] for cause in status["details"]["causes"]} == {"metadata.name"}


def test_secret_that_is_not_base64_is_a_bad_request(api: httpx.Client, namespace: str) -> None:
    body = {"metadata": {"name": "s"}, "data": {"k": "abc$"}}
    path = f"/api/v1/namespaces/{namespace}/secrets"
    status = refused(api.post(path, json=body), 400, "BadRequest")
    assert status["message"] == (
        'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 3'
    )


def test_secret_text_is_encoded(api: httpx.Client, namespace: str) -> None:
    body = {"metadata": {"name": "s"}, "stringData": {"k": "plain"}}
    value = made(api.post(f"/api/v1/namespaces/{namespace}/secrets", json=body))
    assert value["data"] == {"k": base64.b64encode(b"plain").decode()}
    assert value["type"] == "Opaque"
    assert "stringData" not in value


def test_immutable_config_map_stays(api: httpx.Client, namespace: str) -> None:
    made(api.post(maps(namespace), json={**config_map("a", k="1"), "immutable": True}))
    patch = {"data": {"k": "2"}}
    status = refused(api.patch(maps(namespace, "a"), json=patch, headers=MERGE), 422, "Invalid")
    assert "field is immutable when `immutable` is set" in status["message"]


def test_config_map_of_more_than_a_mebibyte_is_refused(api: httpx.Client, namespace: str) -> None:
    body = config_map("a", k="x" * (2**20 + 1))
    status = refused(api.post(maps(namespace), json=body), 422, "Invalid")
    assert "Too long: may not be more than 1048576 bytes" in status["message"]


def test_body_of_more_than_three_mebibytes_is_refused(api: httpx.Client, namespace: str) -> None:
    body = config_map("a", k="x" * (5 * 2**20))
    answer = api.post(maps(namespace), json=body)
    assert refused(answer, 413, "RequestEntityTooLarge")["message"].startswith(
        "Request entity too large: limit is 3145728"
    )


def test_label_selectors_choose(api: httpx.Client, namespace: str) -> None:
    for name, tier in (("a", "front"), ("b", "back"), ("c", "back")):
        body = config_map(name)
        body["metadata"]["labels"]["tier"] = tier
        made(api.post(maps(namespace), json=body))

    def chosen(selector: str) -> list[str]:
        listing = made(api.get(maps(namespace), params={"labelSelector": selector}))
        names = [item["metadata"]["name"] for item in listing["items"]]
        return [name for name in names if name in ("a", "b", "c")]

    assert chosen("tier=back") == ["b", "c"]
    assert chosen("tier!=back") == ["a"]
    assert chosen("tier in (front,other),name") == ["a"]
    assert chosen("tier notin (front),name=c") == ["c"]
    assert chosen("!tier") == []
    answer = api.get(maps(namespace), params={"labelSelector": "a b"})
    assert "unable to parse requirement" in refused(answer, 400, "BadRequest")["message"]


def test_field_selectors_choose(api: httpx.Client, namespace: str) -> None:
    made(api.post(pods(namespace), json=pod("a", nodeName="n1")))
    made(api.post(pods(namespace), json=pod("b")))

    def chosen(selector: str) -> list[str]:
        listing = made(api.get(pods(namespace), params={"fieldSelector": selector}))
        return [item["metadata"]["name"] for item in listing["items"]]

    assert chosen("spec.nodeName=n1") == ["a"]
    assert chosen("spec.nodeName=") == ["b"]
    assert chosen("metadata.name=b,status.phase=Pending") == ["b"]
    assert chosen("status.phase!=Pending") == []
    answer = api.get(pods(namespace), params={"fieldSelector": "spec.wrong=1"})
    assert "field label not supported: spec.wrong" in refused(answer, 400, "BadRequest")["message"]


def test_list_comes_in_pages(api: httpx.Client, namespace: str) -> None:
    names = [f"m{index}" for index in range(5)]
    for name in names:
        made(api.post(maps(namespace), json=config_map(name)))
    found: list[str] = []
    token = ""
    pages = 0
    while True:
        query = {"limit": "2", **({"continue": token} if token else {})}
        listing = made(api.get(maps(namespace), params=query))
        found += [item["metadata"]["name"] for item in listing["items"]]
        pages += 1
        token = listing["metadata"].get("continue", "")
        if not token:
            break
    assert [name for name in found if name in names] == names
    assert pages >= 3


def test_watch_tells_each_change_from_a_version_on(api: httpx.Client, namespace: str) -> None:
    start = made(api.get(maps(namespace)))["metadata"]["resourceVersion"]
    made(api.post(maps(namespace), json=config_map("a", k="1")))
    made(api.patch(maps(namespace, "a"), json={"data": {"k": "2"}}, headers=MERGE))
    made(api.delete(maps(namespace, "a")))
    selector = {"resourceVersion": start, "fieldSelector": "metadata.name=a"}
    events = watch_lines(api, maps(namespace), 3, **selector)
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))


def test_watch_without_a_version_begins_with_what_is_there(
    api: httpx.Client, namespace: str
) -> None:
    made(api.post(pods(namespace), json=pod("a")))
    (event,) = watch_lines(api, pods(namespace), 1)
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")


def test_watch_sees_objects_enter_and_leave_its_selector(api: httpx.Client, namespace: str) -> None:
    start = made(api.get(maps(namespace)))["metadata"]["resourceVersion"]
    made(api.post(maps(namespace), json=config_map("a")))
    for value in ("yes", "no"):
        patch = {"metadata": {"labels": {"wanted": value}}}
        made(api.patch(maps(namespace, "a"), json=patch, headers=MERGE))
    query = {"resourceVersion": start, "labelSelector": "wanted=yes"}
    events = watch_lines(api, maps(namespace), 2, **query)
    assert [event["type"] for event in events] == ["ADDED", "DELETED"]


def test_watch_sends_initial_events_and_their_end(api: httpx.Client, namespace: str) -> None:
    made(api.post(pods(namespace), json=pod("a")))
    query = {
        "sendInitialEvents": "true",
        "allowWatchBookmarks": "true",
        "resourceVersionMatch": "NotOlderThan",
        "resourceVersion": "",
    }
    added, bookmark = watch_lines(api, pods(namespace), 2, **query)
    assert added["type"] == "ADDED"
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_watch_ends_at_its_timeout(api: httpx.Client, namespace: str) -> None:
    query = {"watch": "true", "timeoutSeconds": "1"}
    answer = api.get(pods(namespace), params=query)
    assert answer.status_code == 200
    assert answer.text == ""


def test_bound_pod_stays_until_its_node_lets_it_go(api: httpx.Client, namespace: str) -> None:
    made(api.post(pods(namespace), json=pod("p", nodeName="n1")))
    value = made(api.delete(pods(namespace, "p")))
    assert value["metadata"]["deletionGracePeriodSeconds"] == 30
    assert "deletionTimestamp" in value["metadata"]
    assert "deletionTimestamp" in made(api.get(pods(namespace, "p")))["metadata"]
    made(api.request("DELETE", pods(namespace, "p"), json={"gracePeriodSeconds": 0}))
    refused(api.get(pods(namespace, "p")), 404, "NotFound")


def test_unbound_pod_goes_at_once(api: httpx.Client, namespace: str) -> None:
    made(api.post(pods(namespace), json=pod("p")))
    made(api.delete(pods(namespace, "p")))
    refused(api.get(pods(namespace, "p")), 404, "NotFound")


def test_finalizer_holds_a_deleted_object(api: httpx.Client, namespace: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    made(api.post(maps(namespace), json=body))
    made(api.delete(maps(namespace, "a")))
    assert "deletionTimestamp" in made(api.get(maps(namespace, "a")))["metadata"]
    patch = {"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}
    refused(api.patch(maps(namespace, "a"), json=patch, headers=MERGE), 422, "Invalid")
    patch = {"metadata": {"finalizers": []}}
    made(api.patch(maps(namespace, "a"), json=patch, headers=MERGE))
    refused(api.get(maps(namespace, "a")), 404, "NotFound")


def test_collection_is_deleted_by_selector(api: httpx.Client, namespace: str) -> None:
    for name in ("a", "b"):
        made(api.post(maps(namespace), json=config_map(name)))
    made(api.delete(maps(namespace), params={"labelSelector": "name=a"}))
    refused(api.get(maps(namespace, "a")), 404, "NotFound")
    made(api.get(maps(namespace, "b")))


def test_dry_run_changes_nothing(api: httpx.Client, namespace: str) -> None:
    answer = api.post(maps(namespace), json=config_map("a"), params={"dryRun": "All"})
    assert answer.status_code == 201
    refused(api.get(maps(namespace, "a")), 404, "NotFound")


def test_binding_gives_a_pod_to_a_node_once(api: httpx.Client, namespace: str) -> None:
    made(api.post(pods(namespace), json=pod("p")))
    body = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
    assert api.post(pods(namespace, "p") + "/binding", json=body).status_code == 201
    assert made(api.get(pods(namespace, "p")))["spec"]["nodeName"] == "n1"
    refused(api.post(pods(namespace, "p") + "/binding", json=body), 409, "Conflict")


def test_apply_removes_what_is_left_out_and_finds_conflicts(
    api: httpx.Client, namespace: str
) -> None:
    def apply(manager: str, data: dict[str, str], **more: str) -> httpx.Response:
        body = {**config_map("a"), "data": data}
        del body["metadata"]["labels"]
        query = {"fieldManager": manager, **more}
        return api.patch(
            maps(namespace, "a"), content=json.dumps(body), headers=APPLY, params=query
        )

    assert apply("one", {"x": "1", "y": "1"}).status_code == 201
    assert made(apply("one", {"x": "1"}))["data"] == {"x": "1"}
    status = refused(apply("two", {"x": "2"}), 409, "Conflict")
    assert status["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.x'
    assert made(apply("two", {"x": "2"}, force="true"))["data"] == {"x": "2"}
    assert made(apply("one", {}))["data"] == {"x": "2"}


def test_table_has_the_columns_that_kubectl_users_know(api: httpx.Client, namespace: str) -> None:
    made(api.post(pods(namespace), json=pod("p")))
    table = made(api.get(pods(namespace), headers=TABLE))
    assert table["kind"] == "Table"
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names[:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
    (row,) = table["rows"]
    assert row["cells"][:3] == ["p", "0/1", "Pending"]
    assert row["object"]["kind"] == "PartialObjectMetadata"


def test_both_event_groups_show_the_same_event(api: httpx.Client, namespace: str) -> None:
    body = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": namespace},
        "reason": "Tested",
        "message": "hello",
        "type": "Normal",
    }
    made(api.post(f"/api/v1/namespaces/{namespace}/events", json=body))
    value = made(api.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e"))
    assert value["apiVersion"] == "events.k8s.io/v1"
    assert value["note"] == "hello"
    assert value["regarding"]["name"] == "p"


def test_lease_is_renewed(api: httpx.Client, namespace: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    body = {"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}}
    held = made(api.post(path, json=body))
    held["spec"]["renewTime"] = "2026-01-01T00:00:10.000000Z"
    value = made(api.put(f"{path}/l", json=held))
    assert value["spec"]["renewTime"] == "2026-01-01T00:00:10.000000Z"


def test_namespace_goes_with_its_contents(api: httpx.Client, namespace: str) -> None:
    made(api.post(maps(namespace), json=config_map("a")))
    start = made(api.get(f"/api/v1/namespaces/{namespace}"))["metadata"]["resourceVersion"]
    made(api.delete(f"/api/v1/namespaces/{namespace}"))
    query = {"fieldSelector": f"metadata.name={namespace}", "resourceVersion": start}
    events = watch_lines(
        api, "/api/v1/namespaces", lambda event: event["type"] == "DELETED", **query
    )
    assert events[0]["object"]["status"]["phase"] == "Terminating"
    refused(api.get(maps(namespace, "a")), 404, "NotFound")
    refused(api.get(f"/api/v1/namespaces/{namespace}"), 404, "NotFound")


def test_request_without_credentials_is_refused(api: httpx.Client) -> None:
    answer = api.get("/api/v1/nodes", headers={"authorization": "Bearer wrong"})
    refused(answer, 401, "Unauthorized")


def test_health_is_open_and_version_is_known(api: httpx.Client) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert api.get(path).text == "ok"
    assert made(api.get("/version"))["major"] == "1"


def test_version_from_the_future_is_told(api: httpx.Client, namespace: str) -> None:
    query = {"resourceVersion": "999999999", "resourceVersionMatch": "NotOlderThan"}
    status = refused(api.get(maps(namespace), params=query), 504, "Timeout")
    assert "Too large resource version" in status["message"]
