"""A message: a CloudEvent in binary mode.

Attributes of the event lie in the AMQP headers with the prefix ``cloudEvents_``, as in the AMQP
binding (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md);
the id is the AMQP message id as well. The body is JSON, compressed with zstd above 16 KiB.
The W3C trace context (https://www.w3.org/TR/trace-context/) is the header ``traceparent``; of a
trace that is recorded, ``fedge-sent`` says when the message was sent, in µs since the epoch.
"""

import hashlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from fedge_fabric import kinds
from fedge_fabric.errors import MalformedError
from fedge_objects import Change, ObjectKey, Version

CONTENT_TYPE = "application/json"
COMPRESS_ABOVE_BYTES = 16 * 1024
MAX_BODY_BYTES = 8 * 1024 * 1024
"""More than any object an API server takes (3 MiB), so that a broken sender cannot fill memory."""

_SPECVERSION = "cloudEvents_specversion"
_ID = "cloudEvents_id"
_TYPE = "cloudEvents_type"
_SOURCE = "cloudEvents_source"
_TIME = "cloudEvents_time"
_SUBJECT = "cloudEvents_subject"
_VERSION = "cloudEvents_fedgeversion"
_STREAM = "cloudEvents_fedgestream"
_SEQUENCE = "cloudEvents_sequence"
TRACEPARENT = "traceparent"
SENT = "fedge-sent"
_MAX_DIGITS = 18
_MICRO = 1_000_000
_REQUIRED = (_ID, _TYPE, _SOURCE, _TIME)
_MOST_BYTES = (
    (_ID, 255),
    (_TYPE, 255),
    (_SOURCE, 1024),
    (_SUBJECT, 1024),
    (_TIME, 64),
    (_VERSION, 64),
    (_STREAM, 255),
    (_SEQUENCE, 64),
)
"""Id and type are AMQP properties too, which have no more."""
_MAX_DEPTH = 128
"""Of values in values: what is read and written by recursion must not run out of stack."""
_YEARS = range(1970, 9999)
_TRACE_CONTEXT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_encode = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


def _new_id() -> str:
    return os.urandom(16).hex()


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One event.

    Attributes:
        type: what happened or is wanted, e.g. ``fedge.object.put`` (see ``fedge_fabric.kinds``).
        source: who says so: ``/cloud/hub``, ``/node/edge-1/meta``.
        subject: what it is about, mostly an object key as text; may be empty.
        data: any JSON value.
        version: of the object that it carries, where it carries one.
        traceparent: W3C trace context, or empty.
        since: when that came to be here, where the message waited to be sent; in seconds since the
            epoch, 0 if it did not. It does not travel.
        sent: when the message was sent, in seconds since the epoch; 0 if nobody says.
        stream: of whose events this is one, where they are counted (see ``fedge_fabric.streams``).
        sequence: its number in the stream, from 0. Extensions of CloudEvents' documented ones:
            https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/sequence.md
        id: with ``source`` unique; a repeat is recognised by it.
        time: when it was made, with time zone.
    """

    type: str
    source: str
    subject: str = ""
    data: Any = None
    version: Version | None = None
    traceparent: str = ""
    since: float = 0.0
    sent: float = 0.0
    stream: str = ""
    sequence: int | None = None
    id: str = field(default_factory=_new_id)
    time: datetime = field(default_factory=_now)

    def headers(self) -> dict[str, str]:
        """Return the AMQP headers."""
        headers = {
            _SPECVERSION: "1.0",
            _ID: self.id,
            _TYPE: self.type,
            _SOURCE: self.source,
            _TIME: self.time.isoformat(),
        }
        if self.subject:
            headers[_SUBJECT] = self.subject
        if self.version is not None:
            headers[_VERSION] = str(self.version)
        if self.sequence is not None:
            headers[_STREAM] = self.stream
            headers[_SEQUENCE] = str(self.sequence)
        if self.traceparent:
            headers[TRACEPARENT] = self.traceparent
        if self.sent:
            headers[SENT] = moment(self.sent)
        return headers

    def body(self) -> tuple[bytes, str | None]:
        """Return the body and its content encoding (``zstd`` or None)."""
        body = _encode(self.data)
        if len(body) <= COMPRESS_ABOVE_BYTES:
            return body, None
        import zstandard  # noqa: PLC0415 - most messages are small

        return zstandard.compress(body, 3), "zstd"

    @classmethod
    def read(
        cls, *, headers: Mapping[str, Any], body: bytes, content_encoding: str | None
    ) -> "Envelope":
        """Read a message.

        Raises:
            MalformedError: a required attribute is missing or wrong, the body is too large, not
                JSON, or of an unknown encoding.
        """
        texts = {name: value for name, value in headers.items() if isinstance(value, str)}
        get = texts.get
        for name in _REQUIRED:
            if not get(name):
                raise MalformedError(f"no CloudEvent: header {name} is missing")
        if get(_SPECVERSION) != "1.0":
            raise MalformedError(f"CloudEvents version {get(_SPECVERSION, '')[:32]!r} is not 1.0")
        for name, most in _MOST_BYTES:
            if len(get(name, "").encode()) > most:
                raise MalformedError(f"header {name} has more than {most} bytes")
        try:
            time = _time(texts[_TIME])
            version = Version.parse(texts[_VERSION]) if _VERSION in texts else None
            sequence = _whole_number(texts[_SEQUENCE]) if _STREAM in texts else None
        except ValueError as exc:
            raise MalformedError(str(exc)) from exc
        except KeyError as exc:
            raise MalformedError(f"an event of a stream without {_SEQUENCE}") from exc
        return cls(
            type=texts[_TYPE],
            source=texts[_SOURCE],
            subject=get(_SUBJECT, ""),
            data=_decode(body, content_encoding),
            version=version,
            traceparent=_trace_context(get(TRACEPARENT, "")),
            sent=_moment(get(SENT, "")),
            stream=get(_STREAM, ""),
            sequence=sequence,
            id=texts[_ID],
            time=time,
        )


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None or time.year not in _YEARS:
        raise ValueError(f"time {text[:64]!r} has no time zone, or is no time of ours")
    return time


def _trace_context(text: str) -> str:
    """Return a trace context; what is none is ignored, as its specification asks."""
    return text if _TRACE_CONTEXT.fullmatch(text) else ""


def moment(seconds: float) -> str:
    """Return when a message is sent, for its header."""
    return str(int(seconds * _MICRO))


def _moment(text: str) -> float:
    """Return when a message was sent, in seconds; what is no time is ignored."""
    known = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) / _MICRO if known else 0.0


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise ValueError(f"{text[:32]!r} is no number of an event")
    return int(text)


def _decode(body: bytes, content_encoding: str | None) -> Any:
    if content_encoding == "zstd":
        body = _decompress(body)
    elif content_encoding:
        raise MalformedError(f"content encoding {content_encoding!r} is unknown: use zstd or none")
    if len(body) > MAX_BODY_BYTES:
        raise MalformedError(f"body of {len(body)} bytes is over the limit of {MAX_BODY_BYTES}")
    try:
        data = _decode_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedError(f"body is not JSON: {exc}") from exc
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and _is_deep(data):
        raise MalformedError(f"body is JSON of more than {_MAX_DEPTH} values in values")
    return data


def _is_deep(data: Any) -> bool:
    level = [data] if isinstance(data, dict | list) else []
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _decompress(body: bytes) -> bytes:
    import zstandard  # noqa: PLC0415 - most messages are small

    try:
        size = zstandard.frame_content_size(body)
        if size < 0:
            raise MalformedError("body does not say how large it is uncompressed")
        if not 0 <= size <= MAX_BODY_BYTES:
            raise MalformedError(
                f"body of {size} bytes uncompressed is over the limit of {MAX_BODY_BYTES}"
            )
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=MAX_BODY_BYTES)
    except zstandard.ZstdError as exc:
        raise MalformedError(f"body is not zstd: {exc}") from exc


def change_of(envelope: Envelope) -> Change:
    """Return the change that a ``fedge.object.*`` message carries.

    Raises:
        MalformedError: it carries none. A put without an object is no tombstone.
    """
    data = envelope.data
    if envelope.version is None:
        raise MalformedError(f"message {envelope.id} of type {envelope.type!r} has no version")
    is_object = isinstance(data, dict) and isinstance(data.get("metadata"), dict)
    fits = {kinds.OBJECT_PUT: is_object, kinds.OBJECT_GONE: data is None}
    if not fits.get(envelope.type):
        raise MalformedError(
            f"message {envelope.id} of type {envelope.type!r} about {envelope.subject!r} has no"
            " object, or is no change of one"
        )
    try:
        key = ObjectKey.parse(envelope.subject)
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc
    if is_object:
        metadata = data["metadata"]
        name, namespace = metadata.get("name", key.name), metadata.get("namespace") or ""
        if name != key.name or namespace not in ("", key.namespace):
            raise MalformedError(f"message {envelope.id} about {key} holds another object")
    return Change(
        key=key,
        version=envelope.version,
        object=envelope.data,
        traceparent=envelope.traceparent,
        since=time.time() if envelope.traceparent else 0.0,
    )


def envelope_of(change: Change, *, source: str) -> Envelope:
    """Return the message that carries ``change``.

    Its id follows from what it says, so that a second telling is recognised as a repeat.
    """
    said = f"{change.key}@{change.version}{'-' if change.is_gone else ''}"
    if len(said) > _MOST_BYTES[0][1]:
        said = hashlib.sha256(said.encode()).hexdigest()
    return Envelope(
        type=kinds.OBJECT_GONE if change.is_gone else kinds.OBJECT_PUT,
        source=source,
        subject=str(change.key),
        data=change.object,
        version=change.version,
        traceparent=change.traceparent,
        since=change.since,
        id=said,
    )
