"""``fedge apply``: server-side apply of every object in the given files.

https://kubernetes.io/docs/reference/using-api/server-side-apply/

A server that does not know it gets what kubectl sends by default: a creation, or a merge patch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fedge_cli import apply_trace
from fedge_cli.api import Api, ResourceType
from fedge_cli.errors import AwayError, CommandError, MissingError, UsageError
from fedge_cli.manifests import Manifest, read
from fedge_cli.merging import annotated, merge_patch

FIELD_MANAGER = "fedge"
APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
_UNSUPPORTED = 415
_SERVER_FIELDS = {"managedFields", "resourceVersion", "generation"}


class DryRun(StrEnum):
    """How much is tried without keeping it."""

    NONE = "none"
    CLIENT = "client"
    """Only what would be made or changed is found out."""
    SERVER = "server"
    """The server checks and answers as if, and keeps nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of one manifest.

    Attributes:
        shown: ``pod/hello``.
        did: ``created``, ``configured`` or ``unchanged``.
        object: as the server has it now, or would have it.
        dry_run: whether it was kept.
    """

    shown: str
    did: str
    object: dict[str, Any]
    dry_run: DryRun = DryRun.NONE

    def __str__(self) -> str:
        """Return the line that kubectl prints."""
        match self.dry_run:
            case DryRun.NONE:
                return f"{self.shown} {self.did}"
            case DryRun.CLIENT:
                return f"{self.shown} {self.did} (dry run)"
            case DryRun.SERVER:
                return f"{self.shown} {self.did} (server dry run)"


def apply(api: Api, path: str, *, namespace: str) -> Iterator[str | CommandError]:
    """Apply what lies at ``path``; yield a line, or an error, for each object."""
    for found in apply_objects(api, path, default_namespace=namespace):
        yield str(found) if isinstance(found, Applied) else found


def apply_objects(
    api: Api,
    path: str,
    *,
    default_namespace: str,
    namespace: str = "",
    dry_run: DryRun = DryRun.NONE,
) -> Iterator[Applied | CommandError]:
    """Apply what lies at ``path``. An object that is refused stops no other.

    Args:
        api: where to.
        path: a file, a folder, or ``-`` for standard input.
        default_namespace: of objects that name none.
        namespace: the one that all objects must be in, if any.
        dry_run: how much to do.

    Raises:
        UsageError: there is nothing at ``path``.
        AwayError: the server does not answer at all.
    """
    for found in read(path):
        if isinstance(found, UsageError):
            yield found
            continue
        try:
            yield _apply_one(api, found, default_namespace, namespace, dry_run)
        except AwayError as exc:
            if not exc.status:
                raise  # nobody answers: nor for the other documents
            yield exc.at(found.place)
        except CommandError as exc:
            yield exc.at(found.place)


def place(
    kind: ResourceType, metadata: dict[str, Any], *, default_namespace: str, namespace: str
) -> str:
    """Return the namespace of a manifest's object, empty if it has none.

    Raises:
        UsageError: the manifest names another than is asked for.
    """
    if not kind.is_namespaced:
        return ""
    named = metadata.get("namespace")
    if named and namespace and named != namespace:
        raise UsageError(
            f'the namespace from the provided object "{named}" does not match the namespace '
            f"\"{namespace}\". You must pass '--namespace={named}' to perform this operation."
        )
    return str(named or namespace or default_namespace)


def _apply_one(
    api: Api, manifest: Manifest, default_namespace: str, namespace: str, dry_run: DryRun
) -> Applied:
    obj = manifest.object
    kind = api.type_of(obj)
    metadata = obj["metadata"]
    where = place(kind, metadata, default_namespace=default_namespace, namespace=namespace)
    if where:
        obj = {**obj, "metadata": {**metadata, "namespace": where}}
    path = kind.path(where, metadata["name"])
    try:
        before = api.request("GET", path)
    except MissingError:
        before = None
    if dry_run is DryRun.CLIENT:
        after = obj
        did = "created" if before is None else "configured"
    else:
        with apply_trace.span_of(kind, where, metadata["name"]):
            obj = _naming_trace(api, kind, where, obj, before, dry_run)
            after = _send(api, kind, where, obj, before, dry_run)
        did = _what_happened(before, after)
    if kind.plural == "customresourcedefinitions" and dry_run is DryRun.NONE:
        api.forget_types()
    return Applied(
        shown=f"{kind.display}/{metadata['name']}", did=did, object=after, dry_run=dry_run
    )


def _naming_trace(
    api: Api,
    kind: ResourceType,
    where: str,
    obj: dict[str, Any],
    before: dict[str, Any] | None,
    dry_run: DryRun,
) -> dict[str, Any]:
    """Return the object with the trace that is being made, unless nothing is going to change.

    What the manifest says of it stands; what was said before is no reason for a change.
    """
    if apply_trace.named_by(obj):
        return obj
    context = apply_trace.context_for(kind) if dry_run is DryRun.NONE else ""
    if before is None:
        return apply_trace.naming(obj, context)
    as_it_is = apply_trace.naming(obj, apply_trace.named_by(before))
    if not context:
        return as_it_is
    tried = _send(api, kind, where, as_it_is, before, DryRun.SERVER)
    return as_it_is if _content(tried) == _content(before) else apply_trace.naming(obj, context)


def _send(
    api: Api,
    kind: ResourceType,
    where: str,
    obj: dict[str, Any],
    before: dict[str, Any] | None,
    dry_run: DryRun,
) -> dict[str, Any]:
    path = kind.path(where, obj["metadata"]["name"])
    query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
    if dry_run is DryRun.SERVER:
        query["dryRun"] = "All"
    try:
        return api.request(
            "PATCH", path, query={**query, "force": "true"}, body=obj, content_type=APPLY_PATCH
        )
    except CommandError as exc:
        if exc.status != _UNSUPPORTED:
            raise
    if before is None:
        return api.request("POST", kind.path(where), query=query, body=annotated(obj))
    patch = merge_patch(obj, before)
    if not patch:
        return before
    return api.request("PATCH", path, query=query, body=patch, content_type=MERGE_PATCH)


def _what_happened(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    if before is None:
        return "created"
    return "unchanged" if _content(before) == _content(after) else "configured"


def _content(obj: dict[str, Any]) -> dict[str, Any]:
    """Return an object without what the server changes although nothing else did."""
    metadata = {k: v for k, v in obj["metadata"].items() if k not in _SERVER_FIELDS}
    return {**obj, "metadata": metadata}
