"""Writes at the edge: through to the cloud while it answers, else kept, shown and merged."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from fedge_fabric.writes import CONFLICT, WRITTEN
from fedge_kube import CONFIG_MAPS, EVENTS, NotFoundError
from tests.integration.edge_api.conftest import Edge, config_map

pytestmark = pytest.mark.asyncio(loop_scope="module")
MAPS = "/api/v1/namespaces/default/configmaps"
PENDING = "fedge.io/pending"
MERGE = {"content-type": "application/merge-patch+json"}
EVERYTHING = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}


async def in_cloud(edge: Edge, name: str) -> dict[str, Any] | None:
    try:
        return await edge.kube.get(CONFIG_MAPS, "default", name)
    except NotFoundError:
        return None


def is_pending(obj: dict[str, Any]) -> bool:
    return PENDING in (obj["metadata"].get("annotations") or {})


async def settles(edge: Edge, program: httpx.AsyncClient, name: str) -> dict[str, Any]:
    """Return an object as the edge shows it once nothing of it waits any more."""
    found: dict[str, Any] = {}

    async def has_settled() -> bool:
        answer = await program.get(f"{MAPS}/{name}")
        found.update(answer.json())
        return answer.status_code == 200 and not is_pending(found)

    await edge.becomes(has_settled)
    return found


async def test_write_goes_through_to_the_cloud_and_is_read_back_here(edge: Edge) -> None:
    token = await edge.program("online", EVERYTHING)
    async with edge.client(token) as program:
        made = await program.post(MAPS, json=config_map("online", a="1"))
        assert made.status_code == 201, made.text
        held = await in_cloud(edge, "online")
        assert held is not None
        assert held["data"] == {"a": "1"}
        assert not is_pending(made.json())
        shown = (await program.get(f"{MAPS}/online")).json()
        # what is shown can be put back at once, with the revision that this API counts
        shown["data"]["a"] = "2"
        put = await program.put(f"{MAPS}/online", json=shown)
        assert put.status_code == 200, put.text
        # and again, with what was answered
        again = {**put.json(), "data": {"a": "3"}}
        assert (await program.put(f"{MAPS}/online", json=again)).status_code == 200
        # an older state is refused, as by any API
        late = await program.put(f"{MAPS}/online", json=shown)
        assert (late.status_code, late.json()["reason"]) == (409, "Conflict")
        patched = await program.patch(f"{MAPS}/online", json={"data": {"b": "4"}}, headers=MERGE)
        assert patched.status_code == 200, patched.text
        assert (await in_cloud(edge, "online") or {})["data"] == {"a": "3", "b": "4"}
        assert (await program.get(f"{MAPS}/online")).json()["data"] == {"a": "3", "b": "4"}
        assert (await program.delete(f"{MAPS}/online")).status_code == 200
        assert await in_cloud(edge, "online") is None
        assert (await program.get(f"{MAPS}/online")).status_code == 404


async def test_cloud_decides_by_its_own_roles_as_for_that_user(edge: Edge) -> None:
    token = await edge.program("bounded", {**EVERYTHING, "verbs": ["get", "list"]})
    async with edge.client(token) as program:
        refused = await program.post(MAPS, json=config_map("forbidden"))
        assert refused.status_code == 403
        said = refused.json()["message"]
        assert 'User "system:serviceaccount:default:bounded" cannot create' in said
        wrong = await edge.root.post(MAPS, json=config_map("forbidden"))
        assert wrong.status_code == 403
        assert "system:serviceaccount:fedge-nodes:edge-1" in wrong.text
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}
        answer = await program.post("/api/v1/namespaces/default/secrets", json=secret)
        assert answer.status_code == 403


async def test_write_with_the_cloud_away_is_kept_shown_and_merged(edge: Edge) -> None:
    token = await edge.program("offline", EVERYTHING)
    async with edge.client(token) as program:
        assert (await program.post(MAPS, json=config_map("state", n="0"))).status_code == 201
        await settles(edge, program, "state")
        await edge.system.stop("hub")
        try:
            answer = await program.patch(f"{MAPS}/state", json={"data": {"n": "1"}}, headers=MERGE)
            assert answer.status_code == 200, answer.text
            assert is_pending(answer.json())
            made = await program.post(MAPS, json=config_map("fresh", k="v"))
            assert made.status_code == 201
            assert is_pending(made.json())
            assert (await program.get(f"{MAPS}/state")).json()["data"] == {"n": "1"}
            # revisions count on: what was answered can be put back
            put = await program.put(f"{MAPS}/fresh", json={**made.json(), "data": {"k": "w"}})
            assert put.status_code == 200, put.text
            stale = await program.put(f"{MAPS}/fresh", json=made.json())
            assert stale.status_code == 409
            unknown = await program.post(MAPS, json={**config_map("bad"), "data": {"a": 1}})
            assert unknown.status_code == 400
            names = [each["metadata"]["name"] for each in (await program.get(MAPS)).json()["items"]]
            assert "fresh" in names
            # killed with all of it: it is on the disk
            await edge.system.stop("meta")
            await edge.system.start("meta")
            await edge.becomes(edge.answers)
            assert (await program.get(f"{MAPS}/fresh")).json()["data"] == {"k": "w"}
        finally:
            # the cloud changes another field meanwhile
            await edge.kube.patch(CONFIG_MAPS, "default", "state", {"data": {"cloud": "yes"}})
            await edge.system.start("hub")
        shown = await settles(edge, program, "state")
        assert shown["data"] == {"n": "1", "cloud": "yes"}
        assert (await settles(edge, program, "fresh"))["data"] == {"k": "w"}
        state, fresh = await in_cloud(edge, "state"), await in_cloud(edge, "fresh")
        assert state is not None
        assert state["data"] == {"n": "1", "cloud": "yes"}
        assert fresh is not None
        assert fresh["data"] == {"k": "w"}
        assert fresh["metadata"]["annotations"][WRITTEN].startswith("edge-1/")


async def test_write_behind_one_that_waits_keeps_their_order(edge: Edge) -> None:
    token = await edge.program("orderly", EVERYTHING)
    async with edge.client(token) as program:
        assert (await program.post(MAPS, json=config_map("turns", n="0"))).status_code == 201
        await settles(edge, program, "turns")
        await edge.system.stop("hub")
        assert (await program.delete(f"{MAPS}/turns")).status_code == 200
        assert (await program.get(f"{MAPS}/turns")).status_code == 404
        # whether the cloud is back by then or not
        starting = asyncio.create_task(edge.system.start("hub"))
        made = await program.post(MAPS, json=config_map("turns", n="1"))
        await starting
        assert made.status_code == 201, made.text
        assert (await settles(edge, program, "turns"))["data"] == {"n": "1"}
        held = await in_cloud(edge, "turns")
        assert held is not None
        assert held["data"] == {"n": "1"}


async def test_conflict_is_a_mark_and_an_event_with_both_versions(edge: Edge) -> None:
    token = await edge.program("rival", EVERYTHING)
    async with edge.client(token) as program:
        assert (await program.post(MAPS, json=config_map("both", mode="day"))).status_code == 201
        await settles(edge, program, "both")
        await edge.system.stop("hub")
        try:
            body = {"data": {"mode": "edge-mode"}}
            answer = await program.patch(f"{MAPS}/both", json=body, headers=MERGE)
            assert answer.status_code == 200
            await edge.kube.patch(CONFIG_MAPS, "default", "both", {"data": {"mode": "cloud-mode"}})
        finally:
            await edge.system.start("hub")
        await settles(edge, program, "both")

        async def is_marked() -> bool:
            shown = (await program.get(f"{MAPS}/both")).json()
            return CONFLICT in (shown["metadata"].get("annotations") or {})

        await edge.becomes(is_marked)
        held = await in_cloud(edge, "both")
        assert held is not None
        assert held["data"] == {"mode": "cloud-mode"}
        mark = json.loads(held["metadata"]["annotations"][CONFLICT])
        assert mark["type"] == "Conflict"
        assert mark["fields"] == [{"path": "data.mode", "edge": "edge-mode", "cloud": "cloud-mode"}]
        told = [
            each
            for each in (await edge.kube.list(EVENTS)).items
            if each["reason"] == "EdgeWriteConflict"
        ]
        assert len(told) == 1
        assert "edge-mode" in told[0]["message"]
        assert "cloud-mode" in told[0]["message"]
        here = await edge.get("/api/v1/namespaces/default/events")
        assert any(each["reason"] == "EdgeWriteConflict" for each in here["items"])
        # the next write that is made ends it
        put = await program.patch(f"{MAPS}/both", json={"data": {"mode": "x"}}, headers=MERGE)
        assert put.status_code == 200


async def test_what_cannot_be_taken_offline_is_refused_with_its_reason(edge: Edge) -> None:
    rules = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    token = await edge.program("stubborn", rules)
    await edge.system.stop("hub")
    try:
        async with edge.client(token) as program:
            for answer in (
                await program.delete("/api/v1/namespaces/default/pods/stubborn"),
                await program.post(
                    "/api/v1/namespaces/default/serviceaccounts/stubborn/token", json={}
                ),
            ):
                assert answer.status_code == 503, answer.text
                assert answer.headers["retry-after"] == "10"
                assert answer.json()["reason"] == "ServiceUnavailable"
                assert "the cloud does not answer" in answer.json()["message"]
            labels = {"metadata": {"labels": {"tried": "yes"}}}
            pod = "/api/v1/namespaces/default/pods/stubborn"
            taken = await program.patch(pod, json=labels, headers=MERGE)
            assert taken.status_code == 200, taken.text
            assert taken.json()["metadata"]["labels"] == {"tried": "yes"}
    finally:
        await edge.system.start("hub")
