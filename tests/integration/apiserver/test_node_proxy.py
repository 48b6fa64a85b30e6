"""What is known of a node, by way of a hub."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.integration.apiserver.servers import ApiServer, connect, free_port
from tests.integration.apiserver.test_conformance_objects import made, refused

ASKED: list[str] = []


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: what it knows of a node, or a reason."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ASKED.append(self.path)
        match self.path:
            case "/nodes/gw.1/status":
                body = json.dumps({"node": "gw.1", "link": "up"}).encode()
                self._reply(200, body, "application/json")
            case "/nodes/gw.1/healthz":
                self._reply(200, b"ok\n", "text/plain; charset=utf-8")
            case "/nodes/odd/status":
                self._reply(502, b"out of order\n", "text/plain")
            case "/nodes/old/status":
                self._reply(404, b"Not Found", "text/plain; charset=utf-8")
            case "/nodes/waiting/status":
                self._reply(503, b"the broker is not connected\n", "text/plain")
            case _:
                self._reply(404, b"nothing was ever heard of that node\n", "text/plain")

    def _reply(self, code: int, body: bytes, content_type: str) -> None:
        self.send_response(code)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Stay silent."""


@pytest.fixture(scope="module")
def hub_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, hub_port: int) -> Iterator[httpx.Client]:
    server = ApiServer(
        tmp_path_factory.mktemp("proxy"),
        environment={"FEDGE_APISERVER_HUB_URL": f"http://127.0.0.1:{hub_port}/"},
    )
    server.start()
    with connect(server.kubeconfig) as client:
        for name in ("gw.1", "odd", "old", "waiting", "new"):
            made(client.post("/api/v1/nodes", json={"metadata": {"name": name}}))
        yield client
    server.stop()


def proxy(node: str, path: str) -> str:
    return f"/api/v1/nodes/{node}/proxy/{path}"


def test_status_of_a_node_comes_from_the_hub_as_it_is(api: httpx.Client) -> None:
    answer = api.get(proxy("gw.1", "status"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"node": "gw.1", "link": "up"}


def test_health_of_a_node_comes_from_the_hub_as_it_is(api: httpx.Client) -> None:
    answer = api.get(proxy("gw.1", "healthz"))
    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_node_that_the_hub_never_heard_is_told_in_its_words(api: httpx.Client) -> None:
    status = refused(api.get(proxy("new", "status")), 404, "NotFound")
    assert status["message"] == "nothing was ever heard of that node"


@pytest.mark.parametrize(
    ("node", "code", "reason", "message"),
    [
        ("waiting", 503, "ServiceUnavailable", "the broker is not connected"),
        ("odd", 500, "InternalError", "the hub answered 502: out of order"),
        ("old", 404, "NotFound", "the server could not find the requested resource"),
        ("nobody", 404, "NotFound", 'nodes "nobody" not found'),
    ],
)
def test_refusal_is_a_status(
    api: httpx.Client, node: str, code: int, reason: str, message: str
) -> None:
    status = refused(api.get(proxy(node, "status")), code, reason)
    assert status["message"] == message


@pytest.mark.parametrize(
    "path",
    [
        "",
        "run/default/p/main",
        "exec/default/p/main",
        "containerLogs/default/p/main",
        "status/more",
        "%2e%2e/status",
        "..%2Fwaiting%2Fstatus",
        "metrics",
    ],
)
def test_other_paths_do_not_reach_the_hub(api: httpx.Client, path: str) -> None:
    ASKED.clear()
    status = refused(api.get(proxy("gw.1", path)), 403, "Forbidden")
    assert status["details"] == {"name": "gw.1", "kind": "nodes"}
    assert "what can be asked is proxy/status and proxy/healthz" in status["message"]
    assert ASKED == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_done_to_a_node(api: httpx.Client, method: str) -> None:
    ASKED.clear()
    refused(api.request(method, proxy("gw.1", "status")), 405, "MethodNotAllowed")
    assert ASKED == []


def test_discovery_names_the_proxy(api: httpx.Client) -> None:
    listed = {each["name"]: each for each in api.get("/api/v1").json()["resources"]}
    assert listed["nodes/proxy"] == {
        "name": "nodes/proxy",
        "singularName": "",
        "namespaced": False,
        "kind": "NodeProxyOptions",
        "verbs": ["get"],
    }


@pytest.mark.parametrize("has_hub", [True, False], ids=["hub away", "no hub"])
def test_unreachable_hub_is_told_with_the_remedy(tmp_path: Path, has_hub: bool) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    server = ApiServer(tmp_path, environment={"FEDGE_APISERVER_HUB_URL": url} if has_hub else {})
    server.start()
    try:
        with connect(server.kubeconfig) as client:
            made(client.post("/api/v1/nodes", json={"metadata": {"name": "gw"}}))
            status = refused(client.get(proxy("gw", "status")), 503, "ServiceUnavailable")
    finally:
        server.stop()
    if has_hub:
        assert f"the hub at {url} cannot be reached" in status["message"]
        assert "fedge run hub" in status["message"]
    else:
        assert "set FEDGE_APISERVER_HUB_URL" in status["message"]
