"""Passing a write on to the cloud while somebody waits, and its answer back.

The cloud counts revisions of its own. What a program here was shown has the edge's; so a
``resourceVersion`` that it sends along is put into the cloud's words, and the answer into ours.
"""

import json
import secrets
from typing import Any, Final

import msgspec
import structlog

from fedge_apiserver.decoding import JSON, decode_json, decode_yaml, media_type
from fedge_apiserver.errors import STALE, ApiError, conflict
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
_JSON_PATCH: Final = "application/json-patch+json"
_KEPT_AT_ONCE: Final = (CONFIG_MAPS.storage, SECRETS.storage)
"""Kinds that nodes are given as they are: the cloud's answer is what it would send."""
_REVISION_PATH: Final = "/metadata/resourceVersion"


class Passing:
    """The way of requests to the cloud and back."""

    def __init__(self, *, view: View, cloud: Cloud, keeping: Keeping) -> None:
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
            ApiError: 409, it speaks of a state that is no more.
            NoAnswerError: the cloud did not answer.
        """
        content_type = request.header(b"content-type")
        body, content_type, seen = self._in_their_words(request, resource, body, content_type)
        write = Write(
            author=author,
            request=writes.Request(
                method=request.method,
                path=request.path,
                query=request.raw_query,
                content_type=content_type,
                body=body,
            ),
            seen=seen,
        )
        return await self._cloud.ask(
            write, write_id=secrets.token_hex(16), seconds=writes.ONLINE_SECONDS
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

    def _in_their_words(
        self, request: Request, resource: Resource | None, body: bytes, content_type: str
    ) -> tuple[bytes, str, Seen | None]:
        """Return body and content type as the cloud is to get them, and what was seen."""
        kind = media_type(content_type)
        says = any(
            word in body for word in (b"resourceVersion", PENDING.encode(), b"generateName")
        )
        if resource is None or not says:
            return body, content_type, None
        try:
            value = decode_yaml(body) if "yaml" in kind else decode_json(body)
        except ValueError:
            return body, content_type, None  # the cloud says what is wrong with it
        seen = None
        if isinstance(value, list) and kind == _JSON_PATCH:
            for step in value:
                if isinstance(step, dict) and step.get("path") == _REVISION_PATH:
                    seen = self._seen(resource, step.get("value"))
                    step["value"] = str(seen.revision)
        elif isinstance(value, dict):
            where = value.get("preconditions") if request.method == "DELETE" else None
            metadata = where if isinstance(where, dict) else value.get("metadata")
            if isinstance(metadata, dict):
                if metadata.get("resourceVersion"):
                    seen = self._seen(resource, metadata["resourceVersion"])
                    metadata["resourceVersion"] = str(seen.revision)
                (metadata.get("annotations") or {}).pop(PENDING, None)
                _name(request, metadata)
        sent = content_type if kind.endswith(("+json", "+yaml")) else JSON
        return msgspec.json.encode(value), sent, seen

    def _seen(self, resource: Resource, revision: Any) -> Seen:
        base = self._view.base_of(int(revision)) if str(revision).isdecimal() else None
        if base is None:
            raise conflict(resource, "", STALE)
        _, theirs, obj = base
        return Seen(revision=theirs, digest="" if obj is None else digest_of(obj))


def _name(request: Request, metadata: dict[str, Any]) -> None:
    """Choose a new object's name here: asked twice, the cloud must not make two."""
    if request.method == "POST" and not metadata.get("name") and metadata.get("generateName"):
        suffix = "".join(secrets.choice(_LETTERS) for _ in range(5))
        metadata["name"] = f"{metadata['generateName'][:58]}{suffix}"


def refused(answer: Answer) -> ApiError:
    """Return the cloud's refusal as one of ours."""
    try:
        status = json.loads(answer.body)
        return ApiError(answer.code, str(status["reason"]), str(status["message"]))
    except (ValueError, KeyError, TypeError):
        return ApiError(answer.code, "Unknown", answer.body[:500])
