"""Passing a write on to the cloud while somebody waits, and its answer back.

The cloud counts revisions of its own. What a program here was shown has the edge's; so a
``resourceVersion`` that it sends along is put into the cloud's words, and the answer into ours.
"""

import json
import secrets
from typing import Any, Final

import msgspec
import structlog

from fedge_apiserver.decoding import JSON, decode_json, decode_object, decode_yaml, media_type
from fedge_apiserver.errors import STALE, bad_request, conflict
from fedge_apiserver.http import Request
from fedge_apiserver.resources import CONFIG_MAPS, SECRETS, Resource
from fedge_fabric import writes
from fedge_fabric.writes import Author, Seen, Write, digest_of
from fedge_meta.api.cloud import Answer, Cloud
from fedge_meta.api.outbox import PENDING
from fedge_meta.api.view import View
from fedge_meta.keeping import Keeping
from fedge_objects import Change, JsonObject, ObjectKey, Version, without_bookkeeping

log = structlog.stdlib.get_logger("fedge.meta")

_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_KEPT_AT_ONCE: Final = (CONFIG_MAPS.storage, SECRETS.storage)
"""Kinds that nodes are given as they are: the cloud's answer is what it would send."""
_REVISION_PATH: Final = "/metadata/resourceVersion"


class Passing:
    """The way of requests to the cloud and back."""

    def __init__(
        self, *, view: View, cloud: Cloud, keeping: Keeping, answer_seconds: float
    ) -> None:
        self._answer_seconds = answer_seconds
        self._view = view
        self._cloud = cloud
        self._keeping = keeping

    async def ask(
        self, request: Request, author: Author, resource: Resource | None, body: bytes
    ) -> Answer:
        """Have the cloud do what a request asks for, and return its answer.

        Args:
            request: whose.
            author: who asks.
            resource: that it is about, if it is one that is held here.
            body: of the request.

        Raises:
            ApiError: 400 or 415, its body cannot be read; 409, the state it speaks of is no more.
            NoAnswerError: the cloud did not answer.
        """
        content_type = request.header(b"content-type")
        value = _decoded(request, resource, body, content_type)
        seen = None if resource is None else self._in_their_words(request, resource, value)
        is_patch = request.method == "PATCH"
        write = Write(
            author=author,
            request=writes.Request(
                method=request.method,
                path=request.path,
                query=request.raw_query,
                content_type=media_type(content_type) if is_patch else JSON,
                body=value,
            ),
            seen=seen,
        )
        return await self._cloud.ask(
            write, write_id=secrets.token_hex(16), seconds=self._answer_seconds
        )

    async def take(self, key: ObjectKey | None, answer: Answer, *, is_delete: bool) -> bytes:
        """Take what the cloud answered; return it as it is told to whoever asked.

        What was written can be read here from now on, and is told by the edge's revision.

        Args:
            key: of the object that was written; None: it is of none that is held here.
            answer: the cloud's.
            is_delete: whether it was to be removed.
        """
        body = answer.body.encode()
        if key is None or answer.code >= 300:  # noqa: PLR2004 - HTTP's line between success and the rest
            return body
        try:
            obj = json.loads(body)
            metadata = obj["metadata"]
            is_object = obj["kind"] != "Status" and metadata["name"]
        except (ValueError, KeyError, TypeError):
            return body
        if not is_object:
            if is_delete:
                await self._view.hide(key)
            return body
        if is_delete and not metadata.get("deletionTimestamp"):
            await self._view.hide(key)
            return body
        key = ObjectKey(key.resource, key.namespace, str(metadata["name"]))
        entry = await self.keep(key, obj)
        if entry:
            metadata["resourceVersion"] = entry
        return msgspec.json.encode(obj)

    async def keep(self, key: ObjectKey, obj: JsonObject) -> str:
        """Take an object as the cloud has it now; return our revision of it, or nothing."""
        revision = int(obj["metadata"]["resourceVersion"])
        given = without_bookkeeping(obj)
        held = await self._view.version_of(key)
        if held is not None and key.resource in _KEPT_AT_ONCE:
            version = Version(held.decided, revision)
            await self._keeping.keep(Change(key=key, version=version, object=given))
        async with self._view.updating:
            entry = await self._view.expect(key, given, revision)
        return "" if entry is None else str(entry.revision)

    def _in_their_words(self, request: Request, resource: Resource, value: Any) -> Seen | None:
        """Put what a request says of revisions into the cloud's words; return what was seen."""
        if isinstance(value, list):
            seen = None
            for step in value:
                if isinstance(step, dict) and step.get("path") == _REVISION_PATH:
                    seen = self._seen(resource, step.get("value"))
                    step["value"] = str(seen.revision)
            return seen
        if not isinstance(value, dict):
            return None
        field = "preconditions" if request.method == "DELETE" else "metadata"
        metadata = value.get(field)
        if not isinstance(metadata, dict):
            return None
        _name(request, metadata)
        if isinstance(metadata.get("annotations"), dict):
            metadata["annotations"].pop(PENDING, None)
        if not metadata.get("resourceVersion"):
            return None
        seen = self._seen(resource, metadata["resourceVersion"])
        metadata["resourceVersion"] = str(seen.revision)
        return seen

    def _seen(self, resource: Resource, revision: Any) -> Seen:
        base = self._view.base_of(int(revision)) if str(revision).isdecimal() else None
        if base is None:
            raise conflict(resource, "", STALE)
        _, theirs, obj = base
        return Seen(revision=theirs, digest="" if obj is None else digest_of(obj))


def _decoded(request: Request, resource: Resource | None, body: bytes, content_type: str) -> Any:
    """Return a request's body, whatever form it has; None if there is none.

    Raises:
        ApiError: 400 or 415.
    """
    if not body.strip():
        return None
    if request.method == "PATCH":
        try:
            is_yaml = media_type(content_type).endswith("yaml")
            return decode_yaml(body) if is_yaml else decode_json(body)
        except ValueError as exc:
            raise bad_request(f"error decoding patch: {exc}") from exc
    if request.method == "DELETE":
        return decode_object(body, content_type, "DeleteOptions", "DeleteOptions")[0]
    kind, schema = (resource.kind, resource.schema) if resource else ("Object", None)
    return decode_object(body, content_type, kind, schema)[0]


def _name(request: Request, metadata: dict[str, Any]) -> None:
    """Choose a new object's name here: asked twice, the cloud must not make two."""
    if request.method == "POST" and not metadata.get("name") and metadata.get("generateName"):
        suffix = "".join(secrets.choice(_LETTERS) for _ in range(5))
        metadata["name"] = f"{metadata['generateName'][:58]}{suffix}"
