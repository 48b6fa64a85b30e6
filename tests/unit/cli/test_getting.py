import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fedge_cli.api import Api
from fedge_cli.errors import CommandError, MissingError, UsageError
from fedge_cli.getting import Query, get_objects, get_rows, get_table, watch
from fedge_cli.printing import render, table_lines
from tests.unit.cli.server import Server

COLUMNS = [
    {"name": "Name", "priority": 0},
    {"name": "Status", "priority": 0},
    {"name": "Node", "priority": 1},
]


def table(*rows: tuple[str, ...], version: str = "7") -> dict[str, Any]:
    return {
        "kind": "Table",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": COLUMNS,
        "rows": [
            {
                "cells": list(row),
                "object": {
                    "metadata": {"name": row[0], "namespace": "default", "resourceVersion": version}
                },
            }
            for row in rows
        ],
    }


def node(name: str, ready: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def lease(seconds_ago: float) -> dict[str, Any]:
    renewed = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return {"spec": {"renewTime": renewed.isoformat(), "leaseDurationSeconds": 40}}


LEASES = "GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
PODS = "GET /api/v1/namespaces/default/pods"


@pytest.fixture
def server() -> Server:
    return Server(
        {
            PODS: table(("here", "Running", "near"), ("gone", "Running", "far")),
            "GET /api/v1/nodes/near": node("near", "True"),
            "GET /api/v1/nodes/far": node("far", "Unknown"),
            f"{LEASES}/near": lease(2),
            f"{LEASES}/far": lease(7300),
        }
    )


def query(kinds: str = "po", *names: str, **more: Any) -> Query:
    return Query(kinds=kinds, names=names, **{"namespace": "default", **more})


def table_of(api: Api, asked: Query) -> list[str]:
    [(kind, names)] = asked.targets(api)
    return table_lines(get_table(api, kind, names, asked))


def test_pods_of_a_node_that_is_not_heard_are_told_as_stale(server: Server) -> None:
    with server.api() as api:
        assert table_of(api, query()) == [
            "NAME   STATUS",
            "here   Running",
            "gone   Running (stale 2h)",
        ]


def test_pod_that_has_ended_does_not_grow_stale(server: Server) -> None:
    server.routes[PODS] = table(("done", "Completed", "far"))
    with server.api() as api:
        assert table_of(api, query()) == ["NAME   STATUS", "done   Completed"]


def test_statuses_are_shown_as_they_are_to_who_may_not_read_leases(server: Server) -> None:
    server.routes[f"{LEASES}/far"] = (403, {"message": "no"})
    with server.api() as api:
        assert table_of(api, query())[2] == "gone   Running"


def test_nodes_are_told_as_stale_by_their_leases() -> None:
    names = [f"n{number}" for number in range(6)]
    server = Server(
        {
            "GET /api/v1/nodes": lambda request: (
                table(*((name, "Ready", "") for name in names))
                if "Table" in request.headers["Accept"]
                else {"items": [node(name, "True") for name in names]}
            ),
            LEASES: {"items": [lease(300) | {"metadata": {"name": "n5"}}]},
        }
    )
    with server.api() as api:
        lines = table_of(api, query("nodes"))
    assert lines[-1] == "n5     Ready (stale 5m)"
    assert lines[-2] == "n4     Ready"
    assert server.asked.count("GET /api/v1/nodes") == 2, "many nodes are asked for at once"


def devices(column: str, *rows: tuple[str, str]) -> dict[str, Any]:
    columns = [{"name": "Name", "priority": 0}, {"name": column, "priority": 0}]
    return {**table(*rows), "columnDefinitions": columns}


DEVICES = "GET /apis/devices.kubeedge.io/v1beta1/namespaces/default"


def device(name: str, node_name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"metadata": metadata, "spec": {"nodeName": node_name}}


def test_devices_of_a_node_that_is_not_heard_are_told_as_stale(server: Server) -> None:
    rows = (("a", "near"), ("b", "far"), ("c", ""))
    server.routes[f"{DEVICES}/devices"] = devices("Node", *rows)
    with server.api() as api:
        assert table_of(api, query("devices")) == [
            "NAME   NODE",
            "a      near",
            "b      far (stale 2h)",
            "c      <none>",
        ]


@pytest.mark.parametrize("count", [3, 6])
def test_what_devices_said_is_told_as_stale_when_their_node_is_not_heard(
    server: Server, count: int
) -> None:
    nodes = ["near", "far", "gone"]
    known = [device(f"d{number}", nodes[number % 3]) for number in range(count)]
    server.routes[f"{DEVICES}/devicestatuses"] = devices(
        "State", *((f"d{number}", "" if number else "ok") for number in range(count))
    )
    server.routes["GET /apis/devices.kubeedge.io/v1beta1/devices"] = {"items": known}
    for each in known[:2]:
        server.routes[f"{DEVICES}/devices/{each['metadata']['name']}"] = each
    with server.api() as api:
        lines = table_of(api, query("devicestatuses"))
    assert lines[:4] == ["NAME   STATE", "d0     ok", "d1     <none> (stale 2h)", "d2     <none>"]
    assert len(lines) == count + 1


def test_what_devices_said_is_shown_as_it_is_to_who_may_not_read_them(server: Server) -> None:
    rows = [(f"d{number}", "ok") for number in range(5)]
    server.routes[f"{DEVICES}/devicestatuses"] = devices("State", *rows)
    server.routes["GET /apis/devices.kubeedge.io/v1beta1/devices"] = (403, {"message": "no"})
    with server.api() as api:
        assert table_of(api, query("devicestatuses"))[1] == "d0     ok"


def test_wide_and_all_namespaces_add_columns(server: Server) -> None:
    server.routes["GET /api/v1/pods"] = table(("here", "Running", "near"))
    with server.api() as api:
        lines = table_of(api, query(namespace=None, output="wide"))
    assert lines == ["NAMESPACE   NAME   STATUS    NODE", "default     here   Running   near"]


def test_name_that_is_not_there_keeps_no_other_from_being_shown(server: Server) -> None:
    server.routes[f"{PODS}/here"] = table(("here", "Running", "near"))
    with server.api() as api:
        asked = query("po", "no", "here")
        [(kind, names)] = asked.targets(api)
        found, errors = get_rows(api, kind, names, asked)
    assert [row[0] for row in found.rows] == ["here"]
    assert [type(each) for each in errors] == [MissingError]


def test_server_without_tables_is_shown_by_name() -> None:
    server = Server({PODS: {"kind": "PodList", "items": [{"metadata": {"name": "a"}}]}})
    with server.api() as api:
        assert table_of(api, query()) == ["NAME   CREATED AT", "a      <none>"]


def test_core_kind_costs_one_question_and_another_is_found_by_its_group(server: Server) -> None:
    with server.api() as api:
        assert api.find_type("Pods").plural == "pods"
        assert server.asked == ["GET /api/v1"]
        assert api.find_type("device.devices.kubeedge.io").kind == "Device"
        assert api.find_type("devices").display == "device.devices.kubeedge.io"
        with pytest.raises(MissingError, match='resource type "nothing"'):
            api.find_type("nothing")


def test_group_that_is_down_takes_no_other_kind_with_it(server: Server) -> None:
    server.routes["GET /apis"] = {
        "groups": [
            {"name": name, "preferredVersion": {"version": "v1beta1"}, "versions": []}
            for name in ("metrics.k8s.io", "devices.kubeedge.io")
        ]
    }
    server.routes["GET /apis/metrics.k8s.io/v1beta1"] = (503, {"message": "down"})
    with server.api() as api:
        assert api.find_type("devices").kind == "Device"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (query("po,no", "a"), "one kind only"),
        (query("po/a", "b"), "KIND/NAME"),
        (query("po/a", selector="x=y"), "selector"),
        (query("po", "a", namespace=None), "namespace"),
    ],
)
def test_mixed_up_question_is_refused(server: Server, asked: Query, reason: str) -> None:
    with server.api() as api, pytest.raises(UsageError, match=reason):
        asked.targets(api)


def test_pairs_of_kind_and_name_are_grouped(server: Server) -> None:
    with server.api() as api:
        targets = query("po/a", "no/n", "pod/b").targets(api)
    assert [(kind.plural, names) for kind, names in targets] == [
        ("pods", ("a", "b")),
        ("nodes", ("n",)),
    ]


def test_whole_objects_come_without_managed_fields_unless_asked_for(server: Server) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "managedFields": [{}]}}
    server.routes[f"{PODS}/a"] = pod
    with server.api() as api:
        plain, _ = get_objects(api, query("po", "a", output="json"))
        full, _ = get_objects(api, query("po", "a", output="json", has_managed_fields=True))
    assert plain["metadata"] == {"name": "a"}
    assert full == pod
    assert render(plain, "name") == "pod/a"
    assert json.loads(render(plain, "json")) == plain


def test_text_of_several_lines_stays_readable_as_yaml() -> None:
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "one\ntwo\n", "b": "yes"}}
    assert render(obj, "yaml").splitlines()[2:] == [
        "data:", "  a: |", "    one", "    two", "  b: 'yes'",
    ]  # fmt: skip


def test_watch_goes_on_from_what_it_saw_and_lists_anew_when_that_is_too_old() -> None:
    asked: list[str] = []
    later = table(("b", "Pending", ""), version="8")
    del later["columnDefinitions"]
    added = {"type": "MODIFIED", "object": later}
    expired = {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "old"}}
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
    streams = [[added], [bookmark], [expired]]

    def respond(request: Any) -> Any:
        parameters = request.url.params
        if "watch" not in parameters:
            asked.append("list")
            return table(("a", "Running", ""))
        asked.append(f"watch {parameters['resourceVersion']}")
        return streams.pop(0) if streams else (503, {"message": "closing"})

    class Lines(Server):
        def __call__(self, request: Any) -> Any:
            answer = super().__call__(request)
            if isinstance(body := answer.json(), list):
                return type(answer)(200, content="\n".join(json.dumps(each) for each in body))
            return answer

    server = Lines({PODS: respond})
    seen: list[str] = []

    def look(api: Api) -> None:
        for each in watch(api, query()):
            seen.extend(row[0] for row in each.table.rows)

    with server.api() as api, pytest.raises(CommandError, match="closing"):
        look(api)
    assert asked == ["list", "watch 7", "watch 8", "watch 9", "list", "watch 7"]
    assert seen == ["a", "b", "a"]
