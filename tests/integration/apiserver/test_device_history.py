"""What became of a device, by way of a hub."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.apiserver.servers import ApiServer, connect
from tests.integration.apiserver.test_conformance_objects import made, refused

CRD = Path(__file__).parents[3] / "deploy/k8s/base/crds/devices.kubeedge.io_devices.yaml"
DEVICES = "/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices"
ITEM = {"property": "temp", "side": "reported", "by": "device", "value": "21", "time": 1}


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match self.path:
            case "/nodes/gw.1/deviceHistory/default/ac?property=temp&limit=3":
                self._reply(200, json.dumps({"items": [ITEM]}).encode())
            case "/nodes/away/deviceHistory/default/far":
                self._reply(503, b"node 'away' is away since 2026-01-01\n")
            case _:
                self._reply(404, b"device is not on node 'gw.1'\n")

    def _reply(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Stay silent."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{hub.server_address[1]}"
    server = ApiServer(
        tmp_path_factory.mktemp("history"), environment={"FEDGE_APISERVER_HUB_URL": url}
    )
    server.start()
    with connect(server.kubeconfig) as client:
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        made(client.post(definitions, json=yaml.safe_load(CRD.read_text())))
        for name, node in (("ac", "gw.1"), ("other", "gw.1"), ("far", "away"), ("loose", "")):
            made(client.post(DEVICES, json=device(name, node)))
        yield client
    server.stop()
    hub.shutdown()
    hub.server_close()
    thread.join()


def device(name: str, node: str) -> dict[str, Any]:
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": name},
        "spec": {"nodeName": node} if node else {},
    }


def test_history_comes_from_the_node(api: httpx.Client) -> None:
    answer = made(api.get(f"{DEVICES}/ac/history", params={"property": "temp", "limit": "3"}))
    assert answer["kind"] == "DeviceHistory"
    assert answer["metadata"] == {"name": "ac", "namespace": "default"}
    assert answer["items"] == [ITEM]


@pytest.mark.parametrize(
    ("name", "code", "reason", "said"),
    [
        ("none", 404, "NotFound", 'devices.devices.kubeedge.io "none" not found'),
        ("other", 404, "NotFound", "device is not on node 'gw.1'"),
        ("loose", 409, "Conflict", "names no node"),
        ("far", 503, "ServiceUnavailable", "away since 2026-01-01"),
    ],
)
def test_refusal_is_a_status(
    api: httpx.Client, name: str, code: int, reason: str, said: str
) -> None:
    status = refused(api.get(f"{DEVICES}/{name}/history"), code, reason)
    assert said in status["message"]


def test_history_cannot_be_written(api: httpx.Client) -> None:
    refused(api.put(f"{DEVICES}/ac/history", json={}), 405, "MethodNotAllowed")
