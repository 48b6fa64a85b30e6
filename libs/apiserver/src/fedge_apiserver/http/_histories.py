"""What became of a device's properties, asked at its node by way of the hub.

A subresource as a pod's log is one: the object says which node, the node says the rest. Clusters
have nothing like it.
"""

from typing import Final

from fedge_apiserver.errors import ApiError
from fedge_apiserver.http._hub import Hub, refusal
from fedge_apiserver.http._messages import Request
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import Resource
from fedge_apiserver.store import decode
from fedge_objects import JsonObject

DEVICES: Final = "devices.devices.kubeedge.io"
_PARAMETERS: Final = ("property", "limit")
_ANSWER_SECONDS: Final = 30.0


class DeviceHistories:
    """Asks nodes through the hub."""

    def __init__(self, registry: Registry, hub: Hub) -> None:
        self._registry = registry
        self._hub = hub

    async def get(self, request: Request, resource: Resource, namespace: str, name: str) -> None:
        """Answer with a ``DeviceHistory``, newest first.

        Raises:
            ApiError: there is no such device, it names no node, or there is no way to that.
        """
        import httpx  # noqa: PLC0415 - as in the hub's client

        device = decode(self._registry.get(resource, namespace, name).body)
        node = (device.get("spec") or {}).get("nodeName")
        if not node:
            raise ApiError(
                409,
                "Conflict",
                f'device "{name}" names no node: its history is where it is attached; set '
                "spec.nodeName",
            )
        url = self._hub.url("nodes", node, "deviceHistory", namespace, name)
        parameters = {key: request.query[key] for key in _PARAMETERS if request.query.get(key)}
        try:
            answer = await self._hub.client().get(url, params=parameters, timeout=_ANSWER_SECONDS)
        except httpx.TransportError as exc:
            raise self._hub.unreachable(exc) from exc
        if not answer.is_success:
            raise refusal(answer.status_code, answer.text.strip())
        history: JsonObject = {
            "kind": "DeviceHistory",
            "apiVersion": resource.api_version,
            "metadata": {"name": name, "namespace": namespace},
            "items": answer.json()["items"],
        }
        await request.answer_json(history)
