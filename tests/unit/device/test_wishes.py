"""Stamps: a value keeps its own, through restarts; a new one is later than all that was seen."""

from typing import Any

from fedge_device.kinds.devices import Devices
from fedge_devices import STAMPS_ANNOTATION, HybridClock, Stamp, read_stamps, write_stamps
from fedge_objects import JsonObject, ObjectKey

KEY = ObjectKey("devices.devices.kubeedge.io", "default", "ac")
EDGE_STAMP = 5_000_000_000 << 16


def manifest(*, revision: int = 1, status: JsonObject | None = None, **wishes: Any) -> JsonObject:
    properties = [
        {"name": name} | ({} if value is None else {"desired": {"value": value}})
        for name, value in wishes.items()
    ]
    return {
        "metadata": {
            "name": "ac",
            "namespace": "default",
            "uid": "u",
            "resourceVersion": str(revision),
        },
        "spec": {"nodeName": "edge-1", "properties": properties},
        **({} if status is None else {"status": status}),
    }


def devices(wall_ms: int = 1000) -> Devices:
    return Devices(HybridClock(lambda: wall_ms))


def stamps(made: Devices, obj: JsonObject) -> dict[str, Stamp]:
    return read_stamps(made.for_node(obj)["metadata"].get("annotations") or {})


def test_a_value_keeps_its_stamp_and_a_new_one_gets_a_later_one() -> None:
    made = devices()
    first = stamps(made, manifest(temperature="25", mode="cool", name=None))
    assert first.keys() == {"temperature", "mode"}
    assert stamps(made, manifest(temperature="25", mode="cool", name=None)) == first
    second = stamps(made, manifest(temperature="26", mode="cool"))
    assert second["mode"] == first["mode"]
    assert second["temperature"].at > max(each.at for each in first.values())
    third = stamps(made, manifest(temperature="25", mode="cool"))
    assert third["temperature"].at > second["temperature"].at


def test_what_the_node_is_given_depends_on_the_manifest_alone() -> None:
    made = devices()
    given = made.for_node(manifest(temperature="25"))
    shown = {"sync": "Pending", "desiredStamps": {"temperature": {"value": "25", "at": 9}}}
    assert made.for_node(manifest(revision=7, status=shown, temperature="25")) == given
    assert "annotations" not in made.for_node(manifest(temperature=None))["metadata"]


def test_after_a_restart_the_same_value_has_the_same_stamp() -> None:
    before = devices(wall_ms=10**12)
    value = {"b": [1, None], "a": None}
    first = stamps(before, manifest(temperature="25", shape=value, mode="cool"))
    kept = {"desiredStamps": before.wishes.kept("u")}
    after = devices(wall_ms=10**12 - 10**9)  # by a clock that is behind
    again = manifest(status=kept, temperature="25", shape=dict(reversed(value.items())), mode="dry")
    second = stamps(after, again)
    assert (second["temperature"], second["shape"]) == (first["temperature"], first["shape"])
    assert second["mode"].at > max(each.at for each in first.values())


def test_what_is_kept_and_makes_no_sense_is_as_if_it_were_not_there() -> None:
    nonsense: tuple[Any, ...] = (
        "none", [], {"temperature": 1}, {"temperature": {"value": "25", "at": "soon"}},
        {"temperature": {"value": "25", "at": True}}, {"temperature": {"value": "25", "at": -1}},
        {"temperature": {"value": 25, "at": 7}}, {"temperature": {"value": "25", "at": 2**70}},
    )  # fmt: skip
    for kept in nonsense:
        found = stamps(devices(), manifest(status={"desiredStamps": kept}, temperature="25"))
        assert found["temperature"].at >= 1000 << 16
    with_nonsense = {"temperature": {"value": "25", "at": 7, "seen": []}}
    found = stamps(devices(), manifest(status={"desiredStamps": with_nonsense}, temperature="25"))
    assert found["temperature"] == Stamp(7, 0)


def test_nobody_else_gives_stamps() -> None:
    obj = manifest(temperature="25")
    forged = write_stamps({"temperature": Stamp(2**60, 2**60), "mode": Stamp(1, 1)})
    obj["metadata"]["annotations"] = {STAMPS_ANNOTATION: forged, "note": "mine"}
    given = devices().for_node(obj)["metadata"]["annotations"]
    assert given["note"] == "mine"
    assert read_stamps(given) == {"temperature": Stamp(1000 << 16, 0)}
    assert obj["metadata"]["annotations"][STAMPS_ANNOTATION] == forged


def test_a_new_value_knows_of_the_edges_wish_and_is_later() -> None:
    made = devices()
    first = stamps(made, manifest(temperature="25", mode="cool"))
    made.known.put_device(KEY, manifest(temperature="25", mode="cool"))
    told = {"properties": {"temperature": {"desiredBy": "edge", "stamp": EDGE_STAMP}}}
    made.took(
        KEY,
        {
            "metadata": {
                "name": "ac",
                "namespace": "default",
                "resourceVersion": "9",
                "ownerReferences": [{"uid": "u"}],
            },
            "status": {"extensions": {"devices.fedge.io": told}},
        },
    )
    assert stamps(made, manifest(temperature="25", mode="cool")) == first
    second = stamps(made, manifest(temperature="26", mode="dry"))
    assert second["temperature"].seen == EDGE_STAMP
    assert second["mode"].seen == 0
    assert min(each.at for each in second.values()) > EDGE_STAMP
