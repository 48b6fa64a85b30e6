"""Get, list and watch.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

import asyncio
import base64
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from fedge_apiserver.errors import ApiError, ahead, bad_request, expired
from fedge_apiserver.http._messages import Form, Request, encode, negotiate
from fedge_apiserver.objects import read_view
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import Resource
from fedge_apiserver.selectors import Selector, parse_selector
from fedge_apiserver.storage import Entry
from fedge_apiserver.store import Event, ExpiredError, Watch, decode
from fedge_apiserver.tables import make_table
from fedge_objects import JsonObject

_BOOKMARK_SECONDS: Final = 60.0
_LEAST_WATCH_SECONDS: Final = 1800


def show(resource: Resource, entry: Entry) -> bytes:
    """Return an entry's object as JSON in the resource's version."""
    return encode(read_view(resource, decode(entry.body))) if resource.converts else entry.body


class Reading:
    """The verbs that change nothing."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store
        self._is_stopping = False
        self._watches: set[Watch] = set()

    def stop(self) -> None:
        """End all watches; their clients will come again."""
        self._is_stopping = True
        for watch in self._watches:
            watch.wake()

    async def get(self, request: Request, resource: Resource, namespace: str, name: str) -> None:
        """Answer with one object."""
        form = negotiate(request.header(b"accept"), request.query.get("includeObject", ""))
        entry = self._registry.get(resource, namespace, name)
        await request.answer(self.render(resource, entry, form))

    def render(self, resource: Resource, entry: Entry, form: Form) -> bytes:
        """Return an object in the form that the client wants."""
        body = show(resource, entry)
        match form.kind:
            case "Table":
                metadata = {"resourceVersion": str(entry.revision)}
                now = self._registry.now()
                table = make_table(resource, [decode(body)], metadata, now, include=form.include)
                return encode(table)
            case "PartialObjectMetadata":
                return encode(_partial(decode(body)))
            case _:
                return body

    async def list_objects(self, request: Request, resource: Resource, namespace: str) -> None:
        """Answer with the objects of a resource, or start a watch of them."""
        query = request.query
        selector = parse_selector(
            query.get("labelSelector", ""), query.get("fieldSelector", ""), resource
        )
        form = negotiate(request.header(b"accept"), query.get("includeObject", ""))
        if request.flag("watch"):
            await self.watch(request, resource, namespace, selector, form)
            return
        limit = request.number("limit") or 0
        after, revision = self._position(request)
        entries: list[Entry] = []
        rest = 0
        for entry in self._select_at(revision, resource, namespace, selector, after):
            if limit and len(entries) == limit:
                rest += 1
                if not selector.is_empty:
                    break
                continue
            entries.append(entry)
        metadata: JsonObject = {"resourceVersion": str(revision)}
        if rest:
            last = entries[-1]
            metadata["continue"] = _token(revision, last.namespace, last.name)
            if selector.is_empty:
                metadata["remainingItemCount"] = rest
        await request.answer(self._render_list(resource, entries, metadata, form))

    def _select_at(
        self,
        revision: int,
        resource: Resource,
        namespace: str,
        selector: Selector,
        after: tuple[str, str] | None,
    ) -> Iterator[Entry]:
        """Yield objects as they were at a revision, those behind ``after`` only.

        Raises:
            ApiError: 410, history does not reach back to it.
        """
        if self._store.is_unchanged(resource.storage, revision):
            return self._select(resource, namespace, selector, after)
        try:
            held = self._store.snapshot(resource.storage, namespace, revision)
        except ExpiredError as exc:
            raise expired(str(exc)) from exc
        return (
            e
            for e in held
            if (after is None or (e.namespace, e.name) > after)
            and (selector.is_empty or selector.matches(e.namespace, e.name, e.body))
        )

    def _position(self, request: Request) -> tuple[tuple[str, str] | None, int]:
        """Return behind which object to start, and at which revision the list is."""
        query = request.query
        current = self._store.revision
        if token := query.get("continue"):
            if query.get("resourceVersion", "0") not in ("", "0"):
                raise bad_request(
                    "resourceVersion: Forbidden: resourceVersion is forbidden when continue is "
                    "provided"
                )
            revision, after = _parse_token(token)
            if revision < self._store.oldest:
                raise expired(
                    "The provided continue parameter is too old to display a consistent list "
                    "result. You must start a new list without the continue parameter."
                )
            return after, revision
        wanted = self._revision(request)
        if wanted is not None and wanted > current:
            raise ahead(wanted, current)
        match query.get("resourceVersionMatch", ""):
            case "Exact" if wanted:
                return None, wanted
            case "" | "NotOlderThan":
                return None, current
            case other:
                raise bad_request(
                    f'resourceVersionMatch: Invalid value: "{other}": supported with a '
                    "resourceVersion: Exact (not 0), NotOlderThan"
                )

    def _revision(self, request: Request) -> int | None:
        text = request.query.get("resourceVersion", "")
        if not text:
            return None
        if not text.isdecimal():
            raise bad_request(
                f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": '
                "invalid syntax"
            )
        return int(text)

    def _select(
        self,
        resource: Resource,
        namespace: str,
        selector: Selector,
        after: tuple[str, str] | None = None,
    ) -> Iterator[Entry]:
        if namespace and (name := selector.name) is not None:
            entry = self._store.get(resource.storage, namespace, name)
            entries = iter([entry] if entry else [])
        else:
            entries = self._store.select(resource.storage, namespace, after)
        if selector.is_empty:
            return entries
        return (e for e in entries if selector.matches(e.namespace, e.name, e.body))

    def _render_list(
        self, resource: Resource, entries: list[Entry], metadata: JsonObject, form: Form
    ) -> bytes:
        match form.kind:
            case "Table":
                values = [decode(show(resource, entry)) for entry in entries]
                now = self._registry.now()
                return encode(make_table(resource, values, metadata, now, include=form.include))
            case "PartialObjectMetadata":
                items = [_partial(decode(show(resource, entry))) for entry in entries]
                head = ("PartialObjectMetadataList", "meta.k8s.io/v1")
                return _listing(*head, metadata, [encode(item) for item in items])
            case _:
                bodies = [show(resource, entry) for entry in entries]
                return _listing(resource.list_kind, resource.api_version, metadata, bodies)

    async def watch(
        self,
        request: Request,
        resource: Resource,
        namespace: str,
        selector: Selector,
        form: Form,
    ) -> None:
        """Stream the changes of a resource until the client or the time has gone."""
        revision = self._revision(request)
        current = self._store.revision
        if revision is not None and revision > current:
            raise ahead(revision, current)
        wants_initial = request.flag("sendInitialEvents")
        is_from_now = not revision or wants_initial
        start = current if is_from_now or revision is None else revision
        try:
            watch = self._store.watch(resource.storage, start)
        except ExpiredError as exc:
            raise expired(str(exc)) from exc
        view = _View(self._registry, resource, namespace, selector, form)
        loop = asyncio.get_running_loop()
        seconds = request.number("timeoutSeconds") or random.randint(  # noqa: S311 - spreads load
            _LEAST_WATCH_SECONDS, 2 * _LEAST_WATCH_SECONDS
        )
        initial = b""
        if is_from_now:
            found = self._select(resource, namespace, selector)
            initial = b"".join(view.encode("ADDED", entry) for entry in found)
            if wants_initial:
                initial += view.bookmark(current, ends_initial=True)
        await request.start_stream()
        await request.send_piece(initial)
        gone = asyncio.create_task(_until_gone(request, watch), name="apiserver-watch-disconnect")
        end = loop.call_later(seconds, watch.wake)
        deadline = loop.time() + seconds
        self._watches.add(watch)
        try:
            with watch:
                await self._follow(request, watch, view, lambda: loop.time() < deadline, gone)
        finally:
            self._watches.discard(watch)
            end.cancel()
            gone.cancel()

    async def _follow(
        self,
        request: Request,
        watch: Watch,
        view: "_View",
        has_time: Callable[[], bool],
        gone: asyncio.Task[None],
    ) -> None:
        wants_bookmarks = request.flag("allowWatchBookmarks")
        loop = asyncio.get_running_loop()
        bookmark_at = loop.time() + _BOOKMARK_SECONDS
        tick = loop.call_at(bookmark_at, watch.wake) if wants_bookmarks else None
        try:
            while has_time() and not gone.done() and not self._is_stopping and view.is_served():
                revision = self._store.revision
                try:
                    piece = view.encode_all(watch.take())
                except ExpiredError as exc:
                    error = encode(expired(str(exc)).status())
                    piece = b'{"type":"ERROR","object":' + error + b"}\n"
                    await request.send_piece(piece, is_last=True)
                    return
                if wants_bookmarks and loop.time() >= bookmark_at:
                    piece += view.bookmark(revision)
                    bookmark_at = loop.time() + _BOOKMARK_SECONDS
                    tick = loop.call_at(bookmark_at, watch.wake)
                if piece:
                    await request.send_piece(piece)
                else:
                    await watch.wait()
            if wants_bookmarks and not gone.done():
                await request.send_piece(view.bookmark(watch.seen))
            if not gone.done():
                await request.send_piece(b"", is_last=True)
        finally:
            if tick is not None:
                tick.cancel()


async def _until_gone(request: Request, watch: Watch) -> None:
    """Return when the client has closed the connection, and wake the watch."""
    try:
        await request.until_gone()
    finally:
        watch.wake()


class _View:
    """One watcher's view of a resource: which changes, as which events, in which form."""

    def __init__(
        self,
        registry: Registry,
        resource: Resource,
        namespace: str,
        selector: Selector,
        form: Form,
    ) -> None:
        self._registry = registry
        self._resource = resource
        self._namespace = namespace
        self._selector = selector
        self._form = form
        self._key = f"{resource.api_version}/{form.kind}/{form.include}"
        self._has_columns = False

    def is_served(self) -> bool:
        """Tell whether the resource is still there."""
        r = self._resource
        return self._registry.catalog.find(r.group, r.version, r.plural) is not None

    def encode_all(self, events: list[Event]) -> bytes:
        """Return the lines of the changes that concern this watcher."""
        pieces: list[bytes] = []
        for event in events:
            entry = event.entry
            if self._namespace and entry.namespace != self._namespace:
                continue
            kind = self._kind(event)
            if kind is None:
                continue
            if self._form.kind == "Table" and not self._has_columns:
                pieces.append(self.encode(kind, entry))
                continue
            line = event.lines.get((kind, self._key))
            if line is None:
                line = event.lines[kind, self._key] = self.encode(kind, entry)
            pieces.append(line)
        return b"".join(pieces)

    def _kind(self, event: Event) -> str | None:
        """Return what a change looks like through the selector."""
        entry, before = event.entry, event.before
        if self._selector.is_empty:
            if entry.deleted:
                return "DELETED"
            return "ADDED" if before is None else "MODIFIED"
        was = before is not None and self._matches(before)
        # A deleted object's last state may differ from the one seen; it was wanted if either is.
        if entry.deleted:
            return "DELETED" if was else None
        if self._matches(entry):
            return "MODIFIED" if was else "ADDED"
        return "DELETED" if was else None

    def _matches(self, entry: Entry) -> bool:
        return self._selector.matches(entry.namespace, entry.name, entry.body)

    def encode(self, kind: str, entry: Entry) -> bytes:
        """Return one line of the stream."""
        body = show(self._resource, entry)
        if self._form.kind == "Table":
            table = make_table(
                self._resource,
                [decode(body)],
                {"resourceVersion": str(entry.revision)},
                self._registry.now(),
                include=self._form.include,
                with_columns=not self._has_columns,
            )
            self._has_columns = True
            body = encode(table)
        elif self._form.kind:
            body = encode(_partial(decode(body)))
        return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)

    def bookmark(self, revision: int, *, ends_initial: bool = False) -> bytes:
        """Return the line that tells how far the stream has come."""
        metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
        if ends_initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        value: JsonObject = {
            "kind": self._resource.kind,
            "apiVersion": self._resource.api_version,
            "metadata": metadata,
        }
        if self._form.kind == "Table":
            value = make_table(
                self._resource,
                [],
                metadata,
                self._registry.now(),
                with_columns=not self._has_columns,
            )
        return encode({"type": "BOOKMARK", "object": value}) + b"\n"


def _partial(value: JsonObject) -> JsonObject:
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": value["metadata"],
    }


def _listing(kind: str, api_version: str, metadata: JsonObject, items: list[bytes]) -> bytes:
    head = encode({"kind": kind, "apiVersion": api_version, "metadata": metadata})
    return b"".join((head[:-1], b',"items":[', b",".join(items), b"]}"))


def _token(revision: int, namespace: str, name: str) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": [namespace, name]})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        value = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, name = value["start"]
        return int(value["rv"]), (str(namespace), str(name))
    except (ValueError, KeyError, TypeError) as exc:
        raise _bad_token() from exc


def _bad_token() -> ApiError:
    return bad_request("continue key is not valid: the token was not made by this server")
