"""What the node was given can be read at the edge, by those who may."""

import json
import shutil

import pytest

from fedge_kube import CONFIG_MAPS, PODS, ROLE_BINDINGS, SECRETS
from tests.integration.bad_input.system import NODE
from tests.integration.edge_api.conftest import Edge, config_map, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")
MAPS = "/api/v1/namespaces/default/configmaps"


async def test_what_a_pod_needs_is_shown_at_the_edge(edge: Edge) -> None:
    await edge.kube.create(CONFIG_MAPS, config_map("settings", mode="day"))
    mounted = {"name": "settings", "configMap": {"name": "settings"}}
    await edge.kube.create(PODS, pod("reader", volumes=[mounted]))

    await edge.becomes(lambda: edge.is_running("reader"))
    shown = await edge.get("/api/v1/namespaces/default/configmaps/settings")
    assert shown["data"] == {"mode": "day"}
    await edge.becomes(lambda: edge.shows(f"/api/v1/nodes/{NODE}"))
    assert (await edge.get(f"/api/v1/nodes/{NODE}"))["status"]["conditions"]
    await edge.becomes(lambda: edge.shows("/api/v1/namespaces/default"))
    assert (await edge.get("/api/v1/namespaces/default"))["status"]["phase"] == "Active"


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on the path")
async def test_kubectl_works_at_the_edge_with_the_cloud_away(edge: Edge) -> None:
    await edge.system.stop("hub")
    try:
        assert "Running" in await edge.kubectl("get", "pods")
        assert "Ready" in await edge.kubectl("get", "nodes")
        assert "settings" in await edge.kubectl("get", "configmaps", "-A")
        described = await edge.kubectl("describe", "pod", "reader")
        assert "Started" in described
        assert "configmaps" in await edge.kubectl("api-resources")
        assert "FIELDS" in await edge.kubectl("explain", "configmap")
        found = json.loads(await edge.kubectl("get", "pods", "-o", "json"))
        assert [each["metadata"]["name"] for each in found["items"]] == ["reader"]
        assert "yes" in await edge.kubectl("auth", "can-i", "list", "pods")
    finally:
        await edge.system.start("hub")


async def test_roles_of_the_cloud_decide_at_the_edge(edge: Edge) -> None:
    may_read = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}
    token = await edge.program("judged", may_read)
    await edge.kube.create(CONFIG_MAPS, config_map("unmounted", a="b"))
    await edge.kube.create(SECRETS, {
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "key", "namespace": "default"}, "data": {"k": "czNjcmV0"},
    })  # fmt: skip
    await edge.kube.create(PODS, pod("holder", volumes=[
        {"name": "key", "secret": {"secretName": "key"}}
    ]))  # fmt: skip
    await edge.becomes(lambda: edge.is_running("holder"))
    access = await edge.access_of("judged")
    assert (access / "namespace").read_text() == "default"
    # a pod trusts the edge's API as it would the cluster's
    assert (access / "ca.crt").read_text() == (edge.system.edge_api / "ca.crt").read_text()
    await edge.system.stop("hub")
    try:
        async with edge.client(token) as program:
            # all that its role lets it read is here, though no pod names it
            listed = (await program.get(MAPS)).json()
            names = {each["metadata"]["name"] for each in listed["items"]}
            assert {"settings", "unmounted"} <= names
            answer = await program.get("/api/v1/namespaces/default/secrets/key")
            assert answer.status_code == 403
            assert 'cannot get resource "secrets"' in answer.json()["message"]
            assert (await program.get("/api/v1/pods")).status_code == 403
            assert (await program.get("/apis")).status_code == 200
            who = await program.post(
                "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                json={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
            )
            user = who.json()["status"]["userInfo"]
            assert user["username"] == "system:serviceaccount:default:judged"
        async with edge.client(token[:-4] + "AAAA") as stranger:
            assert (await stranger.get(MAPS)).status_code == 401
        # root may see it, and it is readable though it lies sealed on the disk
        assert (await edge.get("/api/v1/namespaces/default/secrets/key"))["data"] == {
            "k": "czNjcmV0"
        }
        assert b"czNjcmV0" not in (edge.system.edge_api.parent / "meta.db").read_bytes()
    finally:
        await edge.system.start("hub")


async def test_rights_are_withdrawn_with_their_binding(edge: Edge) -> None:
    may_read = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    token = await edge.program("fired", may_read)
    async with edge.client(token) as program:
        assert (await program.get(MAPS)).status_code == 200
        await edge.kube.delete(ROLE_BINDINGS, "default", "fired")

        async def is_refused() -> bool:
            return (await program.get(MAPS)).status_code == 403

        await edge.becomes(is_refused)
        await edge.kube.delete(PODS, "default", "fired", grace_seconds=0)

        async def is_unknown() -> bool:
            return (await program.get(MAPS)).status_code == 401

        # the token ends with its pod
        await edge.becomes(is_unknown)


async def test_watch_goes_on_where_it_was_and_hears_gone_after_a_restart(edge: Edge) -> None:
    listed = await edge.get(MAPS)
    since = listed["metadata"]["resourceVersion"]
    query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": "20"}
    async with edge.root.stream("GET", MAPS, params=query) as stream:
        assert stream.status_code == 200
        lines = stream.aiter_lines()
        await edge.kube.patch(CONFIG_MAPS, "default", "settings", {"data": {"mode": "night"}})
        event = json.loads(await anext(lines))
        assert (event["type"], event["object"]["data"]) == ("MODIFIED", {"mode": "night"})
        seen = event["object"]["metadata"]["resourceVersion"]
    await edge.kube.patch(CONFIG_MAPS, "default", "settings", {"data": {"mode": "dusk"}})

    async def is_dusk() -> bool:
        return bool((await edge.get(f"{MAPS}/settings"))["data"] == {"mode": "dusk"})

    await edge.becomes(is_dusk)
    query["resourceVersion"] = seen
    async with edge.root.stream("GET", MAPS, params=query) as stream:
        event = json.loads(await anext(stream.aiter_lines()))
        assert event["object"]["data"] == {"mode": "dusk"}
    await edge.system.stop("meta")
    await edge.system.start("meta")
    await edge.becomes(edge.answers)
    async with edge.root.stream("GET", MAPS, params=query) as stream:
        assert stream.status_code == 410
    again = await edge.get(MAPS)
    assert int(again["metadata"]["resourceVersion"]) > int(seen)


async def test_what_the_edge_does_not_have_is_said(edge: Edge) -> None:
    for path, code in (
        ("/apis/apps/v1/deployments", 404),
        ("/apis/apps", 404),
        (f"/api/v1/nodes/{NODE}/proxy/status", 501),
        ("/api/v1/namespaces/default/pods/reader/exec?command=true", 501),
        ("/api/v1/namespaces/default/pods/none/log", 404),
    ):
        answer = await edge.root.get(path)
        assert answer.status_code == code, path
        assert answer.json()["kind"] == "Status"
    anonymous = await edge.root.get(MAPS, headers={"authorization": ""})
    assert anonymous.status_code == 401


async def test_token_is_reviewed_at_the_edge(edge: Edge) -> None:
    token = await edge.program("reviewed")
    body = {
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
    }  # fmt: skip
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    await edge.system.stop("hub")
    try:
        answer = await edge.root.post(path, json=body)
        assert answer.status_code == 201
        status = answer.json()["status"]
        assert status["authenticated"]
        assert status["user"]["username"] == "system:serviceaccount:default:reviewed"
        body["spec"] = {"token": f"{token}x"}
        assert "error" in (await edge.root.post(path, json=body)).json()["status"]
        async with edge.client(token) as program:
            assert (await program.post(path, json=body)).status_code == 403
    finally:
        await edge.system.start("hub")


async def test_device_shows_what_it_says_here(edge: Edge) -> None:
    devices = "/apis/devices.kubeedge.io/v1beta1/namespaces/default"
    await edge.device("thermometer-1")
    await edge.becomes(lambda: edge.shows(f"{devices}/devices/thermometer-1"))
    await edge.becomes(lambda: edge.shows(f"{devices}/devicestatuses/thermometer-1"))
    status = (await edge.get(f"{devices}/devicestatuses/thermometer-1"))["status"]
    assert [each["propertyName"] for each in status["twins"]]
    assert (await edge.get(f"{devices}/devicemodels"))["items"]
    table = await edge.root.get(
        f"{devices}/devices", headers={"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    )
    assert table.json()["rows"][0]["cells"][:2] == ["thermometer-1", NODE]
