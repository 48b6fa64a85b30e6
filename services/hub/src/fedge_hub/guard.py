"""Who may reach into nodes by hub's HTTP: logs, commands in containers, histories.

Whoever comes with the token may. Without one set up, only this machine's own programs: hub has to
listen on a loopback address then. Health, metrics, and what hub itself knows are for everybody whom
the network lets in.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

INTO_NODES: Final = frozenset({"containerLogs", "exec", "deviceHistory"})
"""The third part of a path ``/nodes/NODE/...`` that is answered by the node itself."""
_CLOSED = (
    "hub was given no token, so only programs of its own machine reach into nodes: set "
    "FEDGE_HUB_HTTP_TOKEN here and FEDGE_APISERVER_HUB_TOKEN there, or let hub listen on "
    "127.0.0.1\n"
)
_ASKED_FOR = (
    "reaching into a node needs hub's token: set FEDGE_APISERVER_HUB_TOKEN to what "
    "FEDGE_HUB_HTTP_TOKEN is\n"
)


class Guard:
    """An ASGI application that lets only some reach into nodes."""

    def __init__(self, app: App, *, token: str, host: str) -> None:
        """Take the application.

        Args:
            app: it.
            token: what a request has to show as ``Authorization: Bearer``; empty: there is none.
            host: the address on which it is served.
        """
        self._app = app
        self._token = token.encode()
        self._is_local = _is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] in {"http", "websocket"} and _reaches_in(scope["path"]):
            if self._token:
                if not hmac.compare_digest(_shown(scope), self._token):
                    await _refuse(scope, send, 401, _ASKED_FOR)
                    return
            elif not self._is_local:
                await _refuse(scope, send, 403, _CLOSED)
                return
        await self._app(scope, receive, send)


def _reaches_in(path: str) -> bool:
    parts = path.strip("/").split("/")
    return len(parts) > 2 and parts[0] == "nodes" and parts[2] in INTO_NODES  # noqa: PLR2004


def _shown(scope: Scope) -> bytes:
    """Return the token that a request comes with (RFC 6750, section 2.1); empty if none."""
    found: bytes = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
    scheme, _, token = found.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _refuse(scope: Scope, send: Send, status: int, reason: str) -> None:
    kind = "http" if scope["type"] == "http" else "websocket.http"
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if status == 401:  # noqa: PLR2004 - Unauthorized, which has to name how
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": reason.encode()})
