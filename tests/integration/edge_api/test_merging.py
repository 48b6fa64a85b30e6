"""What the controller makes of writes that come late, twice, or against the cloud's own changes."""

import dataclasses
import json
import uuid
from typing import Any

import pytest
import pytest_asyncio

from fedge_controller.merging import Merging, Outcome
from fedge_fabric.writes import CONFLICT, WRITTEN, ObjectChange
from fedge_kube import CONFIG_MAPS, EVENTS, ROLE_BINDINGS, ROLES, SECRETS, NotFoundError
from tests.integration.bad_input.system import NODE
from tests.integration.edge_api.conftest import Edge, config_map

pytestmark = pytest.mark.asyncio(loop_scope="module")
GROUP = "rbac.authorization.k8s.io"
ALL = ("get", "create", "update", "patch", "delete")


class Author:
    """An account that writes, with a role of its own."""

    def __init__(self, edge: Edge, name: str) -> None:
        self.edge = edge
        self.name = name
        self._merging = Merging(edge.kube)

    async def may(self, *verbs: str) -> None:
        metadata = {"name": self.name, "namespace": "default"}
        rule = {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": list(verbs)}
        role = {"apiVersion": f"{GROUP}/v1", "kind": "Role", "metadata": metadata}
        await self.edge.kube.create(ROLES, {**role, "rules": [rule]})
        subject = {"kind": "ServiceAccount", "name": self.name, "namespace": "default"}
        await self.edge.kube.create(ROLE_BINDINGS, {
            "apiVersion": f"{GROUP}/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": self.name},
            "subjects": [subject],
        })  # fmt: skip

    async def does(
        self,
        verb: str,
        base: dict[str, Any] | None,
        wanted: dict[str, Any] | None,
        write_id: str = "",
    ) -> Outcome:
        obj = wanted or base or {}
        change = ObjectChange(
            verb=verb, group="", version="v1",
            plural="secrets" if obj["kind"] == "Secret" else "configmaps",
            namespace="default", name=obj["metadata"]["name"], base=base, wanted=wanted,
        )  # fmt: skip
        user = f"system:serviceaccount:default:{self.name}"
        return await self._merging.merge(
            user, change, node=NODE, write_id=write_id or uuid.uuid4().hex
        )


@pytest_asyncio.fixture(loop_scope="module")
async def author(edge: Edge) -> Author:
    made = Author(edge, f"author-{uuid.uuid4().hex[:8]}")
    await made.may(*ALL)
    return made


async def held(edge: Edge, name: str) -> dict[str, Any]:
    return await edge.kube.get(CONFIG_MAPS, "default", name)


async def told(edge: Edge, name: str) -> list[str]:
    events = (await edge.kube.list(EVENTS)).items
    return [each["reason"] for each in events if each["involvedObject"]["name"] == name]


async def test_write_that_was_made_is_not_made_again(edge: Edge, author: Author) -> None:
    first = config_map("again", a="1")
    assert (await author.does("create", None, first, "w1")).code == 201
    made = await held(edge, "again")
    assert made["metadata"]["annotations"][WRITTEN] == f"{NODE}/w1"
    # the answer was lost: the same comes again
    assert (await author.does("create", None, first, "w1")).code == 200
    assert (await held(edge, "again"))["metadata"]["uid"] == made["metadata"]["uid"]
    # and again, after somebody in the cloud has changed what was made
    await edge.kube.patch(CONFIG_MAPS, "default", "again", {"data": {"a": "cloud"}})
    assert (await author.does("create", None, first, "w1")).code == 200
    changed = await held(edge, "again")
    assert changed["data"] == {"a": "cloud"}
    wanted = {**changed, "data": {"a": "cloud", "b": "2"}}
    for _ in range(2):
        assert (await author.does("patch", changed, wanted, "w2")).code == 200
    after = await held(edge, "again")
    assert (after["data"], CONFLICT in after["metadata"]["annotations"]) == (wanted["data"], False)
    for _ in range(2):
        assert (await author.does("delete", after, None, "w3")).code == 200
    with pytest.raises(NotFoundError):
        await held(edge, "again")
    assert await told(edge, "again") == []


async def test_what_one_side_changed_holds(edge: Edge, author: Author) -> None:
    base = await edge.kube.create(CONFIG_MAPS, config_map("sides", a="1", b="1", c="1"))
    await edge.kube.patch(CONFIG_MAPS, "default", "sides", {
        "data": {"b": "cloud", "c": None}, "metadata": {"labels": {"by": "cloud"}},
    })  # fmt: skip
    wanted = {**base, "data": {"a": "edge", "b": "1", "c": "1", "d": "edge"}}
    assert (await author.does("update", base, wanted)).code == 200
    after = await held(edge, "sides")
    assert after["data"] == {"a": "edge", "b": "cloud", "d": "edge"}
    assert after["metadata"]["labels"] == {"by": "cloud"}


@pytest.mark.parametrize("verb", ["update", "patch"])
async def test_conflict_changes_nothing_but_the_mark(edge: Edge, author: Author, verb: str) -> None:
    name = f"rivals-{verb}"
    base = await edge.kube.create(CONFIG_MAPS, config_map(name, a="1", b="1"))
    await edge.kube.patch(CONFIG_MAPS, "default", name, {"data": {"a": "cloud"}})
    wanted = {**base, "data": {"a": "edge", "b": "edge"}}
    for _ in range(2):
        outcome = await author.does(verb, base, wanted, "same")
        assert outcome.code == 409
        assert outcome.conflict == ({"path": "data.a", "edge": "edge", "cloud": "cloud"},)
    after = await held(edge, name)
    assert after["data"] == {"a": "cloud", "b": "1"}
    mark = json.loads(after["metadata"]["annotations"][CONFLICT])
    assert (mark["node"], mark["type"], mark["write"]) == (NODE, "Conflict", f"{NODE}/same")
    assert await told(edge, name) == ["EdgeWriteConflict"]
    # the next one that is made ends it
    again = {**after, "data": {"a": "edge", "b": "1"}}
    assert (await author.does(verb, after, again)).code == 200
    ended = await held(edge, name)
    assert ended["data"] == {"a": "edge", "b": "1"}
    assert CONFLICT not in ended["metadata"]["annotations"]


async def test_deletion_and_change_contradict_each_other(edge: Edge, author: Author) -> None:
    base = await edge.kube.create(CONFIG_MAPS, config_map("kept", a="1"))
    await edge.kube.patch(CONFIG_MAPS, "default", "kept", {"data": {"a": "2"}})
    outcome = await author.does("delete", base, None)
    assert (outcome.code, outcome.conflict[0]["edge"]) == (409, None)
    assert (await held(edge, "kept"))["data"] == {"a": "2"}
    gone = await edge.kube.create(CONFIG_MAPS, config_map("gone", a="1"))
    await edge.kube.delete(CONFIG_MAPS, "default", "gone")
    outcome = await author.does("update", gone, {**gone, "data": {"a": "2"}})
    assert outcome.code == 409
    assert outcome.conflict == ({"path": "gone", "edge": {"data": {"a": "2"}}, "cloud": None},)
    assert await told(edge, "gone") == ["EdgeWriteConflict"]
    # made anew by somebody else meanwhile: that is not what was to go
    await edge.kube.create(CONFIG_MAPS, config_map("gone", a="new"))
    assert (await author.does("delete", gone, None)).code == 200
    assert (await held(edge, "gone"))["data"] == {"a": "new"}


async def test_made_on_both_sides(edge: Edge, author: Author) -> None:
    await edge.kube.create(CONFIG_MAPS, config_map("twice", a="1"))
    assert (await author.does("create", None, config_map("twice", a="1"))).code == 200
    assert (await author.does("create", None, config_map("twice", b="2"))).code == 200
    assert (await held(edge, "twice"))["data"] == {"a": "1", "b": "2"}
    outcome = await author.does("create", None, config_map("twice", a="other"))
    assert (outcome.code, outcome.conflict[0]["path"]) == (409, "data.a")


async def test_refusal_is_told_with_its_reason(edge: Edge) -> None:
    blind = Author(edge, "blind")
    await blind.may("patch")
    base = await edge.kube.create(CONFIG_MAPS, config_map("unseen", a="1"))
    outcome = await blind.does("patch", base, {**base, "data": {"a": "2"}})
    assert outcome.code == 403
    assert 'cannot get resource "configmaps"' in json.loads(outcome.body)["message"]
    assert await told(edge, "unseen") == ["EdgeWriteRefused"]


async def test_values_of_secrets_are_told_nobody(edge: Edge, author: Author) -> None:
    metadata = {"name": "hidden", "namespace": "default"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"k": "b25l"}}
    base = await edge.kube.create(SECRETS, secret)
    await edge.kube.patch(SECRETS, "default", "hidden", {"data": {"k": "dHdv"}})
    outcome = await author.does("update", base, {**base, "data": {"k": "dHJl"}})
    assert outcome.conflict == ({"path": "data.k", "edge": "(not shown)", "cloud": "(not shown)"},)
    events = json.dumps([dataclasses.asdict(outcome), (await edge.kube.list(EVENTS)).items])
    assert "dHdv" not in events
    assert "dHJl" not in events
