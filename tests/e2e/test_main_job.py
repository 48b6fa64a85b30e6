"""The demo, told to pytest: a pod from a manifest runs on an edge, and comes back alone."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from fedge_cli.deleting import delete
from fedge_cli.demo import EDGE, NAMESPACE, POD, RunningContainer, Story
from fedge_fabric import topology
from tests.e2e.pods import (
    apply_text,
    is_running,
    pod_at_the_api,
    pod_becomes,
    pod_manifest,
    remove,
    running_by_name,
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

RESTORED_WITHIN = timedelta(seconds=30)
"""A bound that only a defect passes; speed itself is measured by bench/pods.py."""


async def test_pod_of_the_example_runs_with_its_config_map_and_secret(
    story: Story, container: RunningContainer
) -> None:
    pod = pod_at_the_api(story)
    assert pod["spec"]["nodeName"] == EDGE
    assert pod["status"]["podIP"].startswith("10.")
    [status] = pod["status"]["containerStatuses"]
    assert status["containerID"] == f"containerd://{container.id}"
    conditions = {each["type"]: each["status"] for each in pod["status"]["conditions"]}
    assert conditions["Ready"] == conditions["PodScheduled"] == "True"
    assert "GREETING=Good morning" in container.env
    mounts = {where for where, _ in container.mounts}
    assert {"/etc/greeting", "/etc/password"} <= mounts
    sources = dict(container.mounts)
    assert (Path(sources["/etc/greeting"]) / "GREETING").is_symlink()
    assert story.log() == f"Good morning from {EDGE} ({POD})"


async def test_pod_comes_back_with_the_cloud_gone_and_the_cloud_catches_up(
    story: Story, container: RunningContainer
) -> None:
    edge = story.stack.edge(EDGE)
    before = pod_at_the_api(story)
    restarts = before["status"]["containerStatuses"][0]["restartCount"]

    await edge.cut()
    try:
        await story.node_ready("Unknown")
        # the cloud keeps what it was told last, and says that it is old
        assert pod_at_the_api(story)["status"] == before["status"]
        [row] = [row for row in story.table("pods").rows if row[0] == POD]
        assert any(cell.startswith("Running (stale ") for cell in row)
        assert (await story.container()) == container

        await edge.power_cut()
        assert await story.container() is None
        assert not edge.is_on

        await edge.start()
        restored = await story.container_running(seconds=RESTORED_WITHIN.total_seconds())
        assert restored.id != container.id
        assert restored.same_spec(container)
        await story.node_ready("Unknown", seconds=1)
        assert pod_at_the_api(story)["status"] == before["status"]
    finally:
        await edge.heal()

    await story.node_ready("True")
    after = await story.pod_running(restarts=restarts + 1)
    [status] = after["status"]["containerStatuses"]
    assert status["restartCount"] == restarts + 1
    assert status["containerID"] == f"containerd://{restored.id}"
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    # the line's return brought no second copy and no restart
    assert (await running_by_name(story))[POD] == [restored.id]


async def test_services_that_are_killed_come_back_and_touch_no_container(
    story: Story, container: RunningContainer
) -> None:
    edge = story.stack.edge(EDGE)
    await edge.parts.services.kill()
    await edge.parts.services.start()
    await edge.ready()
    with story.api() as api:
        name = "after-kill"
        [done] = apply_text(api, pod_manifest(name))
        assert done == f"pod/{name} created"
    await pod_becomes(story, name, is_running, "Running")
    assert (await running_by_name(story))[POD] == [container.id]
    remove(story, name)


async def test_deleted_pod_is_gone_from_the_api_and_from_the_edge(
    story: Story, container: RunningContainer
) -> None:
    name = "short-lived"
    with story.api() as api:
        assert apply_text(api, pod_manifest(name)) == [f"pod/{name} created"]
    await pod_becomes(story, name, is_running, "Running")
    assert name in await running_by_name(story)
    remove(story, name)
    assert name not in await running_by_name(story)
    assert (await running_by_name(story))[POD] == [container.id]


BAD_MANIFESTS = {
    "not YAML": ("kind: [", "not YAML"),
    "no kind": ("apiVersion: v1\nmetadata: {name: x}", "kind is missing"),
    "unknown kind": (
        "apiVersion: v1\nkind: Pot\nmetadata: {name: x}",
        'no matches for kind "Pot" in version "v1"',
    ),
    "wrong field": (
        pod_manifest("x").replace('"containers"', '"contaners"'),
        'unknown field "spec.contaners"',
    ),
    "wrong type": (
        pod_manifest("x", terminationGracePeriodSeconds="soon"),
        "terminationGracePeriodSeconds",
    ),
    "no image": (
        pod_manifest("x", container={"image": ""}),
        "spec.containers[0].image: Required value",
    ),
    "secret not base64": (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {password: not-base64!}",
        "illegal base64 data",
    ),
    "config map of 5 MB": (
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "x"},
                "data": {"big": "x" * 5_000_000},
            }
        ),
        "limit is 3145728",
    ),
}


@pytest.mark.parametrize(("text", "reason"), BAD_MANIFESTS.values(), ids=BAD_MANIFESTS)
def test_bad_manifest_is_refused_with_what_and_where(story: Story, text: str, reason: str) -> None:
    good = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: beside}\n"
    with story.api() as api:
        [refused] = apply_text(api, text)
        assert refused.startswith("error: FILE")
        assert reason in refused
        assert "document 1" in refused
        if reason != "not YAML":
            assert apply_text(api, text + good)[-1].startswith("configmap/beside ")


async def test_pod_for_an_unknown_node_says_so_and_waits(story: Story) -> None:
    with story.api() as api:
        apply_text(api, pod_manifest("lost", nodeName="nowhere"))
    pod = await pod_becomes(
        story, "lost", lambda pod: "nowhere" in json.dumps(pod.get("status")), "told"
    )
    [condition] = [c for c in pod["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert condition["status"] == "False"
    assert condition["reason"] == "NodeNotFound"
    with story.api() as api:
        pods = api.find_type("pods")
        delete(api, pods, NAMESPACE, "lost", grace_seconds=0, wait=True)


def waiting(pod: dict[str, Any]) -> dict[str, str]:
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        found: dict[str, str] = status["state"].get("waiting") or {}
        return found
    return {}


async def test_pod_that_cannot_start_says_why_and_disturbs_no_other(
    story: Story, container: RunningContainer
) -> None:
    with story.api() as api:
        apply_text(api, pod_manifest("no-image", container={"image": "127.0.0.1:9/nothing:1"}))
        no_map = {"envFrom": [{"configMapRef": {"name": "not-there"}}]}
        apply_text(api, pod_manifest("no-map", container=no_map))
    pod = await pod_becomes(
        story, "no-image", lambda pod: waiting(pod).get("reason") == "ImagePullBackOff", "waiting"
    )
    assert "127.0.0.1:9/nothing:1" in waiting(pod)["message"]
    pod = await pod_becomes(
        story,
        "no-map",
        lambda pod: waiting(pod).get("reason") == "CreateContainerConfigError",
        "waiting",
    )
    assert waiting(pod)["message"] == 'configmap "not-there" not found'
    with story.api() as api:
        # what was missing comes, and the pod starts without further ado
        text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: not-there}\ndata: {A: b}"
        apply_text(api, text)
    await pod_becomes(story, "no-map", is_running, "Running")
    assert (await running_by_name(story))[POD] == [container.id]
    for name in ("no-image", "no-map"):
        remove(story, name)


async def test_malformed_message_on_any_queue_is_put_aside_with_its_reason(story: Story) -> None:
    """On the cloud's broker; every queue there is read by the same code as on the edge's."""
    keys = {
        topology.WANTED: "node.edge-1.state.pods.default.x",
        topology.UP: "node.edge-1.state.pods.default.x",
        topology.REPORTED: "node.edge-1.state.pods.default.x",
    }
    connection = await aio_pika.connect(story.stack.amqp_url)
    async with connection, asyncio.timeout(30):
        channel = await connection.channel()
        dead = await channel.get_queue(topology.DEAD)
        async with dead.iterator() as buried:
            for exchange, key in keys.items():
                to = await channel.get_exchange(exchange)
                await to.publish(aio_pika.Message(b"\x00not an event"), routing_key=key)
            found = {}
            async for message in buried:
                async with message.process():
                    found[message.headers["fedge-queue"]] = message.headers["fedge-reason"]
                    assert message.body == b"\x00not an event"
                if len(found) == len(keys):
                    break
    assert set(found) == {"hub.wanted", "hub.up.state", "controller.reported.state"}
    assert all("no CloudEvent" in str(reason) for reason in found.values())


async def test_pod_that_has_done_its_work_has_succeeded_and_its_log_stays(story: Story) -> None:
    container = {
        "image": "fedge.local/busybox:1",
        "command": ["sh", "-c", "echo the work is done"],
    }
    with story.api() as api:
        apply_text(api, pod_manifest("once", restartPolicy="Never", container=container))
    pod = await pod_becomes(
        story, "once", lambda pod: pod["status"]["phase"] == "Succeeded", "Succeeded"
    )
    [status] = pod["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 0
    assert status["restartCount"] == 0
    with story.api() as api:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/once/log"
        assert list(api.stream(path, query={}, accept="text/plain, */*")) == ["the work is done"]
    remove(story, "once")


async def test_pod_that_crashes_waits_longer_each_time(story: Story) -> None:
    container = {"image": "fedge.local/busybox:1", "command": ["sh", "-c", "exit 3"]}
    with story.api() as api:
        apply_text(api, pod_manifest("crashing", container=container))
    pod = await pod_becomes(
        story,
        "crashing",
        lambda pod: waiting(pod).get("reason") == "CrashLoopBackOff",
        "CrashLoopBackOff",
    )
    [status] = pod["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["restartCount"] == 1
    assert waiting(pod)["message"].startswith("back-off 10s restarting failed container=main")
    remove(story, "crashing")
