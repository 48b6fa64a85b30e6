"""What hub knows of traces, by the path on which a cluster passes requests on to a service.

https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls

In a cluster hub is a service, and its API server passes on any path. Here hub is known by its
address, and only what tells of traces, or adds to them, is passed on.
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from fedge_apiserver.errors import ApiError, method_not_allowed, no_such_path
from fedge_apiserver.http._hub import Hub, refusal
from fedge_apiserver.http._messages import Request

NAMESPACE: Final = "fedge-system"
NAMES: Final = frozenset({"fedge-hub", "fedge-hub:http", "fedge-hub:8480", "http:fedge-hub:http"})
_ANSWER_SECONDS: Final = 30.0


class ServiceProxy:
    """Passes requests on to the one service that is known here."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @staticmethod
    def knows(namespace: str, plural: str, names: Sequence[str]) -> bool:
        """Whether a request is one for a service's proxy."""
        return bool(namespace) and plural == "services" and names[1:2] == ["proxy"]

    async def pass_on(self, request: Request, namespace: str, names: Sequence[str]) -> None:
        """Answer with what the hub answers.

        Raises:
            ApiError: there is no such service or path, or the hub refuses or cannot be reached.
        """
        import httpx  # noqa: PLC0415 - as in the hub's client

        name, _, *path = names
        if namespace != NAMESPACE or name not in NAMES:
            raise ApiError(404, "NotFound", f'services "{name}" not found')
        match path:
            case ["traces"] | ["traces", _] if request.method in {"GET", "HEAD"}:
                content = None
            case ["v1", "traces"] if request.method == "POST":
                content = await request.body()
            case ["traces", *_] | ["v1", "traces"]:
                raise method_not_allowed()
            case _:
                raise no_such_path()
        url = self._hub.url(*path)
        if request.query:
            url += f"?{urlencode(request.query)}"
        try:
            answer = await self._hub.client().request(
                request.method,
                url,
                content=content,
                headers={"Content-Type": request.header(b"content-type")} if content else None,
                timeout=_ANSWER_SECONDS,
            )
        except httpx.TransportError as exc:
            raise self._hub.unreachable(exc) from exc
        if not answer.is_success:
            raise refusal(answer.status_code, answer.text.strip())
        content_type = answer.headers.get("content-type", "text/plain").encode("latin-1")
        await request.answer(answer.content, content_type=content_type)
