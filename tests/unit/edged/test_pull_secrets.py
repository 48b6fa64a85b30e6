"""Which credentials open which registry."""

import base64
import json
from typing import Any

import pytest

from fedge_cri import Credentials
from fedge_edged.node_pods import NodeObjects
from fedge_edged.pull_secrets import credentials_for, matches
from fedge_objects import JsonObject
from tests.unit.edged.kit import change, objects, pod, secret

IMAGE = "registry.example/team/app:1"


def config(host: str, user: str, *, old: bool = False) -> dict[str, str]:
    auths = {host: {"username": user, "password": "pw"}}
    return (
        {".dockercfg": json.dumps(auths)}
        if old
        else {".dockerconfigjson": json.dumps({"auths": auths})}
    )


def account(*secrets: str, name: str = "default") -> JsonObject:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "imagePullSecrets": [{"name": each} for each in secrets],
    }


def users(held: NodeObjects, **spec: Any) -> list[str]:
    return [each.username for each in credentials_for(pod(**spec), IMAGE, held)]


@pytest.mark.parametrize(
    ("pattern", "image", "fits"),
    [
        ("registry.example", IMAGE, True),
        ("https://registry.example/v2/", IMAGE, True),
        ("*.example", IMAGE, True),
        ("*.example", "deep.registry.example/app:1", False),
        ("registry.example:5000", IMAGE, False),
        ("registry.example:5000", "registry.example:5000/app", True),
        ("registry.example/team", IMAGE, True),
        ("registry.example/team/app", IMAGE, True),
        ("registry.example/tea", IMAGE, False),
        ("registry.example/other", IMAGE, False),
        ("https://index.docker.io/v1/", "docker.io/library/busybox:1", True),
        ("docker.io", IMAGE, False),
    ],
)
def test_entry_is_about_some_images(pattern: str, image: str, *, fits: bool) -> None:
    assert matches(pattern, image) is fits


def test_pods_secrets_come_before_those_of_its_service_account() -> None:
    held = objects(
        secrets=[
            secret("own", config("registry.example", "own")),
            secret("shared", config("registry.example", "shared", old=True)),
        ],
        serviceaccounts=[account("shared")],
    )
    assert users(held, imagePullSecrets=[{"name": "own"}]) == ["own", "shared"]
    assert users(held) == ["shared"]
    assert users(held, serviceAccountName="other") == []


def test_most_particular_entry_comes_first() -> None:
    auths = {
        "registry.example": {"username": "all", "password": "pw"},
        "registry.example/team": {"auth": base64.b64encode(b"team:pw").decode()},
    }
    held = objects(secrets=[secret("s", {".dockerconfigjson": json.dumps({"auths": auths})})])
    found = credentials_for(pod(imagePullSecrets=[{"name": "s"}]), IMAGE, held)
    assert found == [
        Credentials(username="team", password="pw"),
        Credentials(username="all", password="pw"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {".dockerconfigjson": "{"},
        {".dockerconfigjson": '{"auths": []}'},
        {".dockerconfigjson": '{"auths": {"registry.example": {}}}'},
        {".dockerconfigjson": '{"auths": {"registry.example": {"auth": "?"}}}'},
    ],
)
def test_secret_that_is_damaged_is_passed_over(data: dict[str, str]) -> None:
    held = objects(secrets=[secret("bad", data), secret("good", config("*.example", "good"))])
    assert users(held, imagePullSecrets=[{"name": "bad"}, {"name": "none"}, {"name": "good"}]) == [
        "good"
    ]


def test_credentials_are_not_printed() -> None:
    held = objects(secrets=[secret("s", config("registry.example", "somebody"))])
    [found] = credentials_for(pod(imagePullSecrets=[{"name": "s"}]), IMAGE, held)
    assert "somebody" not in repr(found)
    assert change("secrets", "s", None).object is None
