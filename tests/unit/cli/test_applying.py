import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from fedge_cli.applying import Applied, DryRun, apply, apply_objects
from fedge_cli.errors import AwayError, CommandError
from fedge_cli.merging import LAST_APPLIED
from tests.unit.cli.server import Answer, Server, body_of, not_found

MAPS = "/api/v1/namespaces/default/configmaps"


def live(name: str = "a", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", "resourceVersion": "7"},
        "data": data,
    }


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "m.yaml"
    path.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1'}\n")
    return str(path)


def lines(server: Server, path: str, **more: Any) -> list[str]:
    with server.api() as api:
        found = list(apply_objects(api, path, default_namespace="default", **more))
    return [str(each) for each in found]


def patched(request: httpx.Request) -> Answer:
    body = body_of(request)
    return {**body, "metadata": {**body["metadata"], "resourceVersion": "8", "managedFields": []}}


def test_new_object_is_created_by_server_side_apply(manifest: str) -> None:
    server = Server({f"PATCH {MAPS}/a": patched})
    assert lines(server, manifest) == ["configmap/a created"]
    patch = server.requests[-1]
    assert patch.headers["Content-Type"] == "application/apply-patch+yaml"
    assert dict(patch.url.params) == {
        "fieldManager": "fedge", "fieldValidation": "Strict", "force": "true",
    }  # fmt: skip
    assert body_of(patch)["metadata"]["namespace"] == "default"


@pytest.mark.parametrize(("data", "did"), [("1", "unchanged"), ("2", "configured")])
def test_object_that_is_there_is_configured_or_unchanged(
    manifest: str, data: str, did: str
) -> None:
    server = Server({f"GET {MAPS}/a": live(x=data), f"PATCH {MAPS}/a": patched})
    assert lines(server, manifest) == [f"configmap/a {did}"]


def test_refused_object_stops_no_other_and_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
    path.write_text(
        f"{one % 'bad'}---\n{one % 'a'}---\napiVersion: v2\nkind: Pot\nmetadata: {{name: x}}\n"
    )
    server = Server(
        {
            f"PATCH {MAPS}/bad": (422, {"reason": "Invalid", "message": "data is too long"}),
            f"PATCH {MAPS}/a": patched,
        }
    )
    assert [each.replace(f"{tmp_path}/", "") for each in lines(server, str(path))] == [
        "m.yaml, document 1 (line 1): Error from server (Invalid): data is too long",
        "configmap/a created",
        (
            'm.yaml, document 3 (line 9): no matches for kind "Pot" in version "v2": '
            "ensure CRDs are installed first"
        ),
    ]


def test_object_that_a_refusal_quotes_is_left_out(manifest: str) -> None:
    quoted = json.dumps(json.dumps({"password": 'se"cret'}))
    message = f'"" is invalid: patch: Invalid value: {quoted}: unknown field "datas"'
    server = Server({f"PATCH {MAPS}/a": (422, {"reason": "Invalid", "message": message})})
    [line] = lines(server, manifest)
    assert line.endswith('patch: Invalid value: "{...}": unknown field "datas"')


def test_busy_server_is_told_of_one_object_and_a_dead_one_ends_it_all(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
    path.write_text(f"{one % 'a'}---\n{one % 'b'}")
    busy = (503, {"reason": "ServiceUnavailable", "message": "busy"})
    server = Server({f"PATCH {MAPS}/a": busy, f"PATCH {MAPS}/b": patched})
    assert lines(server, str(path))[1] == "configmap/b created"

    def broken(request: httpx.Request) -> Answer:
        raise httpx.ConnectError("refused", request=request)

    server.routes[f"PATCH {MAPS}/a"] = broken
    with pytest.raises(AwayError, match=r"http://api.test does not answer: refused.*make demo"):
        lines(server, str(path))


def test_dry_run_of_the_client_sends_nothing(manifest: str) -> None:
    server = Server({f"GET {MAPS}/a": live(x="2")})
    assert lines(server, manifest, dry_run=DryRun.CLIENT) == ["configmap/a configured (dry run)"]
    assert {each.method for each in server.requests} == {"GET"}


def test_dry_run_of_the_server_says_so_to_the_server(manifest: str) -> None:
    server = Server({f"PATCH {MAPS}/a": patched})
    assert lines(server, manifest, dry_run=DryRun.SERVER) == [
        "configmap/a created (server dry run)"
    ]
    assert server.requests[-1].url.params["dryRun"] == "All"


def test_namespace_that_contradicts_the_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: one}\n")
    [line] = lines(Server(), str(path), namespace="two")
    assert 'the namespace from the provided object "one" does not match' in line


def test_server_without_server_side_apply_gets_a_creation(manifest: str) -> None:
    server = Server(
        {f"PATCH {MAPS}/a": (415, {"message": "no"}), f"POST {MAPS}": lambda r: (201, body_of(r))}
    )
    assert lines(server, manifest) == ["configmap/a created"]
    created = body_of(server.requests[-1])
    last = json.loads(created["metadata"]["annotations"][LAST_APPLIED])
    assert last["data"] == {"x": "1"}


def test_server_without_server_side_apply_gets_a_merge_patch(manifest: str) -> None:
    before = live(x="0", dropped="1", others="2")
    last = {"data": {"x": "0", "dropped": "1"}}
    before["metadata"]["annotations"] = {LAST_APPLIED: json.dumps(last)}

    def respond(request: httpx.Request) -> Answer:
        if request.headers["Content-Type"] != "application/merge-patch+json":
            return 415, {"message": "no"}
        assert body_of(request)["data"] == {"x": "1", "dropped": None}
        return live(x="1", others="2")

    server = Server({f"GET {MAPS}/a": before, f"PATCH {MAPS}/a": respond})
    assert lines(server, manifest) == ["configmap/a configured"]


def test_lines_are_for_who_wants_text_only(manifest: str) -> None:
    server = Server({f"PATCH {MAPS}/a": patched, f"GET {MAPS}/a": not_found("a")})
    with server.api() as api:
        assert list(apply(api, manifest, namespace="default")) == ["configmap/a created"]
        [found] = apply_objects(api, manifest, default_namespace="default")
    assert isinstance(found, Applied)
    assert not isinstance(found, CommandError)
