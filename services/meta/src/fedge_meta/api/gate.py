"""Writes at the edge: to the cloud while it answers, else into the outbox.

Online the cloud decides, by its roles, as for the same user there. Offline the roles decide that
the cloud sent along, and of what they allow only that is taken which can be merged later
(``offline``).
"""

from typing import Any, Final

import msgspec

from fedge_apiserver.decoding import decode_object
from fedge_apiserver.errors import ApiError
from fedge_apiserver.http import Request
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import PODS, SECRETS, TOKEN_REVIEWS, Resource
from fedge_meta.api.accounts import NodeAccounts
from fedge_meta.api.authors import author_of
from fedge_meta.api.away import away
from fedge_meta.api.cloud import Cloud, NoAnswerError
from fedge_meta.api.logs import NodeLogs
from fedge_meta.api.offline import OfflineWriting
from fedge_meta.api.outbox import Outbox
from fedge_meta.api.passing import Passing
from fedge_meta.api.view import View
from fedge_objects import JsonObject, NodeName, ObjectKey

_WRITES: Final = ("POST", "PUT", "PATCH", "DELETE")
_AWAY_CODES: Final = (502, 503, 504)
_ASKED_OF_EDGED: Final = ("log", "exec", "attach", "portforward")
_ASKED_OF_HUB: Final = ("proxy", "history")
_ASKED_HERE: Final = ("authentication.k8s.io", "authorization.k8s.io")
"""Groups of reviews: questions that are answered by what is known here."""


class _NewMetadata(msgspec.Struct):
    name: str = ""


class _New(msgspec.Struct):
    metadata: _NewMetadata = msgspec.field(default_factory=_NewMetadata)


class Gate:
    """What of the API's requests is answered by the cloud, or in its stead."""

    def __init__(
        self,
        *,
        node: NodeName,
        view: View,
        registry: Registry,
        accounts: NodeAccounts,
        cloud: Cloud,
        outbox: Outbox,
        passing: Passing,
        logs: NodeLogs,
    ) -> None:
        self._logs = logs
        self._node = node
        self._view = view
        self._registry = registry
        self._accounts = accounts
        self._cloud = cloud
        self._outbox = outbox
        self._passing = passing
        self.offline: OfflineWriting | None = None
        """Set once the application is there, whose parts it uses."""

    async def decides(self, request: Request, parts: list[str]) -> bool:
        """Answer a write that the cloud can be asked about now."""
        if not _is_write(request, parts):
            return False
        resource, key, _ = self._target(request, parts)
        if self._cloud.is_away:
            return False
        body = await request.body()
        request.replay(body)
        if key is not None and self._outbox.concerns(_named(key, body)):
            return False  # in their order: behind what waits
        author = author_of(request.user, self._registry, self._node)
        try:
            answer = await self._passing.ask(request, author, resource, body)
        except NoAnswerError:
            return False
        if answer.code in _AWAY_CODES:
            return False  # there is a line, but no API at its end
        told = await self._passing.take(key, answer, is_delete=request.method == "DELETE")
        await request.answer(told, code=answer.code)
        return True

    async def answers(self, request: Request, parts: list[str]) -> bool:
        """Answer what the roles allow and the library's own code does not do here."""
        resource, key, subresource = self._target(request, parts)
        if subresource in _ASKED_OF_HUB:
            raise ApiError(
                501, "NotImplemented", f"{subresource} is answered by the cloud's API alone"
            )
        if resource is PODS and key is not None and subresource in _ASKED_OF_EDGED:
            await self._ask_edged(request, key, subresource)
            return True
        if resource is SECRETS:
            await self._view.open_secrets()
        if resource is TOKEN_REVIEWS and request.method == "POST":
            await self._review(request)
            return True
        if not _is_write(request, parts):
            return False
        if resource is None or self.offline is None:
            raise away("this is not held at the edge, so it cannot be written without the cloud")
        author = author_of(request.user, self._registry, self._node)
        await self.offline.write(request, author, resource, parts, subresource)
        return True

    async def _ask_edged(self, request: Request, key: ObjectKey, subresource: str) -> None:
        if subresource != "log" or request.method != "GET":
            raise ApiError(
                501,
                "NotImplemented",
                f"the edge's API has no pods/{subresource}: use `fedge exec` at the node, or the"
                " cloud's API",
            )
        self._registry.get(PODS, key.namespace, key.name)
        await self._logs.stream(request, key.namespace, key.name)

    async def _review(self, request: Request) -> None:
        content_type = request.header(b"content-type")
        value, _ = decode_object(await request.body(), content_type, "TokenReview", None)
        spec: Any = value.get("spec")
        answer: JsonObject = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {"creationTimestamp": None},
            "spec": spec,
            "status": self._accounts.review(spec if isinstance(spec, dict) else {}),
        }
        await request.answer_json(answer, code=201)

    def _target(
        self, request: Request, parts: list[str]
    ) -> tuple[Resource | None, ObjectKey | None, str]:
        """Return what a request is about: resource, object and subresource, as far as they are."""
        match parts:
            case ["api", version, *rest] if rest:
                group = ""
            case ["apis", group, version, *rest] if rest:
                pass
            case _:
                return None, None, ""
        if rest[0] == "watch":
            rest = rest[1:]
        namespace = ""
        match rest:
            case ["namespaces", namespace, plural, *names] if plural not in ("status", "finalize"):
                pass
            case [plural, *names]:
                pass
            case _:
                return None, None, ""
        resource = self._view.catalog.find(group, version, plural)
        name, subresource = (*names, "", "")[:2]
        if resource is None or not resource.storage:
            return resource, None, subresource
        key = ObjectKey(resource.storage, namespace, name)
        return resource, key if name or request.method == "POST" else None, subresource


def _named(key: ObjectKey, body: bytes) -> ObjectKey:
    """Return the key of the object that a request is about; a new one's name is in the body."""
    if key.name:
        return key
    try:
        name = msgspec.json.decode(body, type=_New).metadata.name
    except msgspec.MsgspecError:
        return key  # YAML, or nothing that can be read: it is judged where it is read
    return ObjectKey(key.resource, key.namespace, name)


def _is_write(request: Request, parts: list[str]) -> bool:
    if request.method not in _WRITES or len(parts) < 3:  # noqa: PLR2004 - api, version, resource
        return False
    return not (parts[0] == "apis" and parts[1] in _ASKED_HERE)
