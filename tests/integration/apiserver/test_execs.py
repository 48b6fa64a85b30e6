"""Commands by way of a hub."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_socket
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from fedge_cli import kubeconfig
from fedge_cli.api import Api
from tests.integration.apiserver.servers import ApiServer, connect, free_port
from tests.integration.apiserver.test_conformance_objects import made, pods


def hub(connection: ServerConnection) -> None:
    """Answer as the hub does: say what was asked, then what was typed."""
    assert connection.request is not None
    connection.send(b"\x01" + connection.request.path.encode())
    connection.send(b"\x01" + connection.recv(decode=False)[1:])


@pytest.fixture(scope="module")
def hub_port() -> Iterator[int]:
    with serve(hub, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def started(folder: Path, hub_url: str) -> ApiServer:
    server = ApiServer(folder, environment={"FEDGE_APISERVER_HUB_URL": hub_url})
    server.start()
    with connect(server.kubeconfig) as api:
        spec = {"containers": [{"name": "main", "image": "busybox:1.36"}], "nodeName": "gw.1"}
        made(api.post(pods("default"), json={"metadata": {"name": "p"}, "spec": spec}))
    return server


def opened(server: ApiServer) -> ClientConnection:
    path = pods("default", "p") + "/exec?command=echo&command=a%20b&stdin=true&more=1"
    with Api.opened(kubeconfig.load(server.kubeconfig)) as api:
        url, headers, context = api.socket_access(path)
    protocols = [Subprotocol("v5.channel.k8s.io")]
    return connect_socket(
        url, ssl=context, additional_headers=headers, subprotocols=protocols, proxy=None
    )


def test_frames_pass_both_ways_by_way_of_the_hub(tmp_path: Path, hub_port: int) -> None:
    server = started(tmp_path, f"http://127.0.0.1:{hub_port}/")
    try:
        with opened(server) as connection:
            asked = "/nodes/gw.1/exec/default/p/main?command=echo&command=a+b&stdin=true"
            assert connection.recv() == b"\x01" + asked.encode()
            connection.send(b"\x00typed")
            assert connection.recv() == b"\x01typed"
    finally:
        server.stop()


def test_unreachable_hub_is_told_with_the_remedy(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    server = started(tmp_path, url)
    try:
        with pytest.raises(InvalidStatus) as caught:
            opened(server)
    finally:
        server.stop()
    assert caught.value.response.status_code == 503
    said = caught.value.response.body.decode()
    assert f"the hub at {url} cannot be reached" in said
    assert "fedge run hub" in said
