"""Tokens of service accounts, from the API to a file in a container."""

import asyncio
import base64
import json
from typing import Any

import pytest

from fedge_cli.demo import NAMESPACE, Story
from fedge_cri import ContainerState
from fedge_cri.client import CriRuntime
from fedge_service import backoff
from tests.e2e.pods import apply_text, is_running, pod_becomes, pod_manifest, remove
from tests.e2e.test_exec import fedge_exec

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

CAT = ("--", "cat", "/var/run/token")


def claims_of(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


def review(story: Story, token: str, *audiences: str) -> dict[str, Any]:
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": list(audiences)},
    }
    with story.api() as api:
        answer = api.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=body)
    found: dict[str, Any] = answer["status"]
    return found


async def test_token_is_a_file_and_ends_with_its_pod(story: Story) -> None:
    source = {"serviceAccountToken": {"path": "token", "audience": "vault"}}
    text = pod_manifest(
        "with-token",
        container={"volumeMounts": [{"name": "token", "mountPath": "/var/run"}]},
        volumes=[{"name": "token", "projected": {"sources": [source]}}],
    )
    with story.api() as api:
        assert apply_text(api, text) == ["pod/with-token created"]
    pod = await pod_becomes(story, "with-token", is_running, "Running")
    code, out, err = await fedge_exec(story, "with-token", *CAT)
    assert (code, err) == (0, b"")
    token = out.decode()
    claims = claims_of(token)
    assert claims["sub"] == f"system:serviceaccount:{NAMESPACE}:default"
    assert claims["kubernetes.io"]["pod"]["uid"] == pod["metadata"]["uid"]
    status = review(story, token, "vault")
    assert status["authenticated"]
    assert status["user"]["username"] == claims["sub"]
    assert "error" in review(story, token, "other")
    assert "error" in review(story, f"{token[:-4]}AAAA", "vault")
    remove(story, "with-token")
    assert "is gone" in review(story, token, "vault")["error"]


async def test_token_is_there_after_a_power_cut_with_the_cloud_away(story: Story) -> None:
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    text = pod_manifest(
        "token-offline",
        container={"volumeMounts": [{"name": "token", "mountPath": "/var/run"}]},
        volumes=[{"name": "token", "projected": {"sources": [source]}}],
    )
    with story.api() as api:
        assert apply_text(api, text) == ["pod/token-offline created"]
    await pod_becomes(story, "token-offline", is_running, "Running")
    _, before, _ = await fedge_exec(story, "token-offline", *CAT)
    edge = story.stack.edge("edge-1")
    await edge.cut()
    await edge.power_cut()
    await edge.start()
    try:
        await edge.ready()
        async with CriRuntime.connected(edge.parts.containerd.socket) as runtime:
            container_id = await running(runtime, "token-offline")
            after = await runtime.exec_sync(container_id, list(CAT[1:]), timeout_seconds=10)
        assert after.stdout == before
    finally:
        await edge.heal()
    await story.node_ready("True")
    remove(story, "token-offline")


async def running(runtime: CriRuntime, pod: str) -> str:
    """Wait until a pod's container runs; return its id."""
    async with asyncio.timeout(60):
        async for _ in backoff(first_seconds=0.05, most_seconds=0.5):
            for each in await runtime.list_containers():
                name = each.labels.get("io.kubernetes.pod.name")
                if name == pod and each.state is ContainerState.RUNNING:
                    return each.id
    raise AssertionError("unreachable: the wait has no other end")
