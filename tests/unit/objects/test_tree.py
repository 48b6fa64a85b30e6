"""Two trees find their difference by saying little."""

from hypothesis import given
from hypothesis import strategies as st

from fedge_objects import VersionTree, is_branch, lies_below
from fedge_objects._tree import FEW

versions = st.dictionaries(st.text(min_size=1, max_size=8), st.sampled_from(["1.1", "2.2", "3.3"]))


def difference(here: VersionTree, there: VersionTree) -> tuple[set[str], int, int]:
    """Return the keys that differ, the rounds that it took, and what ``there`` told."""
    found, told, rounds = set[str](), 1, 0
    ask = [""] if here.hash() != there.hash() else []
    while ask:
        rounds += 1
        prefixes, ask = ask, []
        for prefix in prefixes:
            if there.is_small(prefix):
                mine, its = here.versions(prefix), there.versions(prefix)
                told += len(its)
                found |= {key for key in mine.keys() | its.keys() if mine.get(key) != its.get(key)}
            else:
                hashes = there.hashes(prefix)
                told += len(hashes)
                ask += [each for each, hash_ in hashes.items() if here.hash(each) != hash_]
    return found, rounds, told


@given(versions, versions)
def test_exactly_the_difference_is_found(here: dict[str, str], there: dict[str, str]) -> None:
    found, _, _ = difference(VersionTree(here), VersionTree(there))
    assert found == {k for k in here.keys() | there.keys() if here.get(k) != there.get(k)}


def test_cost_grows_with_the_difference_and_not_with_the_whole() -> None:
    there = {f"pods/d/p{number}": "5.5" for number in range(10_000)}
    costs = []
    for differing in (1, 10, 100):
        here = there | {f"pods/d/p{number}": "4.4" for number in range(differing)}
        found, rounds, told = difference(VersionTree(here), VersionTree(there))
        assert len(found) == differing
        assert rounds <= 5
        costs.append(told)
    assert costs[0] < 4 * 16 + FEW
    assert costs[2] < 100 * costs[0]
    assert costs[2] < 10_000 / 2


def test_empty_branch_has_the_hash_of_nothing() -> None:
    assert VersionTree({}).hash() == VersionTree({"a": "1"}).hash("g") == "0" * 16
    assert VersionTree({}).versions() == {}


def test_keys_lie_below_their_branch() -> None:
    tree = VersionTree({f"k{n}": "1" for n in range(100)})
    for prefix in tree.hashes(""):
        assert all(lies_below(key, prefix) for key in tree.versions(prefix))
    assert is_branch("0a")
    assert not any(map(is_branch, ["0A", "g", "0" * 17]))
