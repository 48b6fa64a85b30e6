"""``fedge device`` by way of an API server: shown, set, followed, asked for its history."""

import itertools
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from fedge_cli import device_cloud
from fedge_cli.device_cloud import read_view
from fedge_cli.device_views import (
    DeviceView,
    PropertyView,
    Seen,
    describe_lines,
    history_table,
    lacking,
    news,
    shown,
)
from fedge_cli.device_wishes import Wish
from fedge_cli.errors import AwayError, CommandError, MissingError
from fedge_devices import read_model
from tests.unit.cli.server import Answer, Server, body_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROOT = "/apis/devices.kubeedge.io/v1beta1/namespaces/default"
DEVICE: dict[str, Any] = {
    "metadata": {"name": "ac", "namespace": "default", "uid": "u1", "resourceVersion": "7"},
    "spec": {
        "nodeName": "edge-1",
        "deviceModelRef": {"name": "cooler"},
        "properties": [
            {"name": "temperature", "desired": {"value": "24", "metadata": {"type": "int"}}},
            {"name": "power", "desired": {"value": "true"}, "reportCycle": 500},
            {"name": "mode", "desired": {"value": "dry"}},
        ],
    },
    "status": {
        "conditions": [
            {"type": "Synced", "status": "False", "reason": "SetAtEdge", "message": "mode is cool"}
        ]
    },
}
STATUS: dict[str, Any] = {
    "metadata": {"name": "ac", "namespace": "default"},
    "status": {
        "state": "online",
        "lastOnlineTime": "2026-01-01T11:55:00Z",
        "twins": [
            {
                "propertyName": "temperature",
                "observedDesired": {"value": "24"},
                "reported": {"value": "26", "metadata": {"timestamp": "1767268740000"}},
            },
            {"propertyName": "power", "observedDesired": {"value": "true"},
             "reported": {"value": "true"}},
            {"propertyName": "mode", "observedDesired": {"value": "cool"}},
            {"propertyName": "room", "reported": {"value": "27.5"}},
        ],
        "extensions": {"devices.fedge.io": {"properties": {"mode": {"desiredBy": "edge"}}}},
    },
}  # fmt: skip
MODEL: dict[str, Any] = {
    "metadata": {"name": "cooler"},
    "spec": {
        "properties": [
            {"name": "temperature", "type": "INT", "accessMode": "ReadWrite", "minimum": "16",
             "maximum": "30", "unit": "C"},
            {"name": "power", "type": "BOOLEAN", "accessMode": "ReadWrite"},
            {"name": "mode", "type": "STRING"},
            {"name": "fan", "type": "STRING"},
            {"name": "room", "type": "FLOAT", "accessMode": "ReadOnly"},
        ]
    },
}  # fmt: skip


def server(**more: Any) -> Server:
    return Server(
        {
            f"GET {ROOT}/devices/ac": DEVICE,
            f"GET {ROOT}/devicestatuses/ac": STATUS,
            f"GET {ROOT}/devicemodels/cooler": MODEL,
            **more,
        }
    )


def test_all_about_a_device_is_told() -> None:
    view = read_view(DEVICE, STATUS, read_model(MODEL))
    assert [" ".join(line.split()) for line in describe_lines(view, NOW, stale=7300)] == [
        "Name: ac",
        "Namespace: default",
        "Model: cooler",
        "Node: edge-1 (stale 2h)",
        "State: online (stale 2h)",
        "Last Online: 2026-01-01T11:55:00Z (5m ago)",
        "Properties:",
        "PROPERTY TYPE ACCESS RANGE UNIT DESIRED REPORTED BY AGE SYNC",
        "temperature int ReadWrite 16..30 C 24 26 cloud 60s Pending",
        "power boolean ReadWrite - - true true cloud - Synced",
        "mode string ReadWrite - - cool - edge - SetAtEdge",
        "fan string ReadWrite - - - - - - -",
        "room float ReadOnly - - - 27.5 - - -",
        "Conditions:",
        "TYPE STATUS REASON MESSAGE",
        "Synced False SetAtEdge mode is cool",
    ]


def test_device_without_anything_is_told_too() -> None:
    bare = {"metadata": {"name": "x"}, "spec": {"deviceModelRef": {"name": "gone"}}}
    lines = list(describe_lines(read_view(bare, None), NOW))
    assert "Model: gone (not there)" in lines
    assert "Node: <none>" in lines
    assert lines[-2:] == ["Properties: <none>", "Conditions: <none>"]


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (PropertyView(name="a"), ("-", "-")),
        (PropertyView(name="a", manifest="1"), ("cloud", "Pending")),
        (PropertyView(name="a", manifest="1", held="1", reported="1"), ("cloud", "Synced")),
        (PropertyView(name="a", manifest="2", held="1", reported="1"), ("cloud", "Pending")),
        (PropertyView(name="a", held="1", is_edges=True, reported="1"), ("edge", "Synced")),
        (PropertyView(name="a", manifest="2", held="1", is_edges=True, reported="1"),
         ("edge", "SetAtEdge")),
        (PropertyView(name="a", manifest="1", held="1", conflict="2 was lost"),
         ("cloud", "Conflict")),
        (PropertyView(name="a", manifest="99", problem="too much"), ("cloud", "Invalid")),
    ],
)  # fmt: skip
def test_one_word_says_how_a_wish_stands(view: PropertyView, expected: tuple[str, str]) -> None:
    assert (view.by, view.sync) == expected


def test_values_are_shown_on_one_line() -> None:
    assert shown("a\n b") == "a b"
    assert len(shown("x" * 100)) == 48


def test_view_asks_for_device_status_and_model() -> None:
    asked = server()
    with asked.api() as api:
        view = device_cloud.view(api, "default", "ac")
    assert view.model is not None
    assert view.properties["temperature"].reported == "26"
    nothing = Server()
    with nothing.api() as api, pytest.raises(MissingError):
        device_cloud.view(api, "default", "ac")


def test_set_writes_only_what_is_wished_and_names_the_version_it_saw() -> None:
    asked = server(**{f"PATCH {ROOT}/devices/ac": DEVICE})
    wishes = [Wish("temperature", "25"), Wish("fan", "low"), Wish("mode", None)]
    with asked.api() as api:
        assert device_cloud.set_desired(api, "default", "ac", wishes)
    patch = body_of(asked.requests[-1])
    assert asked.requests[-1].headers["content-type"] == "application/merge-patch+json"
    assert patch == {
        "metadata": {"resourceVersion": "7"},
        "spec": {
            "properties": [
                {"name": "temperature", "desired": {"value": "25", "metadata": {"type": "int"}}},
                {"name": "power", "desired": {"value": "true"}, "reportCycle": 500},
                {"name": "mode"},
                {"name": "fan", "desired": {"value": "low"}},
            ]
        },
    }


def test_set_of_what_is_there_already_writes_nothing() -> None:
    asked = server()
    with asked.api() as api:
        assert not device_cloud.set_desired(api, "default", "ac", [Wish("temperature", "24")])
    assert not any(each.startswith("PATCH") for each in asked.asked)


def test_set_loses_nobody_elses_change() -> None:
    """Somebody sets the power while we set the temperature."""
    versions = itertools.count(7)
    state: dict[str, Any] = {"rv": 7, "power": "true"}

    def get(_: httpx.Request) -> Answer:
        state["rv"] = next(versions)
        device = json.loads(json.dumps(DEVICE))
        device["metadata"]["resourceVersion"] = str(state["rv"])
        device["spec"]["properties"][1]["desired"]["value"] = state["power"]
        if state["rv"] == 7:
            state["power"] = "false"  # right after we looked
        return dict(device)

    def patch(request: httpx.Request) -> Answer:
        body = body_of(request)
        if body["metadata"]["resourceVersion"] == "7":
            return 409, {"reason": "Conflict", "message": "the object has been modified"}
        state["written"] = body["spec"]["properties"]
        return DEVICE

    asked = server(**{f"GET {ROOT}/devices/ac": get, f"PATCH {ROOT}/devices/ac": patch})
    with asked.api() as api:
        assert device_cloud.set_desired(api, "default", "ac", [Wish("temperature", "25")])
    written = {each["name"]: each["desired"]["value"] for each in state["written"]}
    assert written == {"temperature": "25", "power": "false", "mode": "dry"}


def test_set_gives_up_where_others_write_without_a_pause() -> None:
    refused = (409, {"reason": "Conflict", "message": "modified"})
    asked = server(**{f"PATCH {ROOT}/devices/ac": refused})
    with asked.api() as api, pytest.raises(CommandError, match="it is not set, try again"):
        device_cloud.set_desired(api, "default", "ac", [Wish("temperature", "25")])


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("temperature", "99"), "above the maximum of 30; say a value of 16..30 C"),
        (Wish("colour", "red"), "it has temperature, power, mode, fan, room"),
    ],
)
def test_set_is_checked_before_anything_is_written(wish: Wish, said: str) -> None:
    asked = server()
    with asked.api() as api, pytest.raises(CommandError, match=said):
        device_cloud.set_desired(api, "default", "ac", [wish])
    assert not any(each.startswith("PATCH") for each in asked.asked)


def test_set_needs_the_model_that_the_device_names() -> None:
    asked = server(**{f"GET {ROOT}/devicemodels/cooler": (404, {"message": "no"})})
    with (
        asked.api() as api,
        pytest.raises(CommandError, match=r"'cooler'.* is not there: apply it"),
    ):
        device_cloud.set_desired(api, "default", "ac", [Wish("temperature", "24")])


def test_wait_tells_what_is_missing() -> None:
    with server().api() as api:
        device_cloud.wait(api, "default", "ac", [Wish("power", "true")], 0.1)
        with pytest.raises(CommandError) as caught:
            device_cloud.wait(api, "default", "ac", [Wish("temperature", "24")], 0.1)
    assert str(caught.value) == (
        "set, but after 0.1 s: temperature should be 24 and is 26; the device's state is online"
    )


def test_wait_tells_of_a_node_that_is_away() -> None:
    ready = {"type": "Ready", "status": "Unknown", "lastHeartbeatTime": "2026-01-01T10:00:00Z"}
    node = {"metadata": {"name": "edge-1"}, "status": {"conditions": [ready]}}
    with (
        server(**{"GET /api/v1/nodes/edge-1": node}).api() as api,
        pytest.raises(AwayError, match="node 'edge-1' is not heard since"),
    ):
        device_cloud.wait(api, "default", "ac", [Wish("temperature", "24")], 0.1)


def test_what_is_lacking_names_the_edges_wish() -> None:
    view = read_view(DEVICE, STATUS)
    assert lacking(view, [Wish("mode", "dry")], at_edge=False) == [
        "mode should be dry and is not reported (the edge wishes cool)"
    ]
    assert lacking(view, [Wish("temperature", None)], at_edge=False) == [
        "temperature is still to be 24"
    ]
    assert lacking(view, [Wish("mode", None)], at_edge=True) == ["mode is still to be cool"]
    assert lacking(view, [Wish("mode", None)], at_edge=False) == []


def test_news_are_what_changed() -> None:
    before = read_view(DEVICE, STATUS)
    first = list(news(None, before, NOW))
    assert [each.property for each in first] == ["temperature", "power", "mode", "room"]
    assert first[0].cells() == [
        "2026-01-01T12:00:00Z", "default/ac", "temperature", "24", "26", "online",
    ]  # fmt: skip
    assert list(news(before, before, NOW)) == []
    cooler = json.loads(json.dumps(STATUS))
    cooler["status"]["twins"][0]["reported"]["value"] = "24"
    [change] = news(before, read_view(DEVICE, cooler), NOW)
    assert json.loads(change.line()) == {
        "time": "2026-01-01T12:00:00Z", "namespace": "default", "device": "ac",
        "property": "temperature", "desired": "24", "reported": "24", "state": "online",
    }  # fmt: skip
    off = json.loads(json.dumps(STATUS))
    off["status"]["state"] = "offline"
    [change] = news(before, read_view(DEVICE, off), NOW)
    assert change.cells()[2:] == ["-", "-", "-", "offline"]
    gone = read_view({**DEVICE, "spec": {}}, None)
    assert {each.property for each in news(before, gone, NOW)} == set(before.properties)
    assert [each.property for each in news(None, DeviceView(namespace="d", name="x"), NOW)] == [""]


def test_follow_tells_what_is_there_then_changes() -> None:
    hotter = json.loads(json.dumps(STATUS))
    hotter["status"]["twins"][0]["reported"]["value"] = "29"
    hotter["metadata"]["resourceVersion"] = "2"
    is_told = threading.Event()

    def statuses(request: httpx.Request) -> Answer:
        if request.url.params.get("resourceVersion") == "1":
            return {"type": "MODIFIED", "object": hotter}
        if "watch" in request.url.params:
            is_told.set()
            return 503, {"message": "gone"}
        return {"metadata": {"resourceVersion": "1"}, "items": [STATUS]}

    def devices(request: httpx.Request) -> Answer:
        if "watch" in request.url.params:
            assert is_told.wait(10)
            return 503, {"message": "gone"}
        return {"metadata": {"resourceVersion": "1"}, "items": [DEVICE]}

    asked = server(**{f"GET {ROOT}/devices": devices, f"GET {ROOT}/devicestatuses": statuses})
    seen: list[Seen] = []
    with asked.api() as api, pytest.raises(AwayError, match="gone"):
        _keep(device_cloud.follow(api, "default", "ac"), seen)
    assert [each.property for each in seen] == [
        "temperature", "power", "mode", "room", "temperature",
    ]  # fmt: skip
    assert seen[-1].reported == "29"


def _keep(coming: Iterator[Seen], seen: list[Seen]) -> None:
    for each in coming:
        seen.append(each)  # noqa: PERF402 - what came before an error counts too


def test_history_comes_from_the_node() -> None:
    items = [
        {"property": "temperature", "side": "reported", "by": "device", "value": 26,
         "time": 1767268740123},
        {"property": "temperature", "side": "desired", "by": "edge", "value": None, "time": 1},
        {"property": "picture", "side": "reported", "by": "device", "bytes": 2048, "time": 0},
    ]  # fmt: skip
    asked = server(**{f"GET {ROOT}/devices/ac/history": {"items": items}})
    with asked.api() as api:
        found = device_cloud.history(api, "default", "ac", "temperature", 5)
    assert dict(asked.requests[-1].url.params) == {"property": "temperature", "limit": "5"}
    assert history_table(found).rows == [
        ["2026-01-01T11:59:00.123Z", "temperature", "reported", "device", "26"],
        ["1970-01-01T00:00:00.001Z", "temperature", "desired", "edge", "-"],
        ["-", "picture", "reported", "device", "(2048 bytes, not kept)"],
    ]


def test_history_of_a_cluster_is_at_the_node() -> None:
    no_path = (404, {"reason": "NotFound", "message": "the server could not find the requested "
                     "resource"})  # fmt: skip
    with (
        server(**{f"GET {ROOT}/devices/ac/history": no_path}).api() as api,
        pytest.raises(CommandError) as caught,
    ):
        device_cloud.history(api, "default", "ac", "", 5)
    assert "on edge-1, as root, run `fedge device history ac -n default" in str(caught.value)
    assert caught.value.exit_code == 1


def test_history_of_a_node_that_is_away_is_no_answer() -> None:
    away = (503, {"reason": "ServiceUnavailable", "message": "node 'edge-1' is away since noon"})
    with (
        server(**{f"GET {ROOT}/devices/ac/history": away}).api() as api,
        pytest.raises(AwayError, match="away since noon"),
    ):
        device_cloud.history(api, "default", "ac", "", 5)
