"""Spans of requests that hub answers over HTTP.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/

They belong to the trace that the request comes with, or begin one.
"""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from fedge_hub.guard import INTO_NODES, App, Receive, Scope, Send
from fedge_tracing import SpanKind, Tracer, is_recorded, names, parse

_tracer = Tracer("hub")
_ENROLMENT: Final = frozenset({"/v1/join", "/v1/renew"})
_SERVER_ERROR = 500


class TracedHttp:
    """An ASGI application whose requests are traced, as far as ``route_of`` names a route."""

    def __init__(self, app: App, route_of: Callable[[str], str]) -> None:
        """Take the application.

        Args:
            app: it.
            route_of: returns the route of a path, with no names in it; empty: it is not traced.
        """
        self._app = app
        self._route_of = route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._route_of(scope["path"]) if scope["type"] in {"http", "websocket"} else ""
        if not route:
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "GET")
        name = f"{method} {route}"
        attributes = {
            names.HTTP_REQUEST_METHOD: method,
            names.HTTP_ROUTE: route,
            names.URL_PATH: scope["path"],
            **_about(scope["path"]),
        }
        context = _header(scope, b"traceparent")
        span = (
            _tracer.child(context, name, kind=SpanKind.SERVER, attributes=attributes)
            if parse(context) is not None and is_recorded(context)
            else _tracer.root(name, kind=SpanKind.SERVER, attributes=attributes)
        )
        with span as active:

            async def told(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    status = int(message["status"])
                    active.set(names.HTTP_RESPONSE_STATUS_CODE, status)
                    if status >= _SERVER_ERROR:
                        active.fail(f"answered {status}", str(status))
                await send(message)

            await self._app(scope, receive, told)


def route_of_node(path: str) -> str:
    """Return the route of a question to a node: logs, a command, a device's history."""
    match path.strip("/").split("/"):
        case ["nodes", _, what, *_] if what in INTO_NODES:
            return f"/nodes/{{node}}/{what}"
        case _:
            return ""


def route_of_enrolment(path: str) -> str:
    """Return the route by which a gateway joins, or renews its certificate."""
    return path if path in _ENROLMENT else ""


def _about(path: str) -> Mapping[str, str]:
    match path.strip("/").split("/"):
        case ["nodes", node, "deviceHistory", namespace, name]:
            return {names.NODE: node, names.OBJECT: f"devices/{namespace}/{name}"}
        case ["nodes", node, _, namespace, name, container]:
            return {
                names.NODE: node,
                names.OBJECT: f"pods/{namespace}/{name}",
                names.K8S_CONTAINER_NAME: container,
            }
        case _:
            return {}


def _header(scope: Scope, name: bytes) -> str:
    found = next((value for key, value in scope.get("headers") or () if key == name), b"")
    return bytes(found).decode("ascii", "replace")
