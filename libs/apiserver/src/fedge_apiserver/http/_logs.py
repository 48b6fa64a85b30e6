"""A container's log, streamed from the edge by way of the hub."""

import asyncio
from typing import Final
from urllib.parse import urlencode

import structlog

from fedge_apiserver.errors import bad_request
from fedge_apiserver.http._hub import Hub, refusal
from fedge_apiserver.http._messages import Request
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import PODS
from fedge_apiserver.store import decode
from fedge_objects import JsonObject

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
    """Reads logs through the hub."""

    def __init__(self, registry: Registry, hub: Hub) -> None:
        self._registry = registry
        self._hub = hub

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
        parameters = {key: request.query[key] for key in _PARAMETERS if key in request.query}
        url = self._hub.url("nodes", node, "containerLogs", namespace, name, container)
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
        import httpx  # noqa: PLC0415 - as in the hub's client

        is_started = False
        try:
            async with self._hub.client().stream("GET", url) as answer:
                if answer.is_error:
                    reason = (await answer.aread()).decode("utf-8", "replace").strip()
                    raise refusal(answer.status_code, reason)
                await request.start_stream(b"text/plain")
                is_started = True
                async for piece in answer.aiter_bytes():
                    await request.send_piece(piece)
        except httpx.TransportError as exc:
            if not is_started:
                raise self._hub.unreachable(exc) from exc
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
