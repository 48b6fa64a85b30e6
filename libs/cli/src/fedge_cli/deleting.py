"""``fedge delete``: deletion, and waiting until the object is gone."""

import time
from collections.abc import Iterator

from fedge_cli.api import Api, ResourceType
from fedge_cli.errors import CommandError, MissingError, UsageError
from fedge_cli.manifests import read

WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.2


def delete(
    api: Api,
    kind: ResourceType,
    namespace: str,
    name: str,
    *,
    grace_seconds: int | None,
    wait: bool,
) -> str:
    """Delete one object; return what is to be said.

    Raises:
        CommandError: it is refused, or still there after two minutes.
    """
    options: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if grace_seconds is not None:
        options["gracePeriodSeconds"] = grace_seconds
    path = kind.path(namespace, name)
    before = api.request("GET", path)["metadata"].get("uid")
    api.request("DELETE", path, body=options)
    if wait:
        _gone(api, path, before, f"{kind.display}/{name}")
    return f'{kind.display} "{name}" deleted'


def delete_files(
    api: Api, path: str, *, namespace: str, grace_seconds: int | None, wait: bool
) -> Iterator[str | CommandError]:
    """Delete what the files at ``path`` describe; yield a line or an error for each."""
    for found in read(path):
        if isinstance(found, UsageError):
            yield found
            continue
        obj = found.object
        try:
            kind = api.type_of(obj)
            where = obj["metadata"].get("namespace") or namespace
            yield delete(
                api,
                kind,
                where,
                obj["metadata"]["name"],
                grace_seconds=grace_seconds,
                wait=wait,
            )
        except CommandError as exc:
            exc.args = (f"{found.place}: {exc}",)
            yield exc


def _gone(api: Api, path: str, uid: str | None, shown: str) -> None:
    """Wait until the object is gone, or another has its name."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            if api.request("GET", path)["metadata"].get("uid") != uid:
                return
        except MissingError:
            return
        time.sleep(LOOK_SECONDS)
    raise CommandError(
        f"{shown} is still there after {WAIT_SECONDS:.0f} s: its node may be away "
        "(`fedge get nodes`); it goes as soon as the node is back"
    )
