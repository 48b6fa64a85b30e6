"""``fedge apply``: server-side apply of every object in the given files.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from collections.abc import Iterator

from fedge_cli.api import Api
from fedge_cli.errors import CommandError, MissingError, UsageError
from fedge_cli.manifests import Manifest, read

FIELD_MANAGER = "fedge"
APPLY_PATCH = "application/apply-patch+yaml"


def apply(
    api: Api, path: str, *, namespace: str, dry_run: bool = False
) -> Iterator[str | CommandError]:
    """Apply what lies at ``path``; yield a line, or an error, for each object.

    An object that is refused stops no other.
    """
    for found in read(path):
        if isinstance(found, UsageError):
            yield found
            continue
        try:
            yield _apply_one(api, found, namespace, dry_run=dry_run)
        except CommandError as exc:
            exc.args = (f"{found.place}: {exc}",)
            yield exc


def _apply_one(api: Api, manifest: Manifest, namespace: str, *, dry_run: bool) -> str:
    obj = manifest.object
    kind = api.type_of(obj)
    metadata = obj["metadata"]
    if "name" not in metadata:
        raise UsageError("apply needs metadata.name, not generateName")
    where = metadata.get("namespace") or namespace if kind.is_namespaced else ""
    if where:
        obj = {**obj, "metadata": {**metadata, "namespace": where}}
    path = kind.path(where, metadata["name"])
    try:
        before = api.request("GET", path)["metadata"]["resourceVersion"]
    except MissingError:
        before = None
    query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
    if dry_run:
        query["dryRun"] = "All"
    after = api.request("PATCH", path, query=query, body=obj, content_type=APPLY_PATCH)
    if kind.plural == "customresourcedefinitions":
        api.forget_types()
    if before is None:
        did = "created"
    else:
        changed = after["metadata"]["resourceVersion"] != before
        did = "configured" if changed else "unchanged"
    suffix = " (server dry run)" if dry_run else ""
    return f"{kind.display}/{metadata['name']} {did}{suffix}"
