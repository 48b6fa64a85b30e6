"""What each node should have, in Redis.

Per node, with ``N`` its name::

    fedge:{N}:wanted   hash  key -> "decided.revision" or "decided.revision-" for a tombstone
    fedge:{N}:sent     hash  the same, as it was last sent
    fedge:{N}:stored   hash  key -> "decided.revision"
    fedge:{N}:object   hash  key -> the object as JSON, with its trace context
    fedge:{N}:listed   hash  resource -> revision
    fedge:{N}:seen     string  "epoch-seconds interval-seconds"

The braces keep all of a node in one slot of a Redis Cluster. What must be atomic is a script.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError
from typing_extensions import override

from fedge_fabric import UnavailableError
from fedge_hub.ports import Sighting, Wanted, WantedStore
from fedge_objects import Change, NodeName, ObjectKey, Version

T = TypeVar("T")

_SPLIT = """
local function split(text)
  if not text then return nil end
  local decided, revision, gone = string.match(text, '^(%d+)%.(%d+)(%-?)$')
  return {tonumber(decided), tonumber(revision), gone}
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
local new, old = split(ARGV[2]), split(redis.call('HGET', KEYS[1], ARGV[1]))
if not newer(new, old) then return 0 end
local sent = split(redis.call('HGET', KEYS[2], ARGV[1]))
if sent and old and new[2] == old[2] and new[3] == old[3] and new[3] == ''
   and sent[1] == old[1] and sent[2] == old[2] and sent[3] == old[3] then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
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

    @override
    async def want(self, node: NodeName, change: Change) -> None:
        body = b"" if change.object is None else _encode(change)
        keys = [_name(node, part) for part in ("wanted", "sent", "object")]
        mark = _mark(change)
        await _answered(lambda: self._want(keys=keys, args=[str(change.key), mark, body]))

    @override
    async def unsent(
        self, node: NodeName, keys: Collection[ObjectKey] | None = None
    ) -> list[Change]:
        wanted = await self._marks(node, "wanted", keys)
        sent = await self._marks(node, "sent", keys)
        names = [name for name, mark in wanted.items() if sent.get(name) != mark]
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
            # a body that is gone by now means a newer version, which brings its own turn
            if body is not None or wanted[name].endswith("-")
        ]

    @override
    async def mark_sent(self, node: NodeName, change: Change) -> None:
        args = [str(change.key), _mark(change)]
        await _answered(lambda: self._raise(keys=[_name(node, "sent")], args=args))

    @override
    async def mark_stored(self, node: NodeName, key: ObjectKey, version: Version) -> None:
        args = [str(key), str(version)]
        await _answered(lambda: self._raise(keys=[_name(node, "stored")], args=args))

    @override
    async def forget_sent(self, node: NodeName, keys: Collection[ObjectKey]) -> None:
        if keys:
            names = [str(key) for key in keys]
            await _answered(lambda: self._redis.hdel(_name(node, "sent"), *names))

    @override
    async def wanted(self, node: NodeName) -> Mapping[ObjectKey, Wanted]:
        wanted = await self._marks(node, "wanted")
        sent = await self._marks(node, "sent")
        stored = await self._marks(node, "stored")
        return {
            ObjectKey.parse(name): Wanted(
                version=_version(mark),
                gone=mark.endswith("-"),
                sent=_version(sent[name]) if name in sent else None,
                stored=_version(stored[name]) if name in stored else None,
            )
            for name, mark in wanted.items()
        }

    @override
    async def mark_listed(self, node: NodeName, resource: str, revision: int) -> None:
        args = [resource, f"{revision}.{revision}"]
        await _answered(lambda: self._raise(keys=[_name(node, "listed")], args=args))

    @override
    async def listed(self, node: NodeName) -> Mapping[str, int]:
        marks = await self._marks(node, "listed")
        return {resource: _version(mark).revision for resource, mark in marks.items()}

    @override
    async def mark_seen(self, node: NodeName, sighting: Sighting) -> None:
        value = f"{sighting.at} {sighting.interval_seconds}"
        await _answered(lambda: self._redis.set(_name(node, "seen"), value))

    @override
    async def last_seen(self, node: NodeName) -> Sighting | None:
        return _sighting(await _answered(lambda: self._redis.get(_name(node, "seen"))))

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
    except (RedisError, OSError, TimeoutError) as exc:
        raise UnavailableError(f"Redis does not answer: {exc}") from exc


def _name(node: NodeName, part: str) -> str:
    return f"fedge:{{{node}}}:{part}"


def _mark(change: Change) -> str:
    return f"{change.version}{'-' if change.is_gone else ''}"


def _version(mark: str) -> Version:
    return Version.parse(mark.removesuffix("-"))


def _encode(change: Change) -> bytes:
    return msgspec.json.encode([change.traceparent, change.object])


def _change(name: str, mark: str, body: bytes | None) -> Change:
    traceparent, obj = msgspec.json.decode(body) if body is not None else ("", None)
    return Change(
        key=ObjectKey.parse(name),
        version=_version(mark),
        object=None if mark.endswith("-") else obj,
        traceparent=traceparent,
    )


def _sighting(value: Any) -> Sighting | None:
    if not value:
        return None
    at, interval = value.decode().split()
    return Sighting(at=float(at), interval_seconds=float(interval))
