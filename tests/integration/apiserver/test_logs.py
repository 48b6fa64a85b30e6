"""Logs by way of a hub."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.integration.apiserver.servers import ApiServer, connect, free_port
from tests.integration.apiserver.test_conformance_objects import made, pods, refused


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: a streamed text, or a reason."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if query.get("previous") == "true":
            self._reply(404, b'previous terminated container "main" in pod "p" not found\n')
            return
        if query.get("follow") == "true":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for line in (b"first\n", b"second\n"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                # The second line is written only after the reader has had the first.
                assert Hub.proceed.wait(10)
            self.wfile.write(b"0\r\n\r\n")
            return
        self._reply(200, f"{url.path} {sorted(query.items())}\n".encode())

    proceed = threading.Event()

    def _reply(self, code: int, body: bytes) -> None:
        self.send_response(code)
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
        tmp_path_factory.mktemp("logs"),
        environment={"FEDGE_APISERVER_HUB_URL": f"http://127.0.0.1:{hub_port}"},
    )
    server.start()
    with connect(server.kubeconfig) as client:
        yield client
    server.stop()


def make_pod(api: httpx.Client, namespace: str, *names: str) -> None:
    containers = [{"name": name, "image": "busybox:1.36"} for name in names]
    body = {"metadata": {"name": "p"}, "spec": {"containers": containers, "nodeName": "gw.1"}}
    made(api.post(pods(namespace), json=body))


def test_log_comes_from_the_node_by_way_of_the_hub(api: httpx.Client, namespace: str) -> None:
    make_pod(api, namespace, "main")
    answer = api.get(pods(namespace, "p") + "/log", params={"tailLines": "5", "timestamps": "true"})
    assert answer.status_code == 200
    assert answer.text == (
        f"/nodes/gw.1/containerLogs/{namespace}/p/main "
        "[('tailLines', '5'), ('timestamps', 'true')]\n"
    )


def test_followed_log_comes_line_by_line(api: httpx.Client, namespace: str) -> None:
    make_pod(api, namespace, "main")
    Hub.proceed.clear()
    path = pods(namespace, "p") + "/log"
    with api.stream("GET", path, params={"follow": "true"}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "first"
        Hub.proceed.set()
        assert next(lines) == "second"


def test_reason_of_the_hub_reaches_the_user(api: httpx.Client, namespace: str) -> None:
    make_pod(api, namespace, "main")
    answer = api.get(pods(namespace, "p") + "/log", params={"previous": "true"})
    status = refused(answer, 404, "NotFound")
    assert status["message"] == 'previous terminated container "main" in pod "p" not found'


def test_container_must_be_named_when_there_are_several(api: httpx.Client, namespace: str) -> None:
    make_pod(api, namespace, "one", "two")
    path = pods(namespace, "p") + "/log"
    status = refused(api.get(path), 400, "BadRequest")
    assert "choose one of: [one two]" in status["message"]
    assert api.get(path, params={"container": "two"}).status_code == 200
    refused(api.get(path, params={"container": "three"}), 400, "BadRequest")


def test_unreachable_hub_is_told(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    server = ApiServer(tmp_path, environment={"FEDGE_APISERVER_HUB_URL": url})
    server.start()
    try:
        with connect(server.kubeconfig) as client:
            make_pod(client, "default", "main")
            status = refused(client.get(pods("default", "p") + "/log"), 503, "ServiceUnavailable")
    finally:
        server.stop()
    assert f"the hub at {url} cannot be reached" in status["message"]
    assert "fedge run hub" in status["message"]
