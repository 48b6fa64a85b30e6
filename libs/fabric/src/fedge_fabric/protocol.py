"""The version of what messages say, told by both sides, and which versions understand each other.

A newer minor version only adds: kinds of messages, and fields that the older one does not look at.
So an edge of one minor version and a cloud of the next, or the reverse, work together: that is how
a fleet is upgraded, in whatever order. ``tests/compat`` holds what older versions said.
"""

from typing import Final

PROTOCOL: Final = "1.0"
"""``major.minor``; of what says none it is 1.0, which did not tell it at first."""
_APART: Final = 1


def understands(told: str) -> bool:
    """Whether one who speaks ``told`` and we understand each other."""
    try:
        major, minor = map(int, told.split("."))
    except ValueError:
        return False
    own_major, own_minor = map(int, PROTOCOL.split("."))
    return major == own_major and abs(minor - own_minor) <= _APART


def mismatch(told: str) -> str:
    """Return what is to be done about one whom we do not understand, or only by chance."""
    return (
        f"it speaks protocol {told[:16]!r}, this is {PROTOCOL}: at most one minor version apart is"
        " understood; upgrade the older side, one minor version after the other"
    )
