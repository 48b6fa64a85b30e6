"""How the services of a process are, over HTTP: for those that serve none of their own.

The paths are those of Kubernetes' own components
(https://kubernetes.io/docs/reference/using-api/health-checks/): ``/livez`` answers 200 as long as
the process handles events, ``/readyz`` once all services are ready, else 503 and which are not.
Nothing else is told, and no client can keep more than a line and a few seconds of it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import structlog

from fedge_service._settings import HealthSettings

log = structlog.stdlib.get_logger("fedge.health")

_MOST_BYTES = 4096
_MOST_CLIENTS = 32
_SECONDS = 5.0
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class Health:
    """Which services of this process are ready."""

    def __init__(self, services: Iterable[str]) -> None:
        """Take their names; none is ready yet."""
        self._not_ready = dict.fromkeys(services, "starting")
        self._clients = 0

    def ready(self, name: str) -> None:
        """Take that a service is ready."""
        self._not_ready.pop(name, None)

    def failed(self, name: str) -> None:
        """Take that a service failed; it is started again, and is ready once it says so."""
        self._not_ready[name] = "failed, is started again"

    @asynccontextmanager
    async def served(self, settings: HealthSettings) -> AsyncIterator[int]:
        """Answer meanwhile, and give the port.

        Raises:
            OSError: the port cannot be had; the text names it and the setting.
        """
        try:
            server = await asyncio.start_server(
                self._answer, settings.host, settings.port, limit=_MOST_BYTES
            )
        except OSError as exc:
            reason = exc.strerror or exc
            raise OSError(
                f"health cannot be served at {settings.host}:{settings.port}: {reason}; "
                "name another FEDGE_HEALTH_PORT, or FEDGE_HEALTH_HOST"
            ) from exc
        async with server:
            yield int(server.sockets[0].getsockname()[1])

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            if self._clients <= _MOST_CLIENTS:
                async with asyncio.timeout(_SECONDS):
                    writer.write(_response(*self._said(await reader.readuntil(b"\r\n\r\n"))))
                    await writer.drain()
        except asyncio.LimitOverrunError:
            writer.write(_response(400, f"more than {_MOST_BYTES} bytes of header"))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as exc:
            log.debug("health_not_asked", reason=str(exc) or type(exc).__name__)
        finally:
            self._clients -= 1
            writer.close()

    def _said(self, request: bytes) -> tuple[int, str]:
        """Return the status and text for a request."""
        words = request.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):  # noqa: PLR2004 - RFC 9112, 3
            return 400, "this is no request of HTTP/1.1"
        method, target, _ = words
        if method != b"GET":
            return 405, "use GET"
        match target.split(b"?", 1)[0]:
            case b"/livez":
                return 200, "ok"
            case b"/readyz" if not self._not_ready:
                return 200, "ok"
            case b"/readyz":
                return 503, ", ".join(
                    f"{name}: {why}" for name, why in sorted(self._not_ready.items())
                )
            case _:
                return 404, "there are /livez and /readyz"


def _response(status: int, text: str) -> bytes:
    body = f"{text}\n".encode()
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
