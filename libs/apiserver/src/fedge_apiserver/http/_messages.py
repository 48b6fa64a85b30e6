"""Requests and answers over ASGI, no more of it than an API server needs.

Nothing of a framework runs per request: that is what a reading costs most of otherwise.

https://asgi.readthedocs.io/en/stable/specs/www.html
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from fedge_apiserver.access import ADMINISTRATOR, User
from fedge_apiserver.errors import ApiError, bad_request, too_large
from fedge_objects import JsonObject

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MOST_BODY_BYTES: Final = 3 * 2**20
JSON_TYPE: Final = b"application/json"
YAML_TYPE: Final = b"application/yaml"

encode: Final = msgspec.json.Encoder().encode


class ClientGoneError(Exception):
    """The client closed the connection; nobody waits for an answer."""


@dataclass(slots=True)
class Request:
    """One request.

    Attributes:
        method: in capitals.
        path: decoded, without the query.
        query: the last value of each parameter.
        headers: by name in small letters, the first of each.
        raw_headers: all of them, as they came.
        user: who asks, once that is known.
        warnings: what the answer is to warn of.
        raw_query: as it came.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[bytes, bytes]
    receive: Receive
    send: Send
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    user: User = ADMINISTRATOR
    warnings: list[str] = field(default_factory=list)
    raw_query: str = ""

    @classmethod
    def of(cls, scope: Scope, receive: Receive, send: Send) -> "Request":
        """Return the request that an ASGI scope describes."""
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, value)
        raw: bytes = scope["query_string"]
        query = dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)) if raw else {}
        return cls(
            scope["method"],
            scope["path"],
            query,
            headers,
            receive,
            send,
            scope["headers"],
            raw_query=raw.decode("latin-1"),
        )

    def header(self, name: bytes) -> str:
        """Return a header's value; empty if it is not there."""
        return self.headers.get(name, b"").decode("latin-1")

    def flag(self, name: str) -> bool:
        """Return whether a query parameter says yes."""
        return self.query.get(name, "") in ("1", "t", "T", "true", "TRUE", "True")

    def number(self, name: str) -> int | None:
        """Return a query parameter's whole number; None if it is not there.

        Raises:
            ApiError: 400, it is none.
        """
        text = self.query.get(name, "")
        if not text:
            return None
        if not text.isdecimal():
            raise bad_request(f'{name}: Invalid value: "{text}": must be a whole number from 0 on')
        return int(text)

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            ApiError: 413, it is too big.
            ClientGoneError: the client left before its end.
        """
        limit = MOST_BODY_BYTES
        chunks: list[bytes] = []
        size = 0
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise too_large(f"Request entity too large: limit is {limit}")
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise too_large(f"Request entity too large: limit is {limit}")
            chunks.append(chunk)
            if not message.get("more_body"):
                return b"".join(chunks)

    def replay(self, body: bytes) -> None:
        """Have the body, which was read, read once more."""
        receive = self.receive
        pieces = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> dict[str, Any]:
            return pieces.pop() if pieces else await receive()

        self.receive = again

    async def until_gone(self) -> None:
        """Return when the client has closed the connection."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def answer(
        self,
        body: bytes,
        *,
        code: int = 200,
        content_type: bytes = JSON_TYPE,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Send the whole answer; JSON as YAML, if the client asks for that first."""
        if content_type == JSON_TYPE and self._wants_yaml():
            body = await asyncio.to_thread(_to_yaml, body)
            content_type = YAML_TYPE
        await self.send(
            {
                "type": "http.response.start",
                "status": code,
                "headers": [
                    (b"content-type", content_type),
                    (b"content-length", b"%d" % len(body)),
                    (b"cache-control", b"no-cache, private"),
                    *headers,
                    *self._warning_headers(),
                ],
            }
        )
        await self.send({"type": "http.response.body", "body": body})

    async def answer_json(self, value: JsonObject, *, code: int = 200) -> None:
        """Send a value as JSON."""
        await self.answer(encode(value), code=code)

    async def answer_error(self, error: ApiError) -> None:
        """Send a refusal."""
        headers: list[tuple[bytes, bytes]] = []
        if error.retry_after_seconds is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
        if error.code == 401:  # noqa: PLR2004 - HTTP's own number
            headers.append((b"www-authenticate", b'Bearer realm="fedge"'))
        await self.answer(encode(error.status()), code=error.code, headers=headers)

    async def start_stream(self, content_type: bytes = JSON_TYPE) -> None:
        """Send the head of an answer whose body comes in pieces."""
        await self.send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", content_type),
                    (b"cache-control", b"no-cache, private"),
                    *self._warning_headers(),
                ],
            }
        )

    async def send_piece(self, piece: bytes, *, is_last: bool = False) -> None:
        """Send a piece of the body."""
        await self.send({"type": "http.response.body", "body": piece, "more_body": not is_last})

    def _wants_yaml(self) -> bool:
        first = self.headers.get(b"accept", b"").partition(b",")[0].partition(b";")[0]
        return first.strip() == YAML_TYPE

    def _warning_headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"warning", f'299 - "{_escaped(text)}"'.encode("ascii", "replace"))
            for text in self.warnings
        ]


def _to_yaml(body: bytes) -> bytes:
    """Return JSON as YAML."""
    import yaml  # noqa: PLC0415 - few ask for it

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(
        msgspec.json.decode(body), Dumper=dumper, sort_keys=False, allow_unicode=True
    )
    return text.encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


@dataclass(frozen=True, slots=True)
class Form:
    """The form in which a client wants objects.

    Attributes:
        kind: empty for the object itself, ``Table`` or ``PartialObjectMetadata``.
        include: of a table's rows: ``Metadata``, ``Object`` or ``None``.
    """

    kind: str = ""
    include: str = "Metadata"


PLAIN: Final = Form()


def negotiate(accept: str, include: str = "") -> Form:
    """Return the first form of an Accept header that this server can give.

    Raises:
        ApiError: 406, it can give none.
    """
    if not accept or "as=" not in accept:
        if (
            not accept
            or "json" in accept
            or YAML_TYPE.decode() in accept
            or "*/*" in accept
            or "application/*" in accept
        ):
            return PLAIN
        raise _not_acceptable()
    for part in accept.split(","):
        media, *parameters = (item.strip() for item in part.split(";"))
        if media not in ("application/json", "*/*", "application/*"):
            continue
        wanted = dict(item.partition("=")[::2] for item in parameters)
        kind = wanted.get("as", "")
        if not kind:
            return PLAIN
        if wanted.get("g") != "meta.k8s.io" or wanted.get("v") != "v1":
            continue
        if kind == "Table":
            return Form("Table", include or "Metadata")
        if kind in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Form("PartialObjectMetadata")
    raise _not_acceptable()


def _not_acceptable() -> ApiError:
    return ApiError(
        406, "NotAcceptable", "only the following media types are accepted: application/json"
    )
