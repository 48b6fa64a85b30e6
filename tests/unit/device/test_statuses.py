"""A device in one line and its conditions, as they follow from manifest, model and reports."""

from typing import Any

import pytest

from fedge_device.known import Known
from fedge_device.statuses import status_of
from fedge_objects import JsonObject, ObjectKey

KEY = ObjectKey("devices.devices.kubeedge.io", "default", "ac")
MODEL_KEY = ObjectKey("devicemodels.devices.kubeedge.io", "default", "ac")
NOW = "2026-08-06T10:00:00Z"
MODEL: JsonObject = {
    "spec": {
        "properties": [
            {"name": "temperature", "type": "INT", "minimum": "16", "maximum": "30", "unit": "C"},
            {"name": "mode", "type": "STRING"},
            {"name": "power", "type": "FLOAT", "accessMode": "ReadOnly"},
            {"name": "swing", "type": "BOOLEAN"},
        ]
    }
}


def device(*properties: JsonObject, **more: Any) -> JsonObject:
    spec = {"nodeName": "edge-1", "deviceModelRef": {"name": "ac"}, "properties": list(properties)}
    metadata = {"name": "ac", "namespace": "default", "uid": "u", "generation": 3}
    return {
        "metadata": metadata,
        "spec": spec | more.get("spec", {}),
        "status": more.get("status", {}),
    }


def wish(name: str, value: Any, **metadata: str) -> JsonObject:
    return {"name": name, "desired": {"value": value, "metadata": metadata}}


def told(extensions: Any = None, node: str = "edge-1", uid: str = "u", **values: str) -> JsonObject:
    twins = [{"propertyName": n, "reported": {"value": v}} for n, v in values.items()]
    return {
        "metadata": {
            "ownerReferences": [{"uid": uid}],
            "annotations": {"devices.fedge.io/reported-by": node} if node else {},
        },
        "status": {"twins": twins, "state": "online"}
        | ({"extensions": extensions} if extensions is not None else {}),
    }


def extended(name: str, **more: Any) -> JsonObject:
    return {"devices.fedge.io": {"properties": {name: more}}}


def status(
    obj: JsonObject, reported: JsonObject | None = None, model: JsonObject | None = MODEL
) -> JsonObject:
    known = Known()
    known.put_device(KEY, obj)
    if model is not None:
        known.put_model(MODEL_KEY, model)
    if reported is not None:
        known.put_status(KEY, reported)
    found = known.devices[KEY]
    return status_of(found, known.model_of(found), known.words_of(KEY), {}, NOW)


def condition(found: JsonObject, kind: str) -> tuple[str, str, str]:
    [one] = [each for each in found["conditions"] if each["type"] == kind]
    return one["status"], one["reason"], one["message"]


@pytest.mark.parametrize(
    ("said", "reason", "about"),
    [
        (wish("temperature", "25"), "", ""),
        (wish("temperature", 25, unit="C"), "", ""),
        (wish("temperature", "15"), "BelowMinimum", "temperature"),
        (wish("temperature", "31"), "AboveMaximum", "temperature"),
        (wish("temperature", "warm"), "WrongType", "temperature"),
        (wish("temperature", "25", unit="F"), "WrongUnit", "temperature"),
        (wish("power", "1.5"), "ReadOnlyProperty", "power"),
        (wish("swing", "perhaps"), "WrongType", "swing"),
        (wish("swing", value=True), "", ""),
        (wish("swnig", "true"), "UnknownProperty", "swnig"),
        ({"name": "swnig"}, "", ""),
        (wish("power", ""), "", ""),
    ],
)
def test_wishes_are_checked_against_the_model(said: JsonObject, reason: str, about: str) -> None:
    found = status(device(said))
    is_valid, why, message = condition(found, "Valid")
    assert is_valid == str(not reason)
    if reason:
        assert why == reason
        assert about in message
        assert found["sync"] == "Invalid"


def test_every_problem_is_told_and_the_first_gives_the_reason() -> None:
    found = status(device(wish("temperature", "31"), wish("power", "1"), wish("mode", "cool")))
    _, reason, message = condition(found, "Valid")
    assert reason == "AboveMaximum"
    assert "temperature" in message
    assert "power" in message
    assert "mode" not in message


def test_a_model_that_is_not_there_is_missed_and_none_is_needed() -> None:
    valid, reason, message = condition(status(device(), model=None), "Valid")
    assert (valid, reason) == ("False", "ModelNotFound")
    assert "'ac'" in message
    without = device(wish("anything", "1"), spec={"deviceModelRef": {}})
    assert condition(status(without), "Valid")[:2] == ("True", "NoModel")


def test_nothing_is_known_of_a_device_that_its_node_has_not_reported() -> None:
    silent: tuple[JsonObject | None, ...]
    silent = (None, told(uid="another"), told(node="edge-2"), {"metadata": {}})
    for reported in silent:
        found = status(device(wish("temperature", "25")), reported)
        assert (found["sync"], found["state"], found["reported"]) == ("Unknown", "unknown", "")
        assert condition(found, "Synced")[:2] == ("Unknown", "NeverReported")
        assert condition(found, "Conflict")[0] == "Unknown"
    nowhere = status(device(spec={"nodeName": ""}), told())
    assert condition(nowhere, "Synced")[:2] == ("Unknown", "NoNode")


def test_a_device_that_is_as_wished_is_synced() -> None:
    obj = device(wish("temperature", 25), wish("mode", "cool"), {"name": "power"})
    found = status(obj, told(temperature="25", power="1.5", mode="cool", node=""))
    assert found["sync"] == "Synced"
    assert found["state"] == "online"
    assert found["desired"] == "temperature=25,mode=cool"
    assert found["reported"] == "temperature=25,mode=cool,power=1.5"
    assert condition(found, "Synced")[0] == "True"
    assert condition(found, "Conflict")[0] == "False"
    assert {each["observedGeneration"] for each in found["conditions"]} == {3}


def test_what_is_not_yet_as_wished_is_named() -> None:
    obj = device(wish("temperature", "25"), wish("mode", "cool"), wish("swing", "true"))
    found = status(obj, told(temperature="22", swing="true"))
    assert found["sync"] == "Pending"
    _, reason, message = condition(found, "Synced")
    assert reason == "Pending"
    assert message == "temperature should be 25 and is 22; mode should be cool and is not known"


def test_what_is_not_told_to_the_cloud_is_not_waited_for() -> None:
    found = status(device(wish("mode", "cool") | {"reportToCloud": False}), told())
    assert found["sync"] == "Synced"


def test_a_wish_of_the_edge_is_told() -> None:
    reported = told(extended("temperature", desiredBy="edge", stamp=9), temperature="22")
    reported["status"]["twins"][0]["observedDesired"] = {"value": "22"}
    found = status(device(wish("temperature", "25")), reported)
    assert found["sync"] == "SetAtEdge"
    text = "desired of temperature is 22 (set at the edge), the manifest says 25"
    assert condition(found, "Synced") == ("False", "SetAtEdge", text)
    assert status(device(wish("temperature", "22")), reported)["sync"] == "Synced"
    assert status(device({"name": "temperature"}), reported)["sync"] == "Synced"


def test_a_conflict_is_told_with_both_values() -> None:
    conflict = {
        "kept": "22",
        "keptBy": "edge",
        "lost": "25",
        "lostBy": "cloud",
        "rule": "edge-wins",
        "time": NOW,
    }
    reported = told(extended("temperature", desiredBy="edge", stamp=9, conflict=conflict))
    found = status(device(wish("temperature", "25")), reported)
    assert found["sync"] == "Conflict"
    text = f"temperature is to be 22 (edge); 25 (cloud) was lost by edge-wins at {NOW}"
    assert condition(found, "Conflict") == ("True", "EdgeWins", text)


def test_what_the_node_did_not_take_is_told() -> None:
    problem = {"reason": "AboveMaximum", "message": "value '29' is above the maximum of 28"}
    reported = told(extended("temperature", problem=problem), temperature="25")
    found = status(device(wish("temperature", "29")), reported)
    assert condition(found, "Valid")[0] == "True"
    _, reason, message = condition(found, "Synced")
    assert reason == "Refused"
    assert "temperature: value '29' is above" in message


@pytest.mark.parametrize(
    "nonsense",
    [
        "text",
        ["list"],
        {"devices.fedge.io": 5},
        {"devices.fedge.io": {"properties": []}},
        extended("temperature", desiredBy=["edge"], stamp="late", conflict="yes", problem=[1]),
        extended("temperature", desiredBy="edge", stamp=True),
        extended("temperature", stamp=2**80, problem={"reason": {}, "message": ["x" * 9999]}),
        extended("temperature", conflict={"rule": "a b-\n", "kept": {"a": 1}, "lost": "y" * 99999}),
        extended("", conflict={"rule": 1}),
        extended("x" * 9999, conflict={"rule": ""}),
    ],
)
def test_nonsense_from_a_node_does_no_harm(nonsense: Any) -> None:
    found = status(device(wish("temperature", "25")), told(nonsense, temperature="25"))
    for each in found["conditions"]:
        assert len(each["message"]) <= 1024
        assert each["reason"].isidentifier()


def test_twins_of_any_shape_do_no_harm() -> None:
    nameless: list[Any] = [1, None, {"propertyName": 7}, {"propertyName": "a", "reported": "b"}]
    shapes: tuple[Any, ...] = ("x", nameless, {})
    for twins in shapes:
        reported = told()
        reported["status"] |= {"twins": twins, "state": ["on"], "lastOnlineTime": 5}
        assert status(device(wish("mode", "cool")), reported)["sync"] == "Pending"


def test_long_values_are_shortened() -> None:
    found = status(device(wish("mode", "m" * 500)), told(mode="n" * 500))
    assert len(found["desired"]) == len(found["reported"]) == 60
    assert found["desired"].endswith("...")


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    before = status(device(wish("mode", "cool")), told(mode="dry"))
    for each in before["conditions"]:
        each["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    after = status(device(wish("mode", "cool"), status=before), told(mode="cool"))
    times = {each["type"]: each["lastTransitionTime"] for each in after["conditions"]}
    assert times["Synced"] == NOW
    assert times["Valid"] == times["Conflict"] == "2020-01-01T00:00:00Z"
    nonsense: tuple[Any, ...] = ("x", [1], [{"type": ["Valid"]}], None)
    for broken in nonsense:
        assert len(status(device(status={"conditions": broken}))["conditions"]) == 3
