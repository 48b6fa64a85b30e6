"""A running server for the tests here, or a cluster of your own.

With ``FEDGE_TEST_KUBECONFIG`` the conformance tests run against that cluster instead.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.integration.apiserver.servers import ApiServer, connect, watch_lines


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a cluster that answers."""
    given = os.environ.get("FEDGE_TEST_KUBECONFIG")
    if given:
        yield Path(given)
        return
    server = ApiServer(tmp_path_factory.mktemp("apiserver"))
    server.start()
    yield server.kubeconfig
    server.stop()


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[httpx.Client]:
    """A client of that cluster."""
    with connect(kubeconfig) as client:
        yield client


@pytest.fixture
def namespace(api: httpx.Client) -> Iterator[str]:
    """A namespace of the test's own, with the account that its pods run as."""
    name = f"test-{uuid4().hex[:10]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert api.post("/api/v1/namespaces", json=body).status_code == 201
    accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
    watch_lines(api, accounts, 1, fieldSelector="metadata.name=default")
    yield name
    api.delete(f"/api/v1/namespaces/{name}")
