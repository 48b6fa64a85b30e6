"""Rules that every object's metadata follows.

https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
"""

import re
from collections.abc import Callable
from typing import Any, Final

from fedge_apiserver.errors import Causes
from fedge_objects import JsonObject

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_IS_LABEL: Final = re.compile(_LABEL)
_IS_SUBDOMAIN: Final = re.compile(_SUBDOMAIN)
_NAME_PART: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")

_LABEL_RULE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_NAME_PART_RULE: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_LONGEST_LABEL: Final = 63
_LONGEST_NAME: Final = 253
_MOST_ANNOTATION_BYTES: Final = 256 * 1024


def check_label(text: str, path: str, causes: Causes) -> None:
    """Add what keeps a text from being a DNS label."""
    if len(text) > _LONGEST_LABEL:
        causes.invalid(path, text, f"must be no more than {_LONGEST_LABEL} characters")
    if not _IS_LABEL.fullmatch(text):
        causes.invalid(path, text, _LABEL_RULE)


def check_subdomain(text: str, path: str, causes: Causes) -> None:
    """Add what keeps a text from being a DNS subdomain."""
    if len(text) > _LONGEST_NAME:
        causes.invalid(path, text, f"must be no more than {_LONGEST_NAME} characters")
    if not _IS_SUBDOMAIN.fullmatch(text):
        causes.invalid(path, text, _SUBDOMAIN_RULE)


def check_path_segment(text: str, path: str, causes: Causes) -> None:
    """Add what keeps a text from standing in a path."""
    if text in (".", ".."):
        causes.invalid(path, text, f"may not be '{text}'")
    for letter in ("/", "%"):
        if letter in text:
            causes.invalid(path, text, f"may not contain '{letter}'")


def check_labels(labels: dict[str, str], path: str, causes: Causes) -> None:
    """Add what is wrong with labels."""
    for key, value in labels.items():
        _check_key(key, path, causes)
        if len(value) > _LONGEST_LABEL:
            causes.invalid(path, value, f"must be no more than {_LONGEST_LABEL} characters")
        if not _LABEL_VALUE.fullmatch(value):
            causes.invalid(path, value, _LABEL_VALUE_RULE)


def check_metadata(
    value: JsonObject, causes: Causes, check: Callable[[str, str, Causes], None]
) -> None:
    """Add what is wrong with an object's metadata; ``check`` judges its name."""
    meta: dict[str, Any] = value["metadata"]
    name = meta.get("name", "")
    if not name:
        causes.required("metadata.name", "name or generateName is required")
    else:
        check(name, "metadata.name", causes)
    check_labels(meta.get("labels") or {}, "metadata.labels", causes)
    annotations: dict[str, str] = meta.get("annotations") or {}
    for key in annotations:
        _check_key(key.lower(), "metadata.annotations", causes)
    if sum(len(k) + len(v) for k, v in annotations.items()) > _MOST_ANNOTATION_BYTES:
        causes.too_long(
            "metadata.annotations", f"may not be more than {_MOST_ANNOTATION_BYTES} bytes"
        )
    for index, finalizer in enumerate(meta.get("finalizers") or ()):
        path = f"metadata.finalizers[{index}]"
        _check_key(finalizer, path, causes)
        if "/" not in finalizer and finalizer not in ("orphan", "foregroundDeletion"):
            causes.invalid(
                path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            )
    for index, owner in enumerate(meta.get("ownerReferences") or ()):
        path = f"metadata.ownerReferences[{index}]"
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                causes.invalid(f"{path}.{field}", "", f"{field} must not be empty")


def check_metadata_update(new: JsonObject, old: JsonObject, causes: Causes) -> None:
    """Add what may not change in metadata."""
    meta, before = new["metadata"], old["metadata"]
    if not before.get("deletionTimestamp"):
        return
    added = sorted(set(meta.get("finalizers") or ()) - set(before.get("finalizers") or ()))
    if added:
        names = ", ".join(f'"{name}"' for name in added)
        causes.forbidden(
            "metadata.finalizers",
            "no new finalizers can be added if the object is being deleted, found new finalizers "
            f"[]string{{{names}}}",
        )


def _check_key(key: str, path: str, causes: Causes) -> None:
    prefix, slash, name = key.rpartition("/")
    if slash:
        if not prefix:
            causes.invalid(path, key, "prefix part must be non-empty")
        elif not _IS_SUBDOMAIN.fullmatch(prefix):
            causes.invalid(path, key, f"prefix part {_SUBDOMAIN_RULE}")
    if not name:
        causes.invalid(path, key, "name part must be non-empty")
    if len(name) > _LONGEST_LABEL:
        causes.invalid(path, key, f"name part must be no more than {_LONGEST_LABEL} characters")
    if not _NAME_PART.fullmatch(name):
        causes.invalid(path, key, _NAME_PART_RULE)
