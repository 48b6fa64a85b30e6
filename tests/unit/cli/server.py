"""An API server of a few lines, in memory, that answers as the real one does."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from fedge_cli.api import Api
from fedge_cli.kubeconfig import Access

Answer = dict[str, Any] | tuple[int, dict[str, Any]]
Handler = Callable[[httpx.Request], Answer]

CORE = {
    "resources": [
        {"name": "pods", "singularName": "pod", "kind": "Pod", "namespaced": True,
         "shortNames": ["po"]},
        {"name": "pods/log", "singularName": "", "kind": "Pod", "namespaced": True},
        {"name": "nodes", "singularName": "node", "kind": "Node", "namespaced": False,
         "shortNames": ["no"]},
        {"name": "configmaps", "singularName": "", "kind": "ConfigMap", "namespaced": True,
         "shortNames": ["cm"]},
    ]
}  # fmt: skip
DEVICES = {
    "resources": [
        {"name": "devices", "singularName": "device", "kind": "Device", "namespaced": True},
        {"name": "devicemodels", "singularName": "devicemodel", "kind": "DeviceModel",
         "namespaced": True},
        {"name": "devicestatuses", "singularName": "devicestatus", "kind": "DeviceStatus",
         "namespaced": True},
    ]
}  # fmt: skip


def not_found(what: str) -> Answer:
    return 404, {"kind": "Status", "reason": "NotFound", "message": f"{what} not found"}


class Server:
    """Answers from routes ``METHOD path``; keeps what it was asked."""

    def __init__(self, routes: dict[str, Answer | Handler] | None = None) -> None:
        self.routes: dict[str, Answer | Handler] = {
            "GET /api/v1": CORE,
            "GET /apis": {
                "kind": "APIGroupList",
                "groups": [
                    {
                        "name": "devices.kubeedge.io",
                        "preferredVersion": {"version": "v1beta1"},
                        "versions": [{"version": "v1beta1"}],
                    }
                ],
            },
            "GET /apis/devices.kubeedge.io/v1beta1": DEVICES,
            **(routes or {}),
        }
        self.requests: list[httpx.Request] = []

    @property
    def asked(self) -> list[str]:
        return [f"{each.method} {each.url.path}" for each in self.requests]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        route = self.routes.get(f"{request.method} {request.url.path}", not_found(request.url.path))
        answer = route(request) if callable(route) else route
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return httpx.Response(status, json=body)

    @contextmanager
    def api(self) -> Iterator[Api]:
        access = Access(
            path=Path("kubeconfig"), server="http://api.test", context=None, token="t",
            namespace="default",
        )  # fmt: skip
        with Api.opened(access, httpx.MockTransport(self)) as api:
            yield api


def body_of(request: httpx.Request) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(request.content)
    return body
