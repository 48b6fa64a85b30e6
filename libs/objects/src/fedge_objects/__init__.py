"""Names, versions and changes of the Kubernetes objects that fedge handles.

Pure values that every service shares: no input or output, no broker, no client library.
"""

from fedge_objects._change import Change, JsonObject, split_trace
from fedge_objects._key import InvalidKeyError, NodeName, ObjectKey
from fedge_objects._merging import (
    Contradiction,
    Merged,
    change_between,
    merge_changes,
    without_bookkeeping,
)
from fedge_objects._quantity import parse_quantity
from fedge_objects._references import references
from fedge_objects._tree import MAX_BRANCHES, VersionTree, is_branch, lies_below, lying_below
from fedge_objects._version import Version

__all__ = [
    "MAX_BRANCHES",
    "Change",
    "Contradiction",
    "InvalidKeyError",
    "JsonObject",
    "Merged",
    "NodeName",
    "ObjectKey",
    "Version",
    "VersionTree",
    "change_between",
    "is_branch",
    "lies_below",
    "lying_below",
    "merge_changes",
    "parse_quantity",
    "references",
    "split_trace",
    "without_bookkeeping",
]
