"""What is known of a node: the subresource ``proxy``, answered by the hub in the node's stead.

The kubelet answers it in a cluster. Of its paths only those are passed on that tell something and
change nothing.

https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/node-v1/
"""

from collections.abc import Sequence
from typing import Final

from fedge_apiserver.errors import forbidden, no_such_path
from fedge_apiserver.http._hub import Hub, refusal
from fedge_apiserver.http._messages import Request
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import NODES

PATHS: Final = ("status", "healthz")
_ANSWER_SECONDS: Final = 15.0
_NO_SUCH_PATH: Final = (404, "Not Found")
"""What hub's router says by itself, where hub does not know the path rather than the node."""


class NodeProxy:
    """Passes questions about nodes on to the hub."""

    def __init__(self, registry: Registry, hub: Hub) -> None:
        self._registry = registry
        self._hub = hub

    async def get(self, request: Request, name: str, path: Sequence[str]) -> None:
        """Answer with what the hub answers.

        Raises:
            ApiError: there is no such node, the path is none of ``PATHS``, or the hub refuses or
                cannot be reached.
        """
        import httpx  # noqa: PLC0415 - as in the hub's client

        self._registry.get(NODES, "", name)
        if len(path) != 1 or path[0] not in PATHS:
            asked = "/".join(path)
            allowed = " and ".join(f"proxy/{each}" for each in PATHS)
            raise forbidden(
                NODES, name, f'"proxy/{asked}" is not passed on; what can be asked is {allowed}'
            )
        url = self._hub.url("nodes", name, *path)
        try:
            answer = await self._hub.client().get(url, timeout=_ANSWER_SECONDS)
        except httpx.TransportError as exc:
            raise self._hub.unreachable(exc) from exc
        if not answer.is_success:
            reason = answer.text.strip()
            if (answer.status_code, reason) == _NO_SUCH_PATH:
                raise no_such_path()  # a hub that is older than this server
            raise refusal(answer.status_code, reason)
        content_type = answer.headers.get("content-type", "text/plain").encode("latin-1")
        await request.answer(answer.content, content_type=content_type)
