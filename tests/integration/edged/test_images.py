"""Images from a registry that asks who is there, on a real containerd."""

import json
from typing import Any

import pytest

from fedge_objects import JsonObject
from tests.fixtures.servers import ImageRegistry
from tests.integration.edged.node import RealNode
from tests.unit.edged.kit import secret, waiting_reason

pytestmark = pytest.mark.containerd


def pull_secret(registry: ImageRegistry, *, password: str | None = None) -> JsonObject:
    account = {"username": registry.user, "password": password or registry.password}
    auths = {"auths": {registry.host: account}}
    return secret("pull", {".dockerconfigjson": json.dumps(auths)})


def pod_of(node: RealNode, image: str, name: str = "a", **spec: Any) -> JsonObject:
    return node.pod(name, containers=[node.container(image=image)], **spec)


async def gone(node: RealNode, image: str) -> None:
    """Have the runtime forget an image, so that it has to be pulled."""
    found = await node.runtime.find_image(image)
    if found is not None and image in found.tags:
        await node.server.server.ctr("images", "remove", image)


def messages(node: RealNode, reason: str) -> list[str]:
    return [event.message for _, event in node.ears.events if event.reason == reason]


async def test_image_is_pulled_with_the_pods_secret(
    node: RealNode, registry: ImageRegistry
) -> None:
    image = await registry.push("team/app:pods", node.server.shell_image)
    node.put("secrets", pull_secret(registry))
    node.put("pods", pod_of(node, image, imagePullSecrets=[{"name": "pull"}]))
    await node.runs()
    assert messages(node, "Pulling") == [f'Pulling image "{image}"']
    [pulled] = messages(node, "Pulled")
    assert pulled.startswith(f'Successfully pulled image "{image}" in ')
    assert "Image size: " in pulled
    await gone(node, image)


async def test_image_is_pulled_with_the_secret_of_the_service_account(
    node: RealNode, registry: ImageRegistry
) -> None:
    image = await registry.push("team/app:accounts", node.server.shell_image)
    node.put("secrets", pull_secret(registry))
    account = {
        "metadata": {"name": "puller", "namespace": "default"},
        "imagePullSecrets": [{"name": "pull"}],
    }
    node.put("serviceaccounts", account)
    node.put("pods", pod_of(node, image, serviceAccountName="puller"))
    await node.runs()
    [pulled] = messages(node, "Pulled")
    assert pulled.startswith("Successfully pulled")
    await gone(node, image)


async def test_wrong_secret_is_told_and_tried_again_when_it_is_mended(
    node: RealNode, registry: ImageRegistry
) -> None:
    image = await registry.push("team/app:wrong", node.server.shell_image)
    node.put("secrets", pull_secret(registry, password="guessed"))
    node.put("pods", pod_of(node, image, imagePullSecrets=[{"name": "pull"}]))
    await node.shows(lambda: waiting_reason(node.ears.newest()) == "ErrImagePull")
    await node.shows(lambda: waiting_reason(node.ears.newest()) == "ImagePullBackOff")
    [failed] = set(messages(node, "Failed"))
    assert failed.startswith(f'Failed to pull image "{image}": ')
    assert await node.containers() == []
    node.put("secrets", pull_secret(registry))
    await node.runs(seconds=30)  # the back-off is ten seconds
    await gone(node, image)


async def test_pods_that_want_the_same_image_pull_it_once(
    node: RealNode, registry: ImageRegistry
) -> None:
    image = await registry.push("team/app:shared", node.server.shell_image)
    node.put("secrets", pull_secret(registry))
    names = [f"pod-{number}" for number in range(4)]
    for name in names:
        node.put("pods", pod_of(node, image, name, imagePullSecrets=[{"name": "pull"}]))
    for name in names:
        await node.runs(name)
    pulled = [each for each in messages(node, "Pulled") if each.startswith("Successfully")]
    assert len(pulled) == 1
    await gone(node, image)


async def test_image_that_is_there_is_not_pulled(node: RealNode, registry: ImageRegistry) -> None:
    image = await registry.push("team/app:there", node.server.shell_image)
    await node.tag_shell_image(image)
    node.put("pods", pod_of(node, image))
    await node.runs()
    assert messages(node, "Pulled") == [f'Container image "{image}" already present on machine']


async def test_registry_that_is_away_keeps_no_other_pod_from_running(node: RealNode) -> None:
    image = "127.0.0.1:1/app:1"
    node.put("pods", pod_of(node, image, "waits"))
    node.put("pods", node.pod("runs"))
    await node.runs("runs")
    await node.shows(lambda: waiting_reason(node.ears.newest("waits")) == "ErrImagePull")
    assert "connection refused" in messages(node, "Failed")[0]
