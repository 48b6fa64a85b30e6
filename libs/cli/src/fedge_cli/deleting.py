"""``fedge delete``: deletion, and waiting until the objects are gone."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedge_cli.api import Api, ResourceType, is_expired
from fedge_cli.applying import place
from fedge_cli.errors import AwayError, CommandError, UsageError
from fedge_cli.manifests import read
from fedge_cli.staleness import age, stale_nodes

WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An object to delete."""

    kind: ResourceType
    namespace: str
    name: str

    @property
    def path(self) -> str:
        """Its URL path."""
        return self.kind.path(self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How to delete.

    Attributes:
        grace_seconds: for the containers; None leaves it to the object.
        wait_seconds: how long to wait until it is gone; None does not wait.
    """

    grace_seconds: int | None = None
    wait_seconds: float | None = WAIT_SECONDS


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
    manner = Manner(grace_seconds=grace_seconds, wait_seconds=WAIT_SECONDS if wait else None)
    target = Target(kind=kind, namespace=namespace, name=name)
    lines = list(delete_all(api, [target], manner))
    for line in lines:
        if isinstance(line, CommandError):
            raise line
    return str(lines[0])


def delete_all(
    api: Api, targets: Sequence[Target | CommandError], manner: Manner
) -> Iterator[str | CommandError]:
    """Delete objects, then wait until all are gone; yield a line or an error for each.

    One that is not there, or is refused, stops no other.
    """
    leaving: list[tuple[Target, str]] = []
    for target in targets:
        if isinstance(target, CommandError):
            yield target
            continue
        try:
            leaving.append((target, _ask(api, target, manner)))
        except CommandError as exc:
            yield exc
            continue
        how = "force deleted" if manner.grace_seconds == 0 else "deleted"
        yield f'{target.kind.display} "{target.name}" {how}'
    if manner.wait_seconds is None:
        return
    deadline = time.monotonic() + manner.wait_seconds
    for target, uid in leaving:
        try:
            _gone(api, target, uid, deadline, manner.wait_seconds)
        except CommandError as exc:
            yield exc


def targets_in(
    api: Api, path: str, *, default_namespace: str, namespace: str = ""
) -> Iterator[Target | CommandError]:
    """Yield what the files at ``path`` describe, and an error for each that cannot be read."""
    for found in read(path):
        if isinstance(found, UsageError):
            yield found
            continue
        metadata = found.object["metadata"]
        try:
            kind = api.type_of(found.object)
            where = place(kind, metadata, default_namespace=default_namespace, namespace=namespace)
        except CommandError as exc:
            yield exc.at(found.place)
            continue
        yield Target(kind=kind, namespace=where, name=metadata["name"])


def _ask(api: Api, target: Target, manner: Manner) -> str:
    """Ask for the deletion; return the object's uid."""
    uid = str(api.request("GET", target.path)["metadata"].get("uid", ""))
    options: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if uid:
        # what took its name meanwhile is not what was asked for
        options["preconditions"] = {"uid": uid}
    if manner.grace_seconds is not None:
        options["gracePeriodSeconds"] = manner.grace_seconds
    api.request("DELETE", target.path, body=options)
    return uid


def _gone(api: Api, target: Target, uid: str, deadline: float, waited: float) -> None:
    """Wait until the object is gone, or another has its name."""
    collection = target.kind.path(target.namespace)
    only = {"fieldSelector": f"metadata.name={target.name}"}
    node = ""
    while (left := deadline - time.monotonic()) > 0:
        listed = api.request("GET", collection, query=only)
        here = [each for each in listed["items"] if each["metadata"].get("uid", "") == uid]
        if not here:
            return
        node = str((here[0].get("spec") or {}).get("nodeName", ""))
        try:
            for event in api.watch(
                collection,
                resource_version=listed["metadata"]["resourceVersion"],
                query=only,
                seconds=max(1, round(left)),
            ):
                metadata = event["object"]["metadata"]
                if event["type"] == "DELETED" and metadata.get("uid", "") == uid:
                    return
        except CommandError as exc:
            if not is_expired(exc):
                raise
    raise _still_there(api, target, node, waited)


def _still_there(api: Api, target: Target, node: str, waited: float) -> CommandError:
    said = f"{target.kind.display}/{target.name} is still there after {waited:.0f} s"
    if target.kind.plural != "pods" or not node:
        return CommandError(f"{said}: `fedge describe` shows which finalizers hold it")
    silent = stale_nodes(api, [node]).get(node)
    if silent is None:
        return CommandError(f"{said}: node {node!r} has not ended it yet")
    return AwayError(
        f"{said}: its node {node!r} has not been heard of for {age(silent)}; the pod goes when the "
        "node is back, or with --force now, which does not stop it there"
    )
