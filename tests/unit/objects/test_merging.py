"""What becomes of an object that two sides changed."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fedge_objects import change_between, merge_changes, without_bookkeeping

VALUES = st.recursive(
    st.one_of(
        st.integers(0, 3), st.text("ab", max_size=2), st.lists(st.integers(0, 2), max_size=2)
    ),
    lambda inner: st.dictionaries(st.sampled_from("pqr"), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=3)


def without_empty(value: Any) -> Any:
    """Return a value without objects of nothing: a merge cannot tell them from what is absent."""
    if not isinstance(value, dict):
        return value
    inner = {name: without_empty(each) for name, each in value.items()}
    return {name: each for name, each in inner.items() if each != {}}


@given(OBJECTS, OBJECTS)
def test_what_one_side_changed_holds(base: Any, changed: Any) -> None:
    for merged in (merge_changes(base, changed, base), merge_changes(base, base, changed)):
        assert merged.value == changed
        assert not merged.contradictions


@given(OBJECTS, OBJECTS)
def test_what_both_changed_alike_is_no_contradiction(base: Any, changed: Any) -> None:
    merged = merge_changes(base, changed, changed)
    assert (merged.value, merged.contradictions) == (changed, ())


@given(OBJECTS, OBJECTS, OBJECTS)
def test_merging_again_changes_nothing(base: Any, ours: Any, theirs: Any) -> None:
    merged = merge_changes(base, ours, theirs)
    if not merged.contradictions:
        again = merge_changes(base, ours, merged.value)
        assert (again.value, again.contradictions) == (merged.value, ())


@given(OBJECTS, OBJECTS, OBJECTS)
def test_sides_differ_only_in_whose_value_holds(base: Any, ours: Any, theirs: Any) -> None:
    one, other = merge_changes(base, ours, theirs), merge_changes(base, theirs, ours)
    assert {each.path for each in one.contradictions} == {
        each.path for each in other.contradictions
    }
    preferred = merge_changes(base, theirs, ours, prefer_ours=True)
    assert without_empty(preferred.value) == without_empty(one.value)


def test_contradiction_says_where_and_what() -> None:
    base = {"data": {"mode": "day", "level": "1"}}
    ours = {"data": {"mode": "night", "level": "1", "new": "a"}}
    theirs = {"data": {"mode": "dusk", "level": "2"}}
    merged = merge_changes(base, ours, theirs)
    assert merged.value == {"data": {"mode": "dusk", "level": "2", "new": "a"}}
    [found] = merged.contradictions
    assert (found.path, found.ours, found.theirs) == ("data.mode", "night", "dusk")


def test_removing_what_the_other_changed_is_a_contradiction() -> None:
    merged = merge_changes({"data": {"a": "1"}}, {"data": {}}, {"data": {"a": "2"}})
    [found] = merged.contradictions
    assert (found.path, found.ours, found.theirs) == ("data.a", None, "2")
    assert merged.value == {"data": {"a": "2"}}


def test_patch_leads_from_one_state_to_the_other() -> None:
    old = {"a": 1, "b": {"c": 2, "d": 3}, "e": [1]}
    new = {"a": 1, "b": {"c": 4}, "e": [1, 2], "f": {}}
    assert change_between(old, new) == {"b": {"c": 4, "d": None}, "e": [1, 2], "f": {}}
    assert change_between(new, new) == {}


def test_bookkeeping_and_status_are_left_out() -> None:
    metadata = {"name": "a", "resourceVersion": "5", "managedFields": [], "generation": 2}
    obj = {"metadata": metadata, "data": {}, "status": {"phase": "x"}}
    assert without_bookkeeping(obj) == {"metadata": {"name": "a"}, "data": {}}
