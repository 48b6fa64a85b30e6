"""Apply for servers without server-side apply: a merge patch made from three states.

What the last applied manifest had and the new one has not is removed; what the new one has is set;
what others have set meanwhile stays.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/#how-apply-calculates-differences-and-merges-changes
"""

import json
from collections.abc import Mapping
from typing import Any

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def annotated(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest that carries itself in its annotation, as kubectl's do."""
    plain = _without_last_applied(manifest)
    annotations = {**(plain["metadata"].get("annotations") or {}), LAST_APPLIED: _text(plain)}
    return {**plain, "metadata": {**plain["metadata"], "annotations": annotations}}


def merge_patch(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes ``live`` what ``manifest`` says; empty if it is so.

    https://www.rfc-editor.org/rfc/rfc7386
    """
    text = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        last = json.loads(text) if text else {}
    except ValueError:
        last = {}
    wanted = annotated(manifest)
    return _difference(last if isinstance(last, dict) else {}, wanted, live)


def _difference(
    last: Mapping[str, Any], wanted: Mapping[str, Any], live: Mapping[str, Any]
) -> dict[str, Any]:
    patch: dict[str, Any] = {name: None for name in last if name not in wanted and name in live}
    for name, value in wanted.items():
        if name not in live:
            if value is not None:
                patch[name] = value
            continue
        before, now = last.get(name), live[name]
        if isinstance(value, dict) and isinstance(now, dict):
            inner = _difference(before if isinstance(before, dict) else {}, value, now)
            if inner:
                patch[name] = inner
        elif value != now:
            patch[name] = value
    return patch


def _without_last_applied(manifest: Mapping[str, Any]) -> dict[str, Any]:
    metadata = dict(manifest["metadata"])
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop(LAST_APPLIED, None)
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    return {**manifest, "metadata": metadata}


def _text(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, separators=(",", ":"), sort_keys=True) + "\n"
