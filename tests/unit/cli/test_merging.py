"""What a merge patch leaves is what apply promises."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fedge_cli.merging import LAST_APPLIED, annotated, merge_patch

NAMES = st.sampled_from("abcd")
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
SPECS = st.dictionaries(NAMES, VALUES, max_size=4)


def manifest(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec}


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def holds(wanted: Any, live: Any) -> bool:
    if not isinstance(wanted, dict):
        return bool(wanted == live)
    return isinstance(live, dict) and all(
        k in live and holds(v, live[k]) for k, v in wanted.items()
    )


@given(SPECS, SPECS, SPECS)
def test_all_that_is_wanted_is_there_and_what_was_dropped_is_gone(
    last: dict[str, Any], wanted: dict[str, Any], others: dict[str, Any]
) -> None:
    live = merged(annotated(manifest(last)), {"spec": others})
    after = merged(live, merge_patch(manifest(wanted), live))
    assert holds(wanted, after["spec"])
    assert not (set(last) - set(wanted)) & set(after["spec"])
    assert json.loads(after["metadata"]["annotations"][LAST_APPLIED]) == manifest(wanted)


@given(SPECS)
def test_nothing_is_sent_when_nothing_is_to_do(spec: dict[str, Any]) -> None:
    assert merge_patch(manifest(spec), annotated(manifest(spec))) == {}


def test_what_others_set_stays() -> None:
    live = annotated(manifest({"a": 1, "b": 2}))
    live["spec"]["c"] = 3
    assert merge_patch(manifest({"a": 1}), live)["spec"] == {"b": None}
