"""A container's log, streamed from the edge by way of the hub."""

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import structlog

from fedge_apiserver.errors import ApiError, bad_request
from fedge_apiserver.http._messages import Request
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import PODS
from fedge_apiserver.store import decode
from fedge_objects import JsonObject

if TYPE_CHECKING:
    import httpx

log = structlog.stdlib.get_logger("fedge.apiserver.logs")

_PARAMETERS: Final[tuple[str, ...]] = (
    "follow",
    "tailLines",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "limitBytes",
)
_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")


class Logs:
    """Reads logs through the hub at ``hub_url``; None if there is no hub."""

    def __init__(self, registry: Registry, hub_url: str | None) -> None:
        self._registry = registry
        self._hub_url = hub_url.rstrip("/") if hub_url else None
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections to the hub."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def stream(self, request: Request, namespace: str, name: str) -> None:
        """Answer with a container's log.

        Raises:
            ApiError: there is no such pod or container, or no way to its node.
        """
        pod = decode(self._registry.get(PODS, namespace, name).body)
        container = container_of(pod, request.query.get("container", ""))
        node = pod["spec"].get("nodeName")
        if not node:
            raise bad_request(
                f'container "{container}" in pod "{name}" is waiting to start: the pod has no node '
                "yet"
            )
        if self._hub_url is None:
            raise no_way(
                "this API server knows no hub, so there is no way to the node's logs: set "
                "FEDGE_APISERVER_HUB_URL and start it again"
            )
        parameters = {key: request.query[key] for key in _PARAMETERS if key in request.query}
        parts = "/".join(quote(part, safe="") for part in (namespace, name, container))
        url = f"{self._hub_url}/nodes/{quote(node, safe='')}/containerLogs/{parts}"
        if parameters:
            url += f"?{urlencode(parameters)}"
        copying = asyncio.create_task(self._copy(request, url), name="apiserver-log")
        gone = asyncio.create_task(request.until_gone(), name="apiserver-log-disconnect")
        try:
            await asyncio.wait({copying, gone}, return_when=asyncio.FIRST_COMPLETED)
            if copying.done():
                await copying
        finally:
            copying.cancel()
            gone.cancel()

    async def _copy(self, request: Request, url: str) -> None:
        """Send on what the hub sends."""
        import httpx  # noqa: PLC0415 - a tenth of a second and megabytes that few servers need

        if self._client is None:
            # A log that is followed may be silent for hours, but a connection must come at once.
            timeout = httpx.Timeout(10.0, read=None)
            self._client = httpx.AsyncClient(timeout=timeout, trust_env=False)
        is_started = False
        try:
            async with self._client.stream("GET", url) as answer:
                if answer.is_error:
                    reason = (await answer.aread()).decode("utf-8", "replace").strip()
                    raise refusal(answer.status_code, reason)
                await request.start_stream(b"text/plain")
                is_started = True
                async for piece in answer.aiter_bytes():
                    await request.send_piece(piece)
        except httpx.TransportError as exc:
            if not is_started:
                raise no_way(
                    f"the hub at {self._hub_url} cannot be reached: {type(exc).__name__} {exc}; "
                    "check that it runs (fedge run hub)"
                ) from exc
            # The head is sent already: all that can be said now is that the log ends here.
            log.warning("log_stream_broken", url=url, error=str(exc))
        await request.send_piece(b"", is_last=True)


def container_of(pod: JsonObject, wanted: str) -> str:
    spec = pod["spec"]
    names = [c["name"] for field in _LISTS for c in spec.get(field) or ()]
    name = pod["metadata"]["name"]
    if wanted:
        if wanted not in names:
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    annotated = (pod["metadata"].get("annotations") or {}).get(
        "kubectl.kubernetes.io/default-container"
    )
    if annotated in names:
        return str(annotated)
    if len(spec["containers"]) > 1:
        choices = " ".join(c["name"] for c in spec["containers"])
        raise bad_request(
            f"a container name must be specified for pod {name}, choose one of: [{choices}]"
        )
    return str(names[0])


def no_way(message: str) -> ApiError:
    # Without Retry-After: with it kubectl tries for ten seconds before it shows the message.
    return ApiError(503, "ServiceUnavailable", message)


def refusal(code: int, reason: str) -> ApiError:
    match code:
        case 400:
            return bad_request(reason)
        case 404:
            return ApiError(404, "NotFound", reason)
        case 503 | 504:
            return no_way(reason)
        case _:
            return ApiError(500, "InternalError", f"the hub answered {code}: {reason}")
