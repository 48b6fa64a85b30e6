"""Versions of objects as a tree of hashes, to find a difference by saying little.

Objects lie in the tree by the hash of their key, 16 branches at each level. Two that compare trees
exchange one hash; where it differs, those of the branches below; and the versions themselves once
a branch holds few. So what is said grows with the difference, times the logarithm of the whole
(a Merkle tree: https://doi.org/10.1007/3-540-48184-2_32).
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

FEW = 16
"""So many objects and fewer are told one by one."""
_DIGITS = "0123456789abcdef"
_BYTES = 8
_BEYOND = "g"
"""Comes after each digit."""


MAX_BRANCHES = 16**4
"""More than two sides ever compare at once, as long as there are no more than a million objects."""


class _Branch(NamedTuple):
    """How many objects lie below, and the hashes of their versions combined."""

    objects: int
    combined: int


_EMPTY = _Branch(0, 0)


class VersionTree:
    """The versions of many objects, keys and versions as text."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self._entries = {
            _digest(key): (key, version, int(_digest(f"{key}@{version}"), 16))
            for key, version in versions.items()
        }
        self._levels: dict[int, dict[str, _Branch]] = {}
        self._digests: list[str] | None = None

    def hash(self, prefix: str = "") -> str:
        """Return the hash of a branch: 16 hexadecimal digits, all 0 if it is empty."""
        return f"{self._level(len(prefix)).get(prefix, _EMPTY).combined:0{2 * _BYTES}x}"

    def hashes(self, prefix: str) -> dict[str, str]:
        """Return the hashes of the branches just below ``prefix``, the empty ones too."""
        return {prefix + digit: self.hash(prefix + digit) for digit in _DIGITS}

    def versions(self, prefix: str = "") -> dict[str, str]:
        """Return the versions in a branch by key."""
        return {key: version for key, version, _ in self._below(prefix)}

    def is_small(self, prefix: str) -> bool:
        """Whether a branch is told one by one."""
        level = self._level(len(prefix))
        return len(prefix) >= 2 * _BYTES or level.get(prefix, _EMPTY).objects <= FEW

    def _level(self, digits: int) -> dict[str, "_Branch"]:
        """Return the branches of so many digits; made once, whoever asks for how many of them."""
        level = self._levels.get(digits)
        if level is None:
            level = self._levels[digits] = {}
            for digest, (_, _, each) in self._entries.items():
                branch = level.get(digest[:digits], _EMPTY)
                level[digest[:digits]] = _Branch(branch.objects + 1, branch.combined ^ each)
        return level

    def _below(self, prefix: str) -> Iterable[tuple[str, str, int]]:
        if self._digests is None:
            self._digests = sorted(self._entries)
        start = bisect_left(self._digests, prefix)
        end = bisect_right(self._digests, prefix + _BEYOND)
        return (self._entries[digest] for digest in self._digests[start:end])


def is_branch(prefix: str) -> bool:
    """Whether a text names a branch."""
    return len(prefix) <= 2 * _BYTES and all(digit in _DIGITS for digit in prefix)


def lies_below(key: str, prefix: str) -> bool:
    """Whether an object lies in a branch."""
    return _digest(key).startswith(prefix)


def lying_below(keys: Iterable[str], prefixes: Collection[str]) -> set[str]:
    """Return those of ``keys`` that lie in any of the branches."""
    lengths = {len(prefix) for prefix in prefixes}
    branches = frozenset(prefixes)
    return {
        key
        for key, digest in ((key, _digest(key)) for key in keys)
        if any(digest[:length] in branches for length in lengths)
    }


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_BYTES).hexdigest()
