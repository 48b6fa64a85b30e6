"""Selectors on labels and fields."""

import json
from typing import Any

import pytest

from fedge_apiserver.errors import ApiError
from fedge_apiserver.resources import PODS
from fedge_apiserver.selectors import parse_selector


def matches(selector: str, labels: dict[str, str] | None) -> bool:
    meta: dict[str, Any] = {"name": "p"} if labels is None else {"name": "p", "labels": labels}
    body = json.dumps({"metadata": meta}).encode()
    return parse_selector(selector, "", PODS).matches("default", "p", body)


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a!=1", {}, True),
        ("a!=1", {"a": "1"}, False),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("!a", None, True),
        ("a in (1, 2),b", {"a": "2", "b": "x"}, True),
        ("a notin (1,2)", {}, True),
        ("a>3", {"a": "4"}, True),
        ("a<3", {"a": "4"}, False),
        ("a=", {"a": ""}, True),
        ("example.com/a=1", {"example.com/a": "1"}, True),
        ("", None, True),
    ],
)
def test_labels_decide(selector: str, labels: dict[str, str] | None, expected: bool) -> None:
    assert matches(selector, labels) is expected


@pytest.mark.parametrize("selector", ["a b", "a in 1", "=1", "a=$", ",,", "a in (1"])
def test_malformed_selector_is_a_bad_request(selector: str) -> None:
    with pytest.raises(ApiError, match="unable to parse requirement") as caught:
        parse_selector(selector, "", PODS)
    assert caught.value.code == 400


def test_field_that_cannot_be_selected_is_a_bad_request() -> None:
    with pytest.raises(ApiError, match=r"field label not supported: spec\.x"):
        parse_selector("", "spec.x=1", PODS)
