"""Who is there, and whose a node is."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_dispatch.membership import Members, owner_of

NODES = [f"gw-{number}.plant.example" for number in range(3000)]
A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_shares_are_even(count: int) -> None:
    replicas = [f"{number:08x}" for number in range(count)]
    shares = Counter(owner_of(node, replicas) for node in NODES)
    even = len(NODES) / count
    assert all(0.8 * even < shares[each] < 1.2 * even for each in replicas)


def test_only_what_one_that_comes_or_goes_gains_or_loses_changes_hands() -> None:
    before, after = [A, B], [A, B, C]
    moved = [node for node in NODES if owner_of(node, before) != owner_of(node, after)]
    assert moved == [node for node in NODES if owner_of(node, after) == C]
    assert len(moved) < len(NODES) * 0.4


@given(st.lists(st.text("0123456789abcdef", min_size=8, max_size=8), unique=True), st.text())
def test_owner_does_not_depend_on_the_order_in_which_replicas_are_known(
    replicas: list[str], key: str
) -> None:
    assert owner_of(key, replicas) == owner_of(key, replicas[::-1])
    assert owner_of(key, replicas) in {*replicas, ""}


def test_who_is_alone_owns_all() -> None:
    members = Members(A)
    assert list(members.owners) == [A]
    assert members.was_alone
    members.is_live = True
    assert list(members.owners) == [A]


def test_who_joins_owns_nothing_while_another_is_live() -> None:
    members = Members(A)
    members.heard(B, is_live=True, now=1)
    assert list(members.owners) == [B]
    members.is_live = True
    assert list(members.owners) == [A, B]
    members.heard(C, is_live=False, now=1)
    assert list(members.owners) == [A, B]


def test_those_that_all_join_share_what_there_is() -> None:
    members = Members(A)
    members.heard(B, is_live=False, now=1)
    assert list(members.owners) == [A, B]


def test_who_is_silent_while_others_are_heard_is_found() -> None:
    members = Members(A)
    members.heard(B, is_live=True, now=0)
    members.heard(C, is_live=True, now=0)
    for now in range(1, 20):
        members.heard(A, is_live=True, now=now)
        members.heard(C, is_live=True, now=now)
    assert members.silent(5) == [B]
    members.drop(B)
    assert members.silent(5) == []
    assert members.others == {C}
    assert members.knew(B)


def test_who_heard_nothing_itself_takes_nobody_for_gone() -> None:
    members = Members(A)
    members.heard(B, is_live=True, now=0)
    members.heard(A, is_live=True, now=1)
    # stopped for a minute: what others said meanwhile lies unread
    assert members.silent(5) == []
    assert not members.is_heard(60, 8)
    members.heard(A, is_live=True, now=60)
    assert members.is_heard(60, 8)
    members.heard(B, is_live=True, now=60)
    assert members.silent(5) == []


def test_who_is_alone_needs_not_hear_itself() -> None:
    members = Members(A)
    assert members.is_heard(1000, 8)
    members.heard(B, is_live=True, now=1000)
    assert members.is_heard(1005, 8)
    members.drop(B)
    assert members.is_heard(5000, 8)


def test_who_was_gone_and_is_heard_again_is_new() -> None:
    members = Members(A)
    assert members.heard(B, is_live=True, now=1)
    assert not members.heard(B, is_live=True, now=2)
    members.drop(B)
    assert members.heard(B, is_live=True, now=3)
    assert not members.was_alone
