"""Validation rules: bounds, names, and what holds without the library."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fedge_apiserver.errors import Causes
from fedge_apiserver.rules import _checking, _evaluation, check_rules, rule_tree
from fedge_apiserver.rules._source import field_name, path_parts, uses_old, with_optional_old

RULES = "x-kubernetes-validations"
TEXT = {"type": "string"}


def with_rules(properties: dict[str, Any], *rules: str, **more: Any) -> dict[str, Any]:
    written = [{"rule": rule, **more} for rule in rules]
    return {"type": "object", "properties": properties, RULES: written}


def judged(
    schema: dict[str, Any], value: dict[str, Any], old: dict[str, Any] | None = None
) -> list[str]:
    """Return what the rules of a schema say of an object."""
    found = Causes()
    check_rules(schema, "schema", found)
    assert found.found == []
    tree = rule_tree(schema)
    assert tree is not None
    tree.check(value, old, found)
    return [f"{cause.path}: {cause.text}" for cause in found.found]


def test_schema_without_rules_has_no_tree() -> None:
    assert rule_tree({"type": "object", "properties": {"a": TEXT}}) is None


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("plain", "plain"),
        ("a-b", "a__dash__b"),
        ("a.b/c", "a__dot__b__slash__c"),
        ("a__b", "a__underscores__b"),
        ("in", "__in__"),
        ("namespace", "__namespace__"),
        ("1st", None),
        ("a b", None),
    ],
)
def test_names_are_escaped_as_in_a_cluster(name: str, written: str | None) -> None:
    assert field_name(name) == written


def test_escaped_names_reach_their_fields() -> None:
    schema = with_rules(
        {"a-b": {"type": "integer"}, "if": TEXT}, "self.a__dash__b > 1 && self.__if__ != ''"
    )
    assert judged(schema, {"a-b": 2, "if": "x"}) == []
    assert len(judged(schema, {"a-b": 1, "if": "x"})) == 1


def test_names_that_nearly_agree_are_kept_apart() -> None:
    number: dict[str, Any] = {"type": "integer"}
    numbers = {"type": "object", "additionalProperties": number}
    schema = with_rules(
        {"a_b": number, "aB": TEXT, "m_n": numbers, "mN": numbers},
        "self.a_b == 1 && self.aB == 'x' && self.m_n.k == 1 && self.mN.k == 2",
    )
    assert judged(schema, {"a_b": 1, "aB": "x", "m_n": {"k": 1}, "mN": {"k": 2}}) == []


def test_field_that_no_rule_can_name_is_not_there() -> None:
    found = Causes()
    check_rules(with_rules({"1st": TEXT}, "has(self.1st)"), "schema", found)
    assert len(found.found) == 1


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (".a.b", ["a", "b"]),
        (".a['x.y'].b", ["a", "x.y", "b"]),
        ("a", None),
        (".a[0]", None),
        ("", None),
    ],
)
def test_field_paths_are_read(path: str, parts: list[str] | None) -> None:
    assert path_parts(path) == parts


def test_old_self_is_looked_for_outside_of_texts() -> None:
    assert uses_old("self == oldSelf")
    assert not uses_old("self == 'oldSelf'")
    assert not uses_old("self.oldSelf == 1")
    assert with_optional_old("oldSelf.hasValue() || self == 'oldSelf'") == (
        "__old[?\"v\"].hasValue() || self == 'oldSelf'"
    )


def test_optional_old_self_judges_new_objects_too() -> None:
    rule = "oldSelf.hasValue() ? self.n == oldSelf.value().n : self.n == 1"
    schema = with_rules({"n": {"type": "integer"}}, rule, optionalOldSelf=True)
    assert judged(schema, {"n": 1}) == []
    assert len(judged(schema, {"n": 2})) == 1
    assert judged(schema, {"n": 2}, {"n": 2}) == []
    assert len(judged(schema, {"n": 1}, {"n": 2})) == 1


def test_what_was_allowed_once_stays_allowed_until_it_changes() -> None:
    schema = {
        "type": "object",
        "properties": {"a": with_rules({"n": {"type": "integer"}}, "self.n > 1"), "b": TEXT},
    }
    old = {"a": {"n": 0}, "b": "x"}
    assert judged(schema, {"a": {"n": 0}, "b": "y"}, old) == []
    assert len(judged(schema, {"a": {"n": -1}, "b": "y"}, old)) == 1


def test_anything_compares_with_anything_where_the_schema_says_nothing() -> None:
    schema = with_rules(
        {"x": {"x-kubernetes-int-or-string": True}}, "self.x == 5 || self.x == '5%'"
    )
    assert judged(schema, {"x": 5}) == judged(schema, {"x": "5%"}) == []
    assert len(judged(schema, {"x": 6})) == 1


def test_lists_in_lists_and_maps_in_maps_have_types() -> None:
    numbers = {"type": "array", "items": {"type": "integer"}}
    schema = with_rules(
        {
            "grid": {"type": "array", "items": numbers},
            "map": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"n": {"type": "integer"}},
                },
            },
        },
        "self.grid.all(row, row.all(n, n > 0)) && self.map.all(k, self.map[k].n > 0)",
    )
    assert judged(schema, {"grid": [[1], [2, 3]], "map": {"a": {"n": 1}}}) == []
    assert len(judged(schema, {"grid": [[1], [0]], "map": {}})) == 1


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("self.l.all(a, self.l.all(b, a != b || a == b))", {"l": ["x" * 100] * 300}),
        ("self.l.all(a, a.matches('(a*)*b') || true)", {"l": ["a" * 1000] * 9000}),
        ("self.t.replace('a', self.t).size() > 0", {"t": "a" * 100_000}),
        (
            "self.t.replace('a', self.t).replace('a', self.t).size() > 0",
            {"t": "a" * 1_000},
        ),
        ("self.l.map(x, self.t + x).size() > 0", {"t": "a" * 1_000_000, "l": ["a"] * 5_000}),
    ],
)
def test_evaluation_is_bounded(rule: str, value: dict[str, Any]) -> None:
    schema = with_rules({"l": {"type": "array", "items": TEXT}, "t": TEXT}, rule)
    (said,) = judged(schema, value)
    assert "running out of cost budget" in said


def test_library_stops_endless_iterations_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_evaluation, "_BUDGET", 10**15)
    schema = with_rules({"l": {"type": "array", "items": TEXT}}, "self.l.all(a, a != '')")
    (said,) = judged(schema, {"l": ["x"] * 20_000})
    assert "running out of cost budget" in said


def test_quantities_of_any_size_do_not_hold_up() -> None:
    schema = with_rules({"q": TEXT}, "quantity(self.q).asInteger() > 0")
    (said,) = judged(schema, {"q": "1e999999"})
    assert "evaluating rule" in said


def test_message_expression_that_fails_gives_way_to_the_message() -> None:
    schema = with_rules(
        {"l": {"type": "array", "items": TEXT}},
        "false",
        message="plain",
        messageExpression="self.l[7]",
    )
    assert judged(schema, {"l": []}) == [': Invalid value: "object": plain']


def test_without_the_library_definitions_are_refused_and_objects_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schema = with_rules({"n": {"type": "integer"}}, "self.n > 1")
    tree = rule_tree(schema)
    assert tree is not None
    monkeypatch.setattr(_checking, "is_available", lambda: False)
    monkeypatch.setattr(_evaluation, "is_available", lambda: False)
    found = Causes()
    tree.check({"n": 0}, None, found)
    assert found.found == []
    check_rules(schema, "schema", found)
    assert "install fedge-apiserver[rules]" in found.found[0].text


NAMES = st.sampled_from(
    [
        "a",
        "a_b",
        "aB",
        "a-b",
        "a.b/c",
        "A",
        "in",
        "__",
        "_",
        "1a",
        "optional",
        "ä",
        "metadata",
        "x y",
    ]
)


def schemas(inner: SearchStrategy[dict[str, Any]]) -> SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(NAMES, inner, max_size=5)
    return st.one_of(
        properties.map(lambda held: {"type": "object", "properties": held}),
        inner.map(lambda held: {"type": "array", "items": held}),
        inner.map(lambda held: {"type": "object", "additionalProperties": held}),
        properties.map(
            lambda held: {
                "type": "object",
                "properties": held,
                "x-kubernetes-embedded-resource": True,
            }
        ),
    )


SCALARS = st.sampled_from(
    [
        {"type": "integer"},
        {"type": "number", "format": "double"},
        {"type": "boolean"},
        *({"type": "string", "format": f} for f in ("date-time", "duration", "byte", "date", "?")),
        {"x-kubernetes-int-or-string": True},
        {"x-kubernetes-preserve-unknown-fields": True},
        {"type": "object"},
    ]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    properties=st.dictionaries(NAMES, st.recursive(SCALARS, schemas, max_leaves=8), max_size=6),
    value=st.dictionaries(NAMES, VALUES, max_size=6),
    rule=st.sampled_from(
        [
            "self == self",
            "has(self.a) && self.a == self.a",
            "self.aB.all(x, x == x)",
            "self.a_b > 1",
        ]
    ),
)
def test_any_schema_and_any_value_are_judged(
    properties: dict[str, Any], value: dict[str, Any], rule: str
) -> None:
    schema = with_rules(properties, rule, "self == oldSelf")
    found = Causes()
    check_rules(schema, "schema", found)
    tree = rule_tree(schema)
    assert tree is not None
    tree.check(value, value, found)
    tree.check(value, {}, found)
    assert all(cause.text for cause in found.found)
