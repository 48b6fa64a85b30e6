"""What is to be set of a device: read, checked, and put into its manifest."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_cli.device_wishes import Wish, check, parse_wishes, range_of, with_wishes
from fedge_cli.errors import CommandError, UsageError
from fedge_devices import Access, Model, ModelProperty, read_declared

MODEL: Model = {
    "temperature": ModelProperty(type="int", minimum=16, maximum=30, unit="C"),
    "power": ModelProperty(type="boolean"),
    "mode": ModelProperty(type="string"),
    "room-temperature": ModelProperty(type="float", access=Access.READ_ONLY),
}
NAMES = st.text("abc-_.:/@#1", min_size=1, max_size=8)
VALUES = st.text(min_size=1, max_size=8)
PROPERTIES = st.lists(
    st.builds(
        lambda name, value, rest: {"name": name, **value, **rest},
        NAMES,
        st.one_of(
            st.just({}),
            st.builds(lambda v: {"desired": {"value": v, "metadata": {"type": "int"}}}, VALUES),
        ),
        st.sampled_from([{}, {"reportCycle": 500}, {"mergeRule": "edge-wins"}]),
    ),
    unique_by=lambda each: str(each["name"]),
    max_size=5,
)
WISHES = st.lists(
    st.builds(Wish, NAMES, st.one_of(st.none(), VALUES)), unique_by=lambda each: each.name
)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("temperature=24", Wish("temperature", "24")),
        ("mode=a=b", Wish("mode", "a=b")),
        ("mode=-", Wish("mode", "-")),
        ("temperature-", Wish("temperature", None)),
        ("room-temperature-", Wish("room-temperature", None)),
        ("odd--", Wish("odd-", None)),
    ],
)
def test_a_word_is_a_wish(word: str, expected: Wish) -> None:
    assert parse_wishes([word]) == [expected]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to set"),
        (["temperature"], "'temperature' is neither PROPERTY=VALUE nor PROPERTY-"),
        (["temperature="], "cannot be set to nothing: `temperature-` withdraws"),
        (["=1"], "'' is no name of a property"),
        (["a b=1"], "'a b' is no name of a property"),
        (["-"], "'' is no name of a property"),
        (["a=1", "a-"], "property 'a' is named twice"),
    ],
)
def test_what_is_no_wish_is_told(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        parse_wishes(words)


@given(NAMES, st.one_of(st.none(), VALUES))
def test_what_is_written_is_what_is_read(name: str, value: str | None) -> None:
    word = f"{name}-" if value is None else f"{name}={value}"
    assert parse_wishes([word]) == [Wish(name, value)]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("x", "1"), "'x' is not in the device's model: it has temperature, power, mode, room"),
        (Wish("x", None), "'x' is not in the device's model"),
        (Wish("temperature", "31"), "above the maximum of 30; say a value of 16..30 C"),
        (Wish("temperature", "warm"), "'temperature' is no int; say a value of 16..30 C"),
        (Wish("power", "on"), "'power' is no boolean; say true or false"),
        (
            Wish("room-temperature", "20"),
            "'room-temperature' is read only: nobody can set it; what can be set: temperature, p",
        ),
    ],
)
def test_what_a_device_cannot_be_is_told_with_the_remedy(wish: Wish, said: str) -> None:
    with pytest.raises(CommandError) as caught:
        check([wish], MODEL)
    assert said in str(caught.value)


def test_what_a_device_can_be_passes() -> None:
    check([Wish("temperature", "24"), Wish("power", "true"), Wish("mode", None)], MODEL)
    check([Wish("anything", "24")], None)
    check([Wish("gone", None)], MODEL, [{"name": "gone"}])  # the model has it no more


def test_unit_of_the_manifest_must_be_the_models() -> None:
    entry = {"name": "temperature", "desired": {"value": "70", "metadata": {"unit": "F"}}}
    with pytest.raises(CommandError, match="is in 'C' by its model, not in 'F'"):
        check([Wish("temperature", "24")], MODEL, [entry])


@given(PROPERTIES, WISHES)
def test_only_what_is_wished_is_changed(
    properties: list[dict[str, Any]], wishes: list[Wish]
) -> None:
    before = copy.deepcopy(properties)
    after = with_wishes(properties, wishes)
    assert properties == before
    assert with_wishes(after, wishes) == after
    named = {each.name: each.value for each in wishes}
    assert [each["name"] for each in after][: len(before)] == [each["name"] for each in before]
    for old, new in zip(before, after, strict=False):
        if old["name"] not in named:
            assert new == old
        assert {key: each for key, each in new.items() if key != "desired"} == {
            key: each for key, each in old.items() if key != "desired"
        }
    declared = read_declared({"spec": {"properties": after}})
    for name, value in named.items():
        wish = declared[name].wish if name in declared else None
        assert (wish["value"] if wish else None) == value


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(16, 30, "16..30"), (None, 1.5, "..1.5"), (0, None, "0.."), (None, None, "")],
)
def test_range_is_short(least: float | None, most: float | None, expected: str) -> None:
    assert range_of(ModelProperty(minimum=least, maximum=most)) == expected
