"""JSON patch, merge patch and strategic merge patch."""

from typing import Any

import pytest

from fedge_apiserver.patching import PatchError, apply_operations, merge
from fedge_apiserver.strategic import merge_strategically


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": spec}


def patched(target: dict[str, Any], **spec: Any) -> dict[str, Any]:
    value: dict[str, Any] = merge_strategically(target, {"spec": spec}, "Pod")["spec"]
    return value


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "foo"}, "bar", "bar"),
    ],
)
def test_merge_patch_follows_the_examples_of_rfc_7386(target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/b", "value": 1}], {"a": [1, 2], "b": 1}),
        ([{"op": "add", "path": "/a/1", "value": 9}], {"a": [1, 9, 2]}),
        ([{"op": "add", "path": "/a/-", "value": 3}], {"a": [1, 2, 3]}),
        ([{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ([{"op": "replace", "path": "/a/0", "value": 5}], {"a": [5, 2]}),
        ([{"op": "move", "from": "/a", "path": "/c"}], {"c": [1, 2]}),
        ([{"op": "copy", "from": "/a/0", "path": "/b"}], {"a": [1, 2], "b": 1}),
        ([{"op": "test", "path": "/a/0", "value": 1}], {"a": [1, 2]}),
        ([{"op": "add", "path": "/x~1y~0z", "value": 1}], {"a": [1, 2], "x/y~z": 1}),
    ],
)
def test_json_patch_does_what_rfc_6902_says(operations: Any, result: Any) -> None:
    target = {"a": [1, 2]}
    assert apply_operations(target, operations) == result
    assert target == {"a": [1, 2]}


@pytest.mark.parametrize(
    "operations",
    [
        {"op": "add"},
        [1],
        [{"op": "remove", "path": "/none"}],
        [{"op": "replace", "path": "/a/7", "value": 1}],
        [{"op": "add", "path": "/a/7", "value": 1}],
        [{"op": "add", "path": "b", "value": 1}],
        [{"op": "add", "path": "/b"}],
        [{"op": "test", "path": "/a/0", "value": True}],
        [{"op": "move", "from": "/a", "path": "/a/0"}],
        [{"op": "explode", "path": "/a"}],
    ],
)
def test_json_patch_that_does_not_apply_is_refused(operations: Any) -> None:
    with pytest.raises(PatchError):
        apply_operations({"a": [1, 2]}, operations)


def test_strategic_patch_merges_by_name_and_keeps_the_rest() -> None:
    target = pod(containers=[{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])
    spec = patched(target, containers=[{"name": "b", "image": "2"}, {"name": "c"}])
    assert spec["containers"] == [
        {"name": "a", "image": "1"},
        {"name": "b", "image": "2"},
        {"name": "c"},
    ]
    assert target["spec"]["containers"][1]["image"] == "1"


def test_strategic_patch_deletes_an_item_and_replaces_a_list() -> None:
    target = pod(containers=[{"name": "a"}, {"name": "b"}])
    assert patched(target, containers=[{"name": "a", "$patch": "delete"}])["containers"] == [
        {"name": "b"}
    ]
    replaced = patched(target, containers=[{"$patch": "replace"}, {"name": "c"}])
    assert replaced["containers"] == [{"name": "c"}]


def test_strategic_patch_orders_items_as_it_says() -> None:
    target = pod(containers=[{"name": "a"}, {"name": "b"}, {"name": "own"}])
    spec = patched(
        target,
        **{
            "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
            "containers": [{"name": "c"}],
        },
    )
    assert [item["name"] for item in spec["containers"]] == ["c", "b", "own", "a"]


def test_strategic_patch_replaces_a_volume_source_with_retain_keys() -> None:
    target = pod(volumes=[{"name": "v", "emptyDir": {}}])
    spec = patched(
        target,
        volumes=[{"name": "v", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}],
    )
    assert spec["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]


def test_strategic_patch_handles_sets_of_plain_values() -> None:
    target = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}
    merged = merge_strategically(target, patch, "Pod")
    assert merged["metadata"]["finalizers"] == ["b", "c"]


def test_strategic_patch_replaces_lists_without_keys() -> None:
    target = pod(containers=[{"name": "a", "args": ["1", "2"]}])
    spec = patched(target, containers=[{"name": "a", "args": ["3"]}])
    assert spec["containers"][0]["args"] == ["3"]


def test_strategic_patch_merges_conditions_by_type() -> None:
    target = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    patch = {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X"}]}}
    merged = merge_strategically(target, patch, "Pod")
    assert merged["status"]["conditions"] == [{"type": "Ready", "status": "True"}, {"type": "X"}]


def test_strategic_patch_of_an_item_without_its_key_is_refused() -> None:
    with pytest.raises(PatchError, match="does not contain declared merge key: name"):
        patched(pod(containers=[]), containers=[{"image": "x"}])
