"""A program in a pod and its edge's own Kubernetes API, with the line cut and mended.

The program uses the official client as it would in any cluster: by ``load_incluster_config`` and
nothing of ours. The containers have no Python of their own, so they are given the machine's.
"""

import asyncio
import json
import shutil
import site
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedge_cli.demo import EDGE, NAMESPACE, Story
from fedge_cli.local import edge_variables
from fedge_fabric.writes import CONFLICT
from fedge_service import backoff
from tests.e2e.pods import apply_text, is_running, pod_becomes, remove
from tests.e2e.test_exec import run, run_fedge

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

NAME = "edge-program"
PROLOGUE = """
import json, sys
from kubernetes import client, config
config.load_incluster_config()
api = client.CoreV1Api()
def told(answer):
    print(json.dumps(api.api_client.sanitize_for_serialization(answer)))
"""


def manifests(*, host_network: bool) -> list[dict[str, Any]]:
    name = f"{NAME}-host" if host_network else NAME
    metadata = {"name": name, "namespace": NAMESPACE}
    group = "rbac.authorization.k8s.io"
    folders = {"usr": "/usr", "lib": "/lib", "lib64": "/lib64", "site": site.getsitepackages()[0]}
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "serviceAccountName": name,
                "hostNetwork": host_network,
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main",
                    "image": "fedge.local/hello:demo",
                    "env": [{"name": "PYTHONPATH", "value": "/site"}],
                    "volumeMounts": [
                        {"name": each, "mountPath": f"/{each}", "readOnly": True}
                        for each in folders
                    ],
                }],
                "volumes": [
                    {"name": each, "hostPath": {"path": str(Path(path).resolve())}}
                    for each, path in folders.items()
                ],
            },
        },
    ]  # fmt: skip


class Program:
    """The program in the pod."""

    def __init__(self, story: Story, name: str = NAME) -> None:
        self.story = story
        self.name = name
        self._socket = str(story.stack.edge(EDGE).parts.edged_socket)

    async def does(self, script: str) -> Any:
        """Run lines of Python in the pod; return what they told."""
        command = ("/usr/bin/python3", "-c", PROLOGUE + script)
        code, out, err = await run_fedge(
            "exec", "--edge-socket", self._socket, self.name, "--", *command
        )
        assert code == 0, err.decode()
        return json.loads(out.decode().splitlines()[-1])

    async def data(self, name: str) -> Any:
        shown = await self.does(f"told(api.read_namespaced_config_map({name!r}, 'default'))")
        return shown.get("data")

    async def sets(self, name: str, **data: str) -> Any:
        body = json.dumps({"data": data})
        return await self.does(
            f"told(api.patch_namespaced_config_map({name!r}, 'default', {body}))"
        )


def config_map(name: str, **data: str) -> str:
    metadata = {"name": name, "namespace": NAMESPACE}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def in_cloud(story: Story, name: str) -> dict[str, Any]:
    with story.api() as api:
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{name}"
        found: dict[str, Any] = api.request("GET", path)
        return found


async def becomes(
    story: Story, name: str, is_so: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Return a config map once the cloud has it so."""
    async with asyncio.timeout(60):
        async for _ in backoff(first_seconds=0.1, most_seconds=0.5):
            with story.api() as api:
                path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
                items = api.request("GET", f"{path}?fieldSelector=metadata.name={name}")["items"]
            if items and is_so(items[0]):
                return dict(items[0])
    raise AssertionError(f"{name} does not become so")


def mark_of(obj: dict[str, Any]) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(CONFLICT, ""))


async def test_program_reads_and_writes_with_the_line_cut_and_the_cloud_gets_it(
    story: Story,
) -> None:
    edge = story.stack.edge(EDGE)
    text = "\n---\n".join(
        [
            *(json.dumps(each) for each in manifests(host_network=False)),
            *(json.dumps(each) for each in manifests(host_network=True)),
            config_map("edge-state", n="0"),
            config_map("edge-both", mode="day"),
        ]
    )
    with story.api() as api:
        lines = apply_text(api, text)
    assert all(str(line).endswith(" created") for line in lines), lines
    for name in (NAME, f"{NAME}-host"):
        await pod_becomes(story, name, is_running, "Running")
    program, on_host = Program(story), Program(story, f"{NAME}-host")
    assert await program.data("edge-state") == {"n": "0"}
    assert await on_host.data("edge-state") == {"n": "0"}
    await program.sets("edge-state", n="1")
    assert in_cloud(story, "edge-state")["data"] == {"n": "1"}

    await edge.cut()
    try:
        taken = await program.sets("edge-state", n="2")
        assert "fedge.io/pending" in taken["metadata"]["annotations"]
        await program.does(
            f"told(api.create_namespaced_config_map('default', {config_map('edge-fresh', a='b')}))"
        )
        await program.sets("edge-both", mode="edge-mode")
        assert await program.data("edge-state") == {"n": "2"}
        names = await program.does(
            "told([each.metadata.name for each in api.list_namespaced_config_map('default').items])"
        )
        assert {"edge-state", "edge-fresh", "edge-both"} <= set(names)
        await check_kubectl(story)
        with story.api() as api:
            apply_text(api, config_map("edge-both", mode="cloud-mode"))
    finally:
        await edge.heal()

    await becomes(story, "edge-state", lambda obj: obj["data"] == {"n": "2"})
    await becomes(story, "edge-fresh", lambda obj: obj["data"] == {"a": "b"})
    both = await becomes(story, "edge-both", mark_of)
    assert both["data"] == {"mode": "cloud-mode"}
    assert json.loads(mark_of(both))["fields"] == [
        {"path": "data.mode", "edge": "edge-mode", "cloud": "cloud-mode"}
    ]
    with story.api() as api:
        events = api.request("GET", f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
    told = [each["message"] for each in events if each["reason"] == "EdgeWriteConflict"]
    assert any("edge-mode" in each and "cloud-mode" in each for each in told)
    for name in (NAME, f"{NAME}-host"):
        remove(story, name)


async def check_kubectl(story: Story) -> None:
    """See that root at the gateway can look around with kubectl, with the line cut."""
    if shutil.which("kubectl") is None:
        return
    variables = edge_variables(story.stack.folder, EDGE)
    kubectl = (
        "nsenter", "-t", variables["FEDGE_EDGE_HOST_PID"], "-n",
        "kubectl", "--kubeconfig", variables["FEDGE_EDGE_KUBECONFIG"],
    )  # fmt: skip
    for words, said in (
        (("get", "pods"), NAME),
        (("get", "nodes"), EDGE),
        (("describe", "pod", NAME), "Started container"),
        (("logs", NAME, "--tail", "1"), "ello"),
        (("get", "configmap", "edge-state", "-o", "jsonpath={.data.n}"), "2"),
    ):
        code, out, err = await run(*kubectl, *words)
        assert code == 0, err.decode()
        assert said in out.decode(), (words, out.decode())
