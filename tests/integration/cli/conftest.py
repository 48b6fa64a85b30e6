"""The command against a real server, as a user runs it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from typer.testing import CliRunner, Result

from fedge_cli.app import app
from tests.integration.apiserver.servers import ApiServer, connect

Fedge = Callable[..., Result]


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a server of our own."""
    server = ApiServer(tmp_path_factory.mktemp("cli-apiserver"))
    server.start()
    yield server.kubeconfig
    server.stop()


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[httpx.Client]:
    """A client beside the command, to look at what it did."""
    with connect(kubeconfig) as client:
        yield client


@pytest.fixture
def namespace(api: httpx.Client) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"cli-{uuid4().hex[:10]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert api.post("/api/v1/namespaces", json=body).status_code == 201
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def fedge(kubeconfig: Path, namespace: str) -> Fedge:
    """Run ``fedge`` in that namespace."""

    def run(*arguments: str, stdin: str | None = None) -> Result:
        environment = {"FEDGE_KUBECONFIG": str(kubeconfig), "FEDGE_NAMESPACE": namespace}
        return CliRunner().invoke(app, arguments, input=stdin, env=environment)

    return run
