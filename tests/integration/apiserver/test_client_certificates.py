"""Clients that prove who they are by a certificate, on a server of the test's own."""

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from fedge_apiserver.security import load_credentials, make_client
from tests.integration.apiserver.servers import ApiServer

WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running server."""
    held = ApiServer(tmp_path_factory.mktemp("certified"))
    held.start()
    yield held
    held.stop()


def certified(
    server: ApiServer, tmp_path: Path, authority: Path, user: str, *groups: str
) -> httpx.Client:
    """Return a client with a certificate of the CA in a folder."""
    certificate, key = make_client(authority, user, groups, days=1)
    pem = tmp_path / f"{user}.pem"
    pem.write_bytes(certificate + key)
    cluster = yaml.safe_load(server.kubeconfig.read_text())["clusters"][0]["cluster"]
    trusted = base64.b64decode(cluster["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=trusted)
    tls.load_cert_chain(pem)
    return httpx.Client(base_url=cluster["server"], verify=tls, trust_env=False)


def test_certificate_names_the_user_and_the_groups(server: ApiServer, tmp_path: Path) -> None:
    with certified(server, tmp_path, server.data_dir / "pki", "ann", "one", "two") as api:
        status = api.post(WHOAMI, json={}).json()["status"]
        assert status["userInfo"] == {
            "username": "ann",
            "groups": ["one", "two", "system:authenticated"],
        }
        assert api.get("/api/v1/namespaces").status_code == 403


def test_masters_by_certificate_may_do_everything(server: ApiServer, tmp_path: Path) -> None:
    with certified(server, tmp_path, server.data_dir / "pki", "root", "system:masters") as api:
        assert api.get("/api/v1/namespaces").status_code == 200


def test_certificate_of_another_authority_does_not_connect(
    server: ApiServer, tmp_path: Path
) -> None:
    load_credentials(tmp_path / "other", ["localhost"])
    with (
        certified(server, tmp_path, tmp_path / "other", "ann", "system:masters") as api,
        pytest.raises(httpx.TransportError),
    ):
        api.get("/api/v1/namespaces")


def test_no_proof_is_nobody(server: ApiServer) -> None:
    cluster = yaml.safe_load(server.kubeconfig.read_text())["clusters"][0]["cluster"]
    trusted = base64.b64decode(cluster["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=trusted)
    with httpx.Client(base_url=cluster["server"], verify=tls, trust_env=False) as api:
        assert api.get("/api/v1/namespaces").status_code == 401
        assert api.get("/healthz").status_code == 200
