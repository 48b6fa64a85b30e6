"""Tokens of service accounts, by the official Python client."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config

from fedge_apiserver.tokens import Bearer, TokenError, TokenKey


@pytest.fixture
def connection(kubeconfig: Path) -> Iterator[client.ApiClient]:
    config.load_kube_config(config_file=str(kubeconfig))  # type: ignore[no-untyped-call]  # the library's
    with client.ApiClient() as connection:
        yield connection


def ask(
    connection: client.ApiClient,
    namespace: str,
    *audiences: str,
    seconds: int = 3600,
    bound: client.V1BoundObjectReference | None = None,
) -> str:
    spec = client.V1TokenRequestSpec(
        audiences=list(audiences), expiration_seconds=seconds, bound_object_ref=bound
    )
    answer = client.CoreV1Api(connection).create_namespaced_service_account_token(
        "default", namespace, client.AuthenticationV1TokenRequest(spec=spec)
    )
    assert answer.status is not None
    return str(answer.status.token)


def review(connection: client.ApiClient, token: str, *audiences: str) -> client.V1TokenReviewStatus:
    spec = client.V1TokenReviewSpec(token=token, audiences=list(audiences))
    answer = client.AuthenticationV1Api(connection).create_token_review(
        client.V1TokenReview(spec=spec)
    )
    assert answer.status is not None
    return answer.status


def make_pod(connection: client.ApiClient, namespace: str) -> client.V1ObjectMeta:
    spec = client.V1PodSpec(
        containers=[client.V1Container(name="main", image="busybox:1.36")],
        scheduler_name="nobody",
    )
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="p"), spec=spec)
    made = client.CoreV1Api(connection).create_namespaced_pod(namespace, pod)
    assert made.metadata is not None
    return made.metadata


def test_token_is_good_for_its_audience_only(connection: client.ApiClient, namespace: str) -> None:
    token = ask(connection, namespace, "vault")
    status = review(connection, token, "vault")
    assert status.authenticated
    assert status.user is not None
    assert status.user.username == f"system:serviceaccount:{namespace}:default"
    assert review(connection, token, "other").authenticated is None
    assert "it is for vault" in str(review(connection, token).error)
    assert review(connection, ask(connection, namespace)).authenticated


def test_token_ends_with_the_pod_that_it_is_bound_to(
    connection: client.ApiClient, namespace: str
) -> None:
    pod = make_pod(connection, namespace)
    bound = client.V1BoundObjectReference(kind="Pod", name="p", uid=pod.uid)
    token = ask(connection, namespace, bound=bound)
    assert review(connection, token).authenticated
    core = client.CoreV1Api(connection)
    core.delete_namespaced_pod("p", namespace, grace_period_seconds=0)
    assert "pod p is gone" in str(review(connection, token).error)
    make_pod(connection, namespace)
    assert "pod p was made anew" in str(review(connection, token).error)
    with pytest.raises(client.ApiException) as caught:
        ask(connection, namespace, bound=bound)
    assert caught.value.status == 409


def test_what_cannot_be_is_refused(connection: client.ApiClient, namespace: str) -> None:
    for kind, status in (("Pod", 404), ("Volcano", 400)):
        with pytest.raises(client.ApiException) as caught:
            ask(connection, namespace, bound=client.V1BoundObjectReference(kind=kind, name="none"))
        assert caught.value.status == status
    for text in ("", "a.b.c", "nonsense"):
        assert review(connection, text).error


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_makes_tokens_too(
    connection: client.ApiClient, kubeconfig: Path, namespace: str
) -> None:
    done = subprocess.run(
        ["kubectl", "--kubeconfig", str(kubeconfig), "-n", namespace, "create", "token", "default"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert review(connection, done.stdout.strip()).authenticated


def test_key_is_kept_and_private(tmp_path: Path) -> None:
    file = tmp_path / "tokens.key"
    bearer = Bearer(namespace="d", name="a", uid="u")
    token, expires = TokenKey.load(file, "https://one").issue(
        bearer, audiences=(), now=1000, seconds=1
    )
    assert expires == 1600  # no token is valid for less than ten minutes
    assert file.stat().st_mode & 0o777 == 0o600
    again = TokenKey.load(file, "https://one")
    assert again.check(token, audiences=(), now=1599)["sub"] == "system:serviceaccount:d:a"
    for key, now in (
        (again, 1600),
        (again, 999),
        (TokenKey.load(file, "https://two"), 1200),
        (TokenKey.load(tmp_path / "other.key", "https://one"), 1200),
    ):
        with pytest.raises(TokenError):
            key.check(token, audiences=(), now=now)
    assert json.dumps(again.key_set()).count('"kid"') == 1
