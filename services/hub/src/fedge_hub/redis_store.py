"""What each node should have, in Redis.

Per node, with ``N`` its name::

    fedge:{N}:wanted   hash  key -> "decided.revision", with "-" behind it for a tombstone
    fedge:{N}:since    hash  key -> the oldest version with the same content
    fedge:{N}:sent     hash  key -> the version that was last sent
    fedge:{N}:stored   hash  key -> the version that the node has on disk
    fedge:{N}:object   hash  key -> trace context, a line feed, the object as JSON
    fedge:{N}:listed   hash  resource -> "decided.revision"
    fedge:{N}:applied  hash  key -> "version", or "version reason" if it failed
    fedge:{N}:seen     string  "epoch-seconds interval-seconds backlog", the last as JSON
    fedge:{N}:first    string  epoch-seconds of the first sighting
    fedge:{N}:settled  string  "1" once the node was compared
    fedge:{N}:asked    string  epoch-seconds of the last time it was asked what it has
    fedge:{N}:streams  hash  stream of events -> its ledger
    fedge:format       string  the version of all this

The braces keep all of a node in one slot of a Redis Cluster. What must be atomic is a script.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar, cast

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from typing_extensions import override

import fedge_tracing as tracing
from fedge_fabric import UnavailableError
from fedge_fabric.streams import Ledger
from fedge_hub.ports import Applied, Sighting, Wanted, WantedStore
from fedge_objects import Change, NodeName, ObjectKey, Version, split_trace
from fedge_tracing import names

log = structlog.stdlib.get_logger("fedge.hub")

T = TypeVar("T")

_Hash = dict[Any, Any]
"""What the client takes as the fields of a hash; ours are texts."""

FORMAT = "3"
"""Raised with each change of the above. Data of another format is dropped: all of it can be told
again, so nothing is migrated."""

_SPLIT = """
local function split(text)
  if not text then return nil end
  local decided, revision, gone = string.match(text, '^(%d+)%.(%d+)(%-?)$')
  -- as texts of one length: a number of Lua has 53 bits
  return {string.rep('0', 20 - #decided) .. decided,
          string.rep('0', 20 - #revision) .. revision, gone}
end
local function newer(a, b)
  if not b then return true end
  if a[1] ~= b[1] then return a[1] > b[1] end
  return a[2] > b[2]
end
"""

_WANT = (
    _SPLIT
    + """
local function content(body)
  if not body then return nil end
  return string.sub(body, string.find(body, '\\n', 1, true) + 1)
end
local new, old = split(ARGV[2]), split(redis.call('HGET', KEYS[1], ARGV[1]))
if not newer(new, old) then return 0 end
local was = content(redis.call('HGET', KEYS[3], ARGV[1]))
local gone = ARGV[3] == '' or string.sub(ARGV[3], -1) == '\\n'
if gone or was ~= content(ARGV[3]) then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] == '' then redis.call('HDEL', KEYS[3], ARGV[1])
else redis.call('HSET', KEYS[3], ARGV[1], ARGV[3]) end
return 1
"""
)

_RAISE = (
    _SPLIT
    + """
if newer(split(ARGV[2]), split(redis.call('HGET', KEYS[1], ARGV[1]))) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
"""
)


class RedisWantedStore(WantedStore):
    """``WantedStore`` in Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._want = redis.register_script(_WANT)
        self._raise = redis.register_script(_RAISE)

    async def prepare(self) -> None:
        """Drop what another version of hub has kept, so that everything is told again.

        Raises:
            UnavailableError: Redis does not answer.
        """
        found = await _answered(lambda: self._redis.get("fedge:format"))
        if found in {FORMAT, FORMAT.encode()}:
            return
        dropped = 0
        try:
            async for key in self._redis.scan_iter("fedge:{*"):
                dropped += await self._redis.delete(key)
        except (RedisError, OSError, TimeoutError) as exc:
            raise UnavailableError(f"Redis does not answer: {exc}") from exc
        await _answered(lambda: self._redis.set("fedge:format", FORMAT))
        if dropped:
            log.warning("wanted_of_another_format_dropped", keys=dropped, now=FORMAT)

    @override
    async def want(self, node: NodeName, change: Change) -> None:
        body = _encode(change)
        keys = [_name(node, part) for part in ("wanted", "since", "object")]
        args: list[str | bytes] = [str(change.key), _mark(change), body, str(change.version)]
        with tracing.span(
            "put wanted", kind=tracing.SpanKind.CLIENT, attributes=_about("put", change.key)
        ):
            await _answered(lambda: self._want(keys=keys, args=args))

    @override
    async def unsent(
        self, node: NodeName, keys: Collection[ObjectKey] | None = None
    ) -> list[Change]:
        wanted = await self._marks(node, "wanted", keys)
        since = await self._marks(node, "since", keys)
        sent = await self._marks(node, "sent", keys)
        names = [
            name
            for name in wanted
            if name not in sent or _version(sent[name]) < _version(since[name])
        ]
        if not names:
            return []
        bodies = await _answered(
            lambda: cast(
                "Awaitable[list[bytes | None]]", self._redis.hmget(_name(node, "object"), names)
            )
        )
        return [
            _change(name, wanted[name], body)
            for name, body in zip(names, bodies, strict=True)
            # what is gone by now has a newer version, which brings its own turn
            if wanted[name].endswith("-") or _has_object(body)
        ]

    @override
    async def mark_sent(self, node: NodeName, change: Change) -> None:
        args = [str(change.key), str(change.version)]
        await _answered(lambda: self._raise(keys=[_name(node, "sent")], args=args))

    @override
    async def mark_stored(self, node: NodeName, key: ObjectKey, version: Version) -> None:
        args = [str(key), str(version)]
        await _answered(lambda: self._raise(keys=[_name(node, "stored")], args=args))

    @override
    async def stored(self, node: NodeName) -> Mapping[ObjectKey, Version]:
        marks = await self._marks(node, "stored")
        return {ObjectKey.parse(name): _version(mark) for name, mark in marks.items()}

    @override
    async def replace_stored(
        self, node: NodeName, has: Mapping[ObjectKey, Version], lost: Collection[ObjectKey]
    ) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            marks: _Hash = {str(key): str(version) for key, version in has.items()}
            for part in ("stored", "sent") if marks else ():
                pipe.hset(_name(node, part), mapping=marks)
            if lost:
                names = [str(key) for key in lost]
                for part in ("stored", "sent", "applied"):
                    pipe.hdel(_name(node, part), *names)
            await _answered(pipe.execute)

    @override
    async def mark_applied(self, node: NodeName, applied: Mapping[ObjectKey, Applied]) -> None:
        if applied:
            marks: _Hash = {
                str(key): f"{each.version} {each.reason or '-'}"
                if each.failed
                else str(each.version)
                for key, each in applied.items()
            }
            await _answered(lambda: self._redis.hset(_name(node, "applied"), mapping=marks))

    @override
    async def forget_sent(self, node: NodeName, keys: Collection[ObjectKey]) -> None:
        if keys:
            names = [str(key) for key in keys]
            await _answered(lambda: self._redis.hdel(_name(node, "sent"), *names))

    @override
    async def wanted(
        self, node: NodeName, keys: Collection[ObjectKey] | None = None
    ) -> Mapping[ObjectKey, Wanted]:
        wanted = await self._marks(node, "wanted", keys)
        since = await self._marks(node, "since", keys)
        sent = await self._marks(node, "sent", keys)
        stored = await self._marks(node, "stored", keys)
        applied = await self._marks(node, "applied", keys)
        return {
            ObjectKey.parse(name): Wanted(
                version=_version(mark),
                since=_version(since[name]),
                gone=mark.endswith("-"),
                sent=_version(sent[name]) if name in sent else None,
                stored=_version(stored[name]) if name in stored else None,
                applied=_applied(applied.get(name)),
            )
            for name, mark in wanted.items()
        }

    @override
    async def mark_listed(self, node: NodeName, resource: str, version: Version) -> None:
        args = [resource, str(version)]
        await _answered(lambda: self._raise(keys=[_name(node, "listed")], args=args))

    @override
    async def listed(self, node: NodeName) -> Mapping[str, Version]:
        marks = await self._marks(node, "listed")
        return {resource: _version(mark) for resource, mark in marks.items()}

    @override
    async def mark_seen(self, node: NodeName, sighting: Sighting) -> None:
        backlog = msgspec.json.encode(sighting.backlog).decode()
        value = f"{sighting.at} {sighting.interval_seconds} {backlog}"
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_name(node, "seen"), value)
            pipe.set(_name(node, "first"), str(sighting.at), nx=True)
            await _answered(pipe.execute)

    @override
    async def mark_asked(self, node: NodeName, at: float) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(_name(node, "settled"))
            pipe.set(_name(node, "asked"), str(at))
            await _answered(pipe.execute)

    @override
    async def mark_settled(self, node: NodeName) -> None:
        await _answered(lambda: self._redis.set(_name(node, "settled"), "1"))

    @override
    async def last_seen(self, node: NodeName) -> Sighting | None:
        names = [_name(node, part) for part in ("seen", "settled", "asked")]
        seen, settled, asked = await _answered(lambda: self._redis.mget(names))
        return _sighting(seen, settled=bool(settled), asked=asked)

    @override
    async def first_seen(self, node: NodeName) -> float | None:
        first = await _answered(lambda: self._redis.get(_name(node, "first")))
        return None if first is None else float(first)

    @override
    async def ledgers(self, node: NodeName) -> Mapping[str, Ledger]:
        marks = await self._marks(node, "streams")
        return {stream: Ledger.parse(text) for stream, text in marks.items()}

    @override
    async def keep_ledgers(
        self, node: NodeName, ledgers: Mapping[str, Ledger], dropped: Collection[str] = ()
    ) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            if ledgers:
                texts: _Hash = {stream: each.as_text() for stream, each in ledgers.items()}
                pipe.hset(_name(node, "streams"), mapping=texts)
            if dropped:
                pipe.hdel(_name(node, "streams"), *dropped)
            await _answered(pipe.execute)

    async def _marks(
        self, node: NodeName, part: str, keys: Collection[ObjectKey] | None = None
    ) -> dict[str, str]:
        name = _name(node, part)
        if keys is None:
            found = await _answered(
                lambda: cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(name))
            )
            return {field.decode(): value.decode() for field, value in found.items()}
        fields = [str(key) for key in keys]
        values = await _answered(
            lambda: cast("Awaitable[list[bytes | None]]", self._redis.hmget(name, fields))
        )
        return {
            field: value.decode()
            for field, value in zip(fields, values, strict=True)
            if value is not None
        }


async def _answered(call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except ResponseError:
        raise  # a defect of ours, not of the line
    except (RedisError, OSError, TimeoutError) as exc:
        raise UnavailableError(f"Redis does not answer: {exc}") from exc


def _about(operation: str, key: ObjectKey) -> tracing.Attributes:
    """Return what a span says of a call.

    https://opentelemetry.io/docs/specs/semconv/db/redis/
    """
    return {
        names.DB_SYSTEM_NAME: "redis",
        names.DB_OPERATION_NAME: operation,
        names.OBJECT: str(key),
    }


def _name(node: NodeName, part: str) -> str:
    return f"fedge:{{{node}}}:{part}"


def _mark(change: Change) -> str:
    return f"{change.version}{'-' if change.is_gone else ''}"


def _version(mark: str) -> Version:
    return Version.parse(mark.removesuffix("-"))


def _encode(change: Change) -> bytes:
    if change.is_gone:
        return f"{change.trace}\n".encode() if change.trace else b""
    return change.trace.encode() + b"\n" + msgspec.json.encode(change.object, order="sorted")


def _has_object(body: bytes | None) -> bool:
    """Whether there is more than the trace context of an object that is gone."""
    return body is not None and not body.endswith(b"\n")


def _change(name: str, mark: str, body: bytes | None) -> Change:
    trace, _, text = (body or b"").partition(b"\n")
    traceparent, since = split_trace(trace.decode())
    return Change(
        key=ObjectKey.parse(name),
        version=_version(mark),
        object=None if mark.endswith("-") else msgspec.json.decode(text),
        traceparent=traceparent,
        since=since,
    )


def _applied(mark: str | None) -> Applied | None:
    if mark is None:
        return None
    version, failed, reason = mark.partition(" ")
    return Applied(version=_version(version), failed=bool(failed), reason=reason)


def _sighting(value: Any, *, settled: bool, asked: bytes | str | None) -> Sighting | None:
    if not value:
        return None
    at, interval, backlog = value.decode().split(" ", 2)
    return Sighting(
        at=float(at),
        interval_seconds=float(interval),
        backlog=msgspec.json.decode(backlog),
        settled=settled,
        asked_at=None if settled or asked is None else float(asked),
    )
