"""The newest spans in SQLite: what ``fedge trace`` shows where there is no Jaeger.

Bounded: whole traces go, those that began first. It may be lost at any time; so it is not flushed
to the disk at each write, and a file that cannot be read is set aside and begun anew.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiosqlite
import msgspec
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from typing_extensions import override

from fedge_fabric import UnavailableError
from fedge_hub.spans import Keeper, attribute
from fedge_hub.traces import Link, Span, Traces, TraceSummary, Value, plain, summary
from fedge_tracing import names

log = structlog.stdlib.get_logger("fedge.hub")

MAX_SPANS = 20_000
MAX_SPANS_OF_TRACE = 5_000
"""More of one trace are not shown."""
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE spans (
    trace_id TEXT    NOT NULL,
    span_id  TEXT    NOT NULL,
    start_ns INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID;
CREATE INDEX spans_by_start ON spans (start_ns);
CREATE TABLE subjects (
    object   TEXT NOT NULL,
    trace_id TEXT NOT NULL,
    PRIMARY KEY (object, trace_id)
) WITHOUT ROWID;
CREATE INDEX subjects_by_trace ON subjects (trace_id);
"""
_KINDS = {
    trace_pb2.Span.SPAN_KIND_SERVER: "server",
    trace_pb2.Span.SPAN_KIND_CLIENT: "client",
    trace_pb2.Span.SPAN_KIND_PRODUCER: "producer",
    trace_pb2.Span.SPAN_KIND_CONSUMER: "consumer",
}


class SpanStore(Keeper, Traces):
    """``Traces`` in a file, or in memory."""

    def __init__(self, connection: aiosqlite.Connection, *, most: int) -> None:
        self._connection = connection
        self._most = most
        self._count = 0
        self._writing = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: Path | None, *, most: int = MAX_SPANS) -> AsyncIterator[Self]:
        """Open the store.

        Args:
            path: its file; None: it is in memory.
            most: how many spans it keeps.
        """
        if path is not None:
            await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        try:
            connection = await _connected(path)
        except sqlite3.DatabaseError as exc:
            if path is None:
                raise
            aside = path.with_name(f"{path.name}.broken")
            log.warning("span_store_set_aside", path=str(path), to=str(aside), reason=str(exc))
            await asyncio.to_thread(path.replace, aside)
            connection = await _connected(path)
        try:
            store = cls(connection, most=most)
            await store.count_again()
            yield store
        finally:
            await connection.close()

    async def count_again(self) -> None:
        """Count what is there."""
        [row] = await self._connection.execute_fetchall("SELECT count(*) FROM spans")
        self._count = int(row[0])

    @override
    async def keep(self, request: ExportTraceServiceRequest) -> None:
        spans = list(read_spans(request))
        async with self._writing:
            try:
                await self._put(spans)
            except sqlite3.Error as exc:
                await self._connection.rollback()
                raise UnavailableError(f"the store of spans takes nothing now: {exc}") from exc

    async def _put(self, spans: Sequence[Span]) -> None:
        cursor = await self._connection.executemany(
            "INSERT OR IGNORE INTO spans VALUES (?, ?, ?, ?)",
            [
                (each.trace_id, each.span_id, each.start_ns, msgspec.json.encode(each))
                for each in spans
            ],
        )
        self._count += max(cursor.rowcount, 0)
        await self._connection.executemany(
            "INSERT OR IGNORE INTO subjects VALUES (?, ?)",
            sorted(
                {
                    (str(each.attributes[names.OBJECT]), each.trace_id)
                    for each in spans
                    if names.OBJECT in each.attributes
                }
            ),
        )
        if self._count > self._most:
            await self._forget_oldest()
        await self._connection.commit()

    async def _forget_oldest(self) -> None:
        """Drop whole traces until a tenth is free, so that it is not done at every write."""
        over = self._count - self._most + self._most // 10
        rows = await self._connection.execute_fetchall(
            "SELECT DISTINCT trace_id FROM (SELECT trace_id FROM spans ORDER BY start_ns LIMIT ?)",
            (over,),
        )
        traces = [(row[0],) for row in rows]
        await self._connection.executemany("DELETE FROM spans WHERE trace_id = ?", traces)
        await self._connection.executemany("DELETE FROM subjects WHERE trace_id = ?", traces)
        await self.count_again()

    @override
    async def trace(self, trace_id: str) -> list[Span]:
        rows = await self._connection.execute_fetchall(
            "SELECT body FROM spans WHERE trace_id = ? ORDER BY start_ns LIMIT ?",
            (trace_id, MAX_SPANS_OF_TRACE),
        )
        return [msgspec.json.decode(row[0], type=Span) for row in rows]

    @override
    async def traces(self, about: str, limit: int) -> list[TraceSummary]:
        rows = await self._connection.execute_fetchall(
            "SELECT subjects.trace_id, min(start_ns) AS began FROM subjects JOIN spans"
            " ON spans.trace_id = subjects.trace_id WHERE object = ?"
            " GROUP BY subjects.trace_id ORDER BY began DESC LIMIT ?",
            (about, limit),
        )
        return [summary(await self.trace(row[0])) for row in rows]


async def _connected(path: Path | None) -> aiosqlite.Connection:
    """Open the file.

    Raises:
        sqlite3.DatabaseError: it is none of ours, or broken.
    """
    connection = await aiosqlite.connect(path or ":memory:")
    try:
        await _prepare(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _prepare(connection: aiosqlite.Connection) -> None:
    await connection.execute("PRAGMA journal_mode=WAL")
    await connection.execute("PRAGMA synchronous=OFF")
    [row] = await connection.execute_fetchall("PRAGMA user_version")
    if row[0] not in {0, _SCHEMA_VERSION}:
        raise sqlite3.DatabaseError(f"it has version {row[0]}, not {_SCHEMA_VERSION}")
    if row[0] == 0:
        await connection.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;"
        )


def read_spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """Yield the spans of a request as they are shown."""
    for resource in request.resource_spans:
        service = attribute(resource.resource.attributes, names.SERVICE_NAME)
        node = attribute(resource.resource.attributes, names.K8S_NODE_NAME)
        for scope in resource.scope_spans:
            for each in scope.spans:
                yield _span(each, service, node)


def _span(each: trace_pb2.Span, service: str, node: str) -> Span:
    return Span(
        trace_id=each.trace_id.hex(),
        span_id=each.span_id.hex(),
        parent_id=each.parent_span_id.hex(),
        name=each.name,
        kind=_KINDS.get(each.kind, "internal"),
        service=service,
        node=node,
        start_ns=min(each.start_time_unix_nano, 2**63 - 1),
        end_ns=min(each.end_time_unix_nano, 2**63 - 1),
        error=each.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        message=each.status.message,
        attributes=_attributes(each.attributes),
        links=[
            Link(
                trace_id=link.trace_id.hex(),
                span_id=link.span_id.hex(),
                attributes=_attributes(link.attributes),
            )
            for link in each.links
        ],
    )


def _attributes(attributes: Any) -> dict[str, Value]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Value:
    which = value.WhichOneof("value")
    return plain(getattr(value, which)) if which else ""
