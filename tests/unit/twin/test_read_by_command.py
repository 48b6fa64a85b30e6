"""The command reads twin's file beside twin: what it shows is what twin holds."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedge_cli.device_edge import Edge as AtTheEdge
from fedge_cli.device_views import describe_lines
from fedge_cli.errors import AwayError, CommandError, MissingError
from fedge_objects import Change, Version
from fedge_store import ObjectStore
from fedge_twin.store import MIGRATIONS, TwinStore
from tests.unit.twin.test_twins import NOW, Edge, model

TEMPERATURE = {"type": "INT", "minimum": "16", "maximum": "30", "unit": "C"}


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """Twins of one device with a model, as meta was given both."""
    async with TwinStore.opened(tmp_path / "twin.db") as store:
        edge = Edge(store)
        device = edge.change({"temp": "20", "fan": "1"}, model="m")
        assert device.object is not None
        device.object["spec"]["nodeName"] = "edge-1"
        async with ObjectStore.opened(tmp_path / "meta.db") as objects:
            of_model = model(temp=TEMPERATURE, fan={"type": "INT"})
            for each in (of_model, device):
                await objects.apply(each, ())
                await edge.twins.take(each)
        yield edge


async def test_view_is_what_twin_holds(edge: Edge, tmp_path: Path) -> None:
    await edge.say("state/update", state="online")
    await edge.report(temp="19", fan=1)
    await edge.say("twin/update", twin={"temp": {"expected": {"value": "22"}}})
    view = AtTheEdge(tmp_path).view("default", "ac")
    assert [" ".join(line.split()) for line in describe_lines(view, NOW)] == [
        "Name: ac",
        "Namespace: default",
        "Model: m",
        "Node: edge-1",
        "State: online",
        "Last Online: 2026-01-02T03:04:05Z (0s ago)",
        "Properties:",
        "PROPERTY TYPE ACCESS RANGE UNIT DESIRED REPORTED BY AGE SYNC",
        "temp int ReadWrite 16..30 C 22 19 edge 0s SetAtEdge",
        "fan int ReadWrite - - 1 1 cloud 0s Synced",
        "Conditions: <none>",
    ]


async def test_wish_that_was_lost_is_told(edge: Edge, tmp_path: Path) -> None:
    await edge.say("twin/update", twin={"temp": {"expected": {"value": "22"}}})
    await edge.twins.take(edge.change({"temp": "25", "fan": "1"}, model="m"))
    view = AtTheEdge(tmp_path).view("default", "ac")
    assert view.properties["temp"].sync == "Conflict"
    [condition] = view.conditions
    assert condition["type"] == "Conflict"
    assert condition["message"] == "temp is to be 25 (cloud); 22 (edge) was lost by cloud-wins"


async def test_wish_that_is_not_taken_is_told(edge: Edge, tmp_path: Path) -> None:
    await edge.twins.take(edge.change({"temp": "99", "fan": "1"}, model="m"))
    view = AtTheEdge(tmp_path).view("default", "ac")
    assert view.properties["temp"].sync == "Invalid"
    assert "above the maximum of 30" in view.conditions[0]["message"]


async def test_history_is_twins_own(edge: Edge, tmp_path: Path) -> None:
    for value in ("18", "19"):
        await edge.report(temp=value)
    key = edge.change(None).key
    for name, limit in (("", 100), ("temp", 2), ("none", 5)):
        expected = await edge.twins.history(key, name, limit)
        assert AtTheEdge(tmp_path).history("default", "ac", name, limit) == expected
    assert len(AtTheEdge(tmp_path).history("default", "ac", "", 100)) == 4


async def test_what_follows_is_what_others_commit(edge: Edge, tmp_path: Path) -> None:
    coming = AtTheEdge(tmp_path).follow("default", "")
    assert {next(coming).property for _ in range(2)} == {"temp", "fan"}
    await edge.report(temp="18")
    seen = next(coming)
    assert (seen.property, seen.desired, seen.reported) == ("temp", "20", "18")
    del coming


async def test_device_of_another_node_is_not_here(edge: Edge, tmp_path: Path) -> None:
    assert edge.twins.keys
    at_the_edge = AtTheEdge(tmp_path)
    with pytest.raises(MissingError, match="default/none is not on this node"):
        at_the_edge.view("default", "none")
    with pytest.raises(MissingError):
        at_the_edge.history("default", "none", "", 5)
    with pytest.raises(MissingError):
        next(at_the_edge.follow("default", "none"))


async def test_files_that_are_not_there_or_are_newer_are_told(edge: Edge, tmp_path: Path) -> None:
    nowhere = AtTheEdge(tmp_path / "none")
    with pytest.raises(AwayError, match="run this as root on the node"):
        nowhere.view("default", "ac")
    connection = edge.twins._store._connection
    await connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(CommandError, match="use the fedge that runs on this node"):
        AtTheEdge(tmp_path).view("default", "ac")


async def test_view_needs_no_objects_of_meta(edge: Edge, tmp_path: Path) -> None:
    other = replace(edge.change({"x": "1"}), version=Version(50, 50))
    await edge.twins.take(Change(key=other.key, version=other.version, object=other.object))
    (tmp_path / "meta.db").unlink()
    view = AtTheEdge(tmp_path).view("default", "ac")
    assert (view.node, view.model, view.properties["x"].desired) == ("", None, "1")
