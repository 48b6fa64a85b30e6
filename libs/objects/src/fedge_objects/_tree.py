"""Versions of objects as a tree of hashes, to find a difference by saying little.

Objects lie in the tree by the hash of their key, 16 branches at each level. Two that compare trees
exchange one hash; where it differs, those of the branches below; and the versions themselves once
a branch holds few. So what is said grows with the difference, times the logarithm of the whole
(a Merkle tree: https://doi.org/10.1007/3-540-48184-2_32).
"""

import hashlib
from collections.abc import Iterable, Mapping

FEW = 16
"""So many objects and fewer are told one by one."""
_DIGITS = "0123456789abcdef"
_BYTES = 8


class VersionTree:
    """The versions of many objects, keys and versions as text."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self._entries = {
            _digest(key): (key, version, int(_digest(f"{key}@{version}"), 16))
            for key, version in versions.items()
        }

    def hash(self, prefix: str = "") -> str:
        """Return the hash of a branch: 16 hexadecimal digits, all 0 if it is empty."""
        combined = 0
        for _, _, each in self._below(prefix):
            combined ^= each
        return f"{combined:0{2 * _BYTES}x}"

    def hashes(self, prefix: str) -> dict[str, str]:
        """Return the hashes of the branches just below ``prefix``, the empty ones too."""
        return {prefix + digit: self.hash(prefix + digit) for digit in _DIGITS}

    def versions(self, prefix: str = "") -> dict[str, str]:
        """Return the versions in a branch by key."""
        return {key: version for key, version, _ in self._below(prefix)}

    def is_small(self, prefix: str) -> bool:
        """Whether a branch is told one by one."""
        return len(prefix) >= 2 * _BYTES or len(self.versions(prefix)) <= FEW

    def _below(self, prefix: str) -> Iterable[tuple[str, str, int]]:
        return (entry for digest, entry in self._entries.items() if digest.startswith(prefix))


def is_branch(prefix: str) -> bool:
    """Whether a text names a branch."""
    return len(prefix) <= 2 * _BYTES and all(digit in _DIGITS for digit in prefix)


def lies_below(key: str, prefix: str) -> bool:
    """Whether an object lies in a branch."""
    return _digest(key).startswith(prefix)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_BYTES).hexdigest()
