from pathlib import Path
from typing import Any

import httpx
import pytest

from fedge_cli.deleting import Manner, Target, delete_all, targets_in
from fedge_cli.errors import AwayError, CommandError
from tests.unit.cli.server import Answer, Server, body_of

PODS = "/api/v1/namespaces/default/pods"


def pod(name: str, uid: str = "u1") -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid}, "spec": {"nodeName": "far"}}


def deleted(server: Server, *names: str, **manner: Any) -> list[str | CommandError]:
    with server.api() as api:
        kind = api.find_type("pods")
        targets = [Target(kind=kind, namespace="default", name=name) for name in names]
        return list(delete_all(api, targets, Manner(**{"wait_seconds": None, **manner})))


def test_object_that_is_not_there_keeps_no_other_from_going() -> None:
    server = Server({f"GET {PODS}/a": pod("a"), f"DELETE {PODS}/a": {}})
    error, line = deleted(server, "no", "a")
    assert isinstance(error, CommandError)
    assert error.exit_code == 3
    assert line == 'pod "a" deleted'


@pytest.mark.parametrize(
    ("grace", "word"), [(None, "deleted"), (1, "deleted"), (0, "force deleted")]
)
def test_grace_is_sent_as_asked_and_the_uid_goes_along(grace: int | None, word: str) -> None:
    server = Server({f"GET {PODS}/a": pod("a"), f"DELETE {PODS}/a": {}})
    assert deleted(server, "a", grace_seconds=grace) == [f'pod "a" {word}']
    body = body_of(server.requests[-1])
    assert body.get("gracePeriodSeconds") == grace
    assert body["preconditions"] == {"uid": "u1"}


def waited(items: list[dict[str, Any]], events: str = "") -> Server:
    """A server whose list holds ``items`` and whose watch ends after ``events``."""

    class Watched(Server):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if "watch" in request.url.params:
                return httpx.Response(200, content=events)
            return super().__call__(request)

    return Watched(
        {
            f"GET {PODS}/a": pod("a"),
            f"DELETE {PODS}/a": {},
            f"GET {PODS}": {"metadata": {"resourceVersion": "7"}, "items": items},
        }
    )


def test_waiting_ends_when_the_object_is_gone() -> None:
    gone = '{"type": "DELETED", "object": {"metadata": {"name": "a", "uid": "u1"}}}\n'
    assert deleted(waited([pod("a")], gone), "a", wait_seconds=5.0) == ['pod "a" deleted']


def test_waiting_ends_when_another_has_the_name() -> None:
    assert deleted(waited([pod("a", "u2")]), "a", wait_seconds=5.0) == ['pod "a" deleted']


def test_pod_that_stays_because_its_node_is_away_is_told_with_the_remedy() -> None:
    server = waited([pod("a")])
    condition = {"type": "Ready", "status": "Unknown", "lastHeartbeatTime": "2020-01-01T00:00:00Z"}
    server.routes["GET /api/v1/nodes/far"] = {
        "metadata": {"name": "far"}, "status": {"conditions": [condition]},
    }  # fmt: skip
    done, error = deleted(server, "a", wait_seconds=0.05)
    assert done == 'pod "a" deleted'
    assert isinstance(error, AwayError)
    assert "node 'far' has not been heard of for" in str(error)
    assert "--force" in str(error)


def test_pod_that_stays_on_a_node_that_is_there_is_a_plain_failure() -> None:
    server = waited([pod("a")])
    ready: Answer = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    server.routes["GET /api/v1/nodes/far"] = ready
    error = deleted(server, "a", wait_seconds=0.05)[-1]
    assert isinstance(error, CommandError)
    assert error.exit_code == 1
    assert "node 'far' has not ended it yet" in str(error)


def test_files_name_what_to_delete_and_what_of_them_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: [\n---\n"
        "apiVersion: v1\nkind: Node\nmetadata: {name: n}\n"
    )
    with Server().api() as api:
        one, error, other = targets_in(api, str(path), default_namespace="default")
    assert isinstance(one, Target)
    assert (one.namespace, one.name) == ("default", "a")
    assert isinstance(error, CommandError)
    assert isinstance(other, Target)
    assert other.path == "/api/v1/nodes/n"
