"""Bringing what was written at an edge with the cloud away together with the cloud's own changes.

By the object's three states: as the edge saw it, as it wants it, as the cloud has it now. What only
one side changed holds. Where both changed one field differently, nothing of the write is made: the
cloud's object stays as it is, bears a mark that says what was lost, and an event tells both values.

Every step can be repeated. A write that was made is known by its id, which the same request writes
into the object; one whose effect is there already is made; an answer that was lost is given again.

https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from fedge_fabric.writes import CONFLICT, WRITTEN, ObjectChange
from fedge_kube import (
    EVENTS,
    PODS,
    SECRETS,
    ConflictError,
    KubeClient,
    NotFoundError,
    RefusedError,
    Resource,
)
from fedge_objects import (
    Contradiction,
    JsonObject,
    NodeName,
    change_between,
    merge_changes,
    without_bookkeeping,
)

log = structlog.stdlib.get_logger("fedge.controller")

_OK, _NOT_FOUND, _CONFLICT = 200, 404, 409
_TRIES: Final = 5
_MERGE_PATCH: Final = "application/merge-patch+json"
_OF_THE_CLOUD: Final = ("uid", "creationTimestamp", "deletionTimestamp")
_MOST_SHOWN: Final = 256
_MOST_FIELDS: Final = 20
_MOST_NAME: Final = 200
"""Of an object's name in that of an event about it, which has room for 253 characters."""
_CONDITION: Final = "fedge.io/EdgeWriteConflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a write.

    Attributes:
        code: HTTP's, as the API gave it.
        body: as the API gave it.
        conflict: fields that both sides changed: ``{"path", "edge", "cloud"}``.
    """

    code: int
    body: str
    conflict: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    user: str
    node: NodeName
    mark: str
    change: ObjectChange
    resource: Resource

    @property
    def path(self) -> str:
        return self.resource.path(self.change.namespace, self.change.name)

    @property
    def query(self) -> list[tuple[str, str]]:
        return [("fieldManager", self.change.manager)] if self.change.manager else []


class Merging:
    """Merges writes into the API's objects, each in its author's name."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube

    async def merge(
        self, user: str, change: ObjectChange, *, node: NodeName, write_id: str
    ) -> Outcome:
        """Make a change, unless it was made.

        Args:
            user: in whose name.
            change: what is wanted, and what was there before.
            node: where it was written.
            write_id: the same in each repetition.

        Raises:
            UnreachableError: the API does not answer; the change may be made or not.
        """
        resource = Resource(change.group, change.version, change.plural, bool(change.namespace))
        write = _Write(
            user=user,
            node=node,
            mark=f"{node}/{write_id}",
            change=change,
            resource=resource,
        )
        outcome = Outcome(code=_CONFLICT, body="{}")
        for _ in range(_TRIES):
            made = await self._create(write) if change.base is None else None
            outcome = made or await self._onto_what_is_there(write)
            if outcome.code != _CONFLICT or outcome.conflict:
                break
        if 400 <= outcome.code < 500 and not outcome.conflict:  # noqa: PLR2004 - HTTP's classes
            message = f"written at {node} by {user} and refused by the API: {outcome.body[:500]}"
            await self._tell(write, None, "EdgeWriteRefused", message)
        return outcome

    async def _create(self, write: _Write) -> Outcome | None:
        """Make a new object; None if one of its name is there."""
        wanted = _marked(_clean(write.change.wanted or {}), write.mark)
        path = write.resource.path(write.change.namespace)
        code, body = await self._kube.send_as(
            write.user, "POST", path, query=write.query, body=wanted
        )
        return None if code == _CONFLICT else Outcome(code=code, body=body)

    async def _onto_what_is_there(self, write: _Write) -> Outcome:
        code, body = await self._kube.send_as(write.user, "GET", write.path)
        change = write.change
        if code == _NOT_FOUND:
            return await self._onto_nothing(write, body)
        if code != _OK:
            return Outcome(code=code, body=body)
        held: JsonObject = json.loads(body)
        if ((held["metadata"].get("annotations") or {}).get(WRITTEN)) == write.mark:
            return Outcome(code=_OK, body=body)
        if change.wanted is None:
            return await self._delete(write, held)
        theirs, base = _clean(held), _clean(change.base or {})
        merged = merge_changes(base, _clean(change.wanted), theirs)
        if merged.contradictions:
            return await self._conflict(write, held, merged.contradictions)
        if merged.value == theirs:
            return Outcome(code=_OK, body=body)
        return await self._write(write, held, _marked(merged.value, write.mark))

    async def _onto_nothing(self, write: _Write, body: str) -> Outcome:
        """Change what is not there: removing it is done, everything else is a conflict."""
        if write.change.wanted is None:
            return Outcome(code=_OK, body=body)
        if write.change.base is None:
            return Outcome(code=_CONFLICT, body=body)  # it is gone since: make it
        patch = change_between(_clean(write.change.base), _clean(write.change.wanted))
        lost = Contradiction(path=write.change.name, ours=patch, theirs=None)
        return await self._conflict(write, None, (lost,))

    async def _delete(self, write: _Write, held: JsonObject) -> Outcome:
        base = write.change.base or {}
        metadata = held["metadata"]
        if metadata["uid"] != base["metadata"].get("uid"):
            return Outcome(code=_OK, body="{}")  # what was meant is gone, this is another
        if _clean(held) != _clean(base):
            changed = change_between(_clean(base), _clean(held))
            lost = Contradiction(path=write.change.name, ours=None, theirs=changed)
            return await self._conflict(write, held, (lost,))
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
        }
        code, body = await self._kube.send_as(write.user, "DELETE", write.path, body=options)
        if code == _NOT_FOUND:
            return Outcome(code=_OK, body="{}")
        return Outcome(code=code, body=body)

    async def _write(self, write: _Write, held: JsonObject, wanted: JsonObject) -> Outcome:
        """Put the next state in the place of the one that is held, and of no other."""
        revision = held["metadata"]["resourceVersion"]
        if write.change.verb == "update":
            metadata = {**held["metadata"], "labels": None, "annotations": None}
            metadata |= {**wanted["metadata"], "resourceVersion": revision}
            kept = {k: v for k, v in held.items() if k == "status"}
            method, kind, body = "PUT", "application/json", {**wanted, **kept, "metadata": metadata}
        else:
            method, kind, body = "PATCH", _MERGE_PATCH, change_between(_clean(held), wanted)
            metadata = body.setdefault("metadata", {})
            metadata["resourceVersion"] = revision
            if CONFLICT in (held["metadata"].get("annotations") or {}):
                metadata.setdefault("annotations", {}).setdefault(CONFLICT, None)  # it is over
        code, answer = await self._kube.send_as(
            write.user, method, write.path, query=write.query, body=body, content_type=kind
        )
        return Outcome(code=code, body=answer)

    async def _conflict(
        self, write: _Write, held: JsonObject | None, found: tuple[Contradiction, ...]
    ) -> Outcome:
        """Tell of a conflict: by a mark on the object, an event, and the answer."""
        shown = tuple(
            {
                "path": each.path,
                "edge": _shown(write, each.ours),
                "cloud": _shown(write, each.theirs),
            }
            for each in found[:_MOST_FIELDS]
        )
        log.warning(
            "edge_write_conflict",
            node=write.node,
            object=str(write.change.key),
            fields=[each["path"] for each in shown],
        )
        if held is not None and not await self._mark(write, held, shown):
            return Outcome(code=_CONFLICT, body="{}")  # changed once more: look again
        fields = "; ".join(
            f"{each['path']}: edge {json.dumps(each['edge'])}, cloud {json.dumps(each['cloud'])}"
            for each in shown
        )
        message = (
            f"written at {write.node} by {write.user} and changed in the cloud, whose values hold: "
        )
        await self._tell(write, held, "EdgeWriteConflict", message + fields)
        what = f"{write.change.plural} {write.change.name!r}"
        message = f"{what} was changed in the cloud as well"
        return refusal(_CONFLICT, "Conflict", message, conflict=shown)

    async def _mark(self, write: _Write, held: JsonObject, shown: tuple[JsonObject, ...]) -> bool:
        """Write onto the object what was lost, in the author's name; a pod has a condition too.

        Returns:
            Whether the object was still as it is held.
        """
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {
            "type": "Conflict",
            "status": "True",
            "reason": "ChangedInCloud",
            "lastTransitionTime": at,
            "node": write.node,
            "user": write.user,
            "write": write.mark,
            "fields": list(shown),
        }
        before = (held["metadata"].get("annotations") or {}).get(CONFLICT)
        if before is not None and f'"{write.mark}"' in before:
            return True
        marked = _clean(held)
        annotations = {**(marked["metadata"].get("annotations") or {})}
        annotations[CONFLICT] = json.dumps(said, sort_keys=True)
        marked["metadata"] = {**marked["metadata"], "annotations": annotations}
        outcome = await self._write(write, held, marked)
        if outcome.code == _CONFLICT:
            return False
        if outcome.code != _OK:
            log.warning("conflict_not_marked", object=str(write.change.key), answer=outcome.code)
        if write.resource.name == PODS.name:
            condition = {
                "type": _CONDITION,
                "status": "True",
                "reason": "ChangedInCloud",
                "message": json.dumps(list(shown))[:1024],
                "lastTransitionTime": at,
            }
            await self._kube.patch(
                PODS,
                write.change.namespace,
                write.change.name,
                {"status": {"conditions": [condition]}},
                subresource="status",
                content_type="application/strategic-merge-patch+json",
            )
        return True

    async def _tell(
        self, write: _Write, held: JsonObject | None, reason: str, message: str
    ) -> None:
        about = held or write.change.base or write.change.wanted or {}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event: JsonObject = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{write.change.name[:_MOST_NAME]}.{write.mark.rpartition('/')[2][:16]}",
                "namespace": write.change.namespace or "default",
            },
            "involvedObject": {
                "apiVersion": about.get("apiVersion", ""),
                "kind": about.get("kind", ""),
                "namespace": write.change.namespace,
                "name": write.change.name,
                "uid": (about.get("metadata") or {}).get("uid", ""),
            },
            "type": "Warning",
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "fedge-controller", "host": write.node},
            "reportingComponent": "fedge.io/controller",
            "reportingInstance": write.node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._kube.create(EVENTS, event)
        except ConflictError:
            return  # told before
        except (RefusedError, NotFoundError) as exc:
            log.warning("write_not_told_of", object=str(write.change.key), reason=str(exc))


def refusal(
    code: int, reason: str, message: str, *, conflict: tuple[JsonObject, ...] = ()
) -> Outcome:
    """Return an outcome as a Kubernetes API refuses."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }
    return Outcome(code=code, body=json.dumps(status), conflict=conflict)


def _clean(obj: JsonObject) -> JsonObject:
    """Return what of an object its writers decide."""
    kept = without_bookkeeping(obj)
    metadata = {k: v for k, v in kept["metadata"].items() if k not in _OF_THE_CLOUD}
    annotations = {
        k: v
        for k, v in (metadata.pop("annotations", None) or {}).items()
        if k not in (WRITTEN, CONFLICT)
    }
    if annotations:
        metadata["annotations"] = annotations
    return {**kept, "metadata": metadata}


def _marked(obj: JsonObject, mark: str) -> JsonObject:
    metadata = obj["metadata"]
    annotations = {**(metadata.get("annotations") or {}), WRITTEN: mark}
    return {**obj, "metadata": {**metadata, "annotations": annotations}}


def _shown(write: _Write, value: Any) -> Any:
    """Return a value as it may be told: shortened, and of Secrets not at all."""
    if value is None:
        return None
    if write.resource.name == SECRETS.name:
        return "(not shown)"
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
