"""``edge-image/static-pod.yaml``, run over CRI as an agent that reads manifests runs it.

The agent's part is done by edged's own translation of pods, on a containerd of its own: what it
would find in the edge's containerd it would take for its own.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedge_cli.demo import SETTINGS, Story
from fedge_cri import ContainerState, ExecResult, SandboxSpec
from fedge_cri.client import CriRuntime
from fedge_edged.cgroups import Cgroups
from fedge_edged.environment import Environment
from fedge_edged.node_pods import NodeObjects
from fedge_edged.pods import Pod, read_pod
from fedge_edged.specs import Places, Specs
from fedge_edged.volumes import Volumes
from fedge_local import images
from fedge_local.commands import program, run
from fedge_local.containerd import Containerd
from fedge_local.hosts import EdgeHost
from fedge_sealing import write_private
from images.cached import Built
from tests.e2e.pods import apply_text, is_running, pod_becomes, pod_manifest
from tests.image.conftest import REPOSITORY

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

NODE = "edge-static"
_INDEX = 7
"""On the stack's network, beside its own edges."""
_AGENT_RUN = Path("/run/agent")
_DATA = "/var/lib/fedge"
"""Where the manifest has the edge's folder."""
_IMPORT_SECONDS = 120.0
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """What runs the static pod, and the host that it runs on."""

    host: EdgeHost
    pod: Pod
    data: Path
    specs: Specs
    volumes: Volumes
    runtime: CriRuntime
    edges: CriRuntime
    """What the edge starts pods on."""

    async def start(self) -> str:
        """Start the pod; return its container's id."""
        [container] = self.pod.spec.containers
        image = await self.runtime.find_image(container.image)
        assert image is not None, f"the agent's containerd does not have {container.image}"
        sandbox: SandboxSpec = self.specs.sandbox(self.pod, 0, taken_up_at=time.time())
        sandbox_id = await self.runtime.run_sandbox(sandbox)
        made = self.specs.container(
            self.pod,
            container,
            0,
            image=image.id,
            volumes=self.volumes.prepare(self.pod, {}),
            facts={"status.podIPs": self.host.address},
        )
        container_id = await self.runtime.create_container(sandbox_id, made, sandbox)
        await self.runtime.start_container(container_id)
        return container_id

    async def probe(self, container_id: str) -> ExecResult:
        """Ask by the manifest's liveness probe, until it is well or had its initial delay."""
        [container] = self.pod.spec.containers
        probe = container.liveness_probe
        assert probe is not None
        assert probe.exec is not None
        deadline = time.monotonic() + probe.initial_delay_seconds
        while True:
            result = await self.runtime.exec_sync(
                container_id, probe.exec.command, timeout_seconds=probe.timeout_seconds
            )
            if result.exit_code == 0 or time.monotonic() > deadline:
                return result
            await asyncio.sleep(_LOOK_SECONDS)

    def log(self) -> str:
        """Return what the container wrote."""
        return self.specs.log_path(self.pod, "edge", 0).read_text()

    async def running(self, name: str) -> list[str]:
        """Return the ids of the running containers of a pod of the edge."""
        return [
            each.id
            for each in await self.edges.list_containers()
            if each.labels["io.kubernetes.pod.name"] == name
            and each.state is ContainerState.RUNNING
        ]


def static_pod(data: Path) -> Pod:
    """Return the pod of the manifest, its folder moved to ``data``."""
    text = (REPOSITORY / "edge-image/static-pod.yaml").read_text()
    assert text.count(f"path: {_DATA}") == 1
    manifest: dict[str, Any] = yaml.safe_load(text.replace(_DATA, str(data)))
    manifest["metadata"]["uid"] = "5f1a7e0d-static"
    [container] = manifest["spec"]["containers"]
    own = {
        **SETTINGS,
        "FEDGE_EDGE_DATA_DIR": str(data),
        # a developer's disk may be nearly full, and that is not the edge's concern
        "FEDGE_EDGED_EVICTION_HARD": '{"memory.available": "100Mi"}',
    }
    container["env"] += [{"name": name, "value": value} for name, value in own.items()]
    return read_pod(manifest)


@asynccontextmanager
async def agent_on(story: Story, built: Built, folder: Path) -> AsyncIterator[Agent]:
    """Boot a host with two containerds: the edge's, and that of an agent."""
    host = EdgeHost(
        name=NODE,
        folder=folder,
        subnet=story.stack.subnet,
        index=_INDEX,
        cgroup_parent=f"/fedge-{story.stack.subnet.tag}/{NODE}",
    )
    await host.boot()
    try:
        ours = Containerd(
            host=host, folder=folder / "agent", recipes=[images.PAUSE], run=_AGENT_RUN
        )
        edges = Containerd(host=host, folder=folder / "containerd")
        for each in (ours, edges):
            await each.start()
        for each in (ours, edges):
            await each.ready()
        await host.run(
            program("ctr"), f"--address={_AGENT_RUN}/containerd.sock", "--namespace=k8s.io",
            "images", "import", str(built.archive), timeout_seconds=_IMPORT_SECONDS,
        )  # fmt: skip
        data = folder / "data"
        data.mkdir()
        # on a host with systemd all mounts are shared
        await host.run("mount", "--bind", str(data), str(data))
        await host.run("mount", "--make-rshared", str(data))
        objects = NodeObjects()
        async with (
            CriRuntime.connected(ours.socket) as runtime,
            CriRuntime.connected(edges.socket) as edges_runtime,
        ):
            yield Agent(
                host=host,
                pod=static_pod(data),
                data=data,
                specs=Specs(
                    environment=Environment(objects),
                    places=Places(
                        logs=folder / "logs", pods=folder / "pods", memory=folder / "memory"
                    ),
                    cgroups=Cgroups(host.cgroup_parent),
                    memory_bytes=1024**3,
                ),
                volumes=Volumes(objects, disk=folder / "pods", memory=folder / "memory"),
                runtime=runtime,
                edges=edges_runtime,
            )
    finally:
        await host.power_cut()


async def token_for(story: Story) -> bytes:
    made = await run(
        [
            sys.executable, "-m", "fedge_cli", "token", "create", f"--node={NODE}",
            f"--kubeconfig={story.stack.kubeconfig}",
        ],
        timeout_seconds=60,
    )  # fmt: skip
    return made.encode()


async def node_is_ready(story: Story) -> None:
    def is_so(node: dict[str, Any]) -> bool:
        conditions = (node.get("status") or {}).get("conditions") or ()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    await story._seen("/api/v1/nodes", NODE, is_so, what=f"node {NODE} Ready", seconds=90)


async def test_static_pod_joins_runs_a_pod_is_well_and_ends_in_good_order(
    story: Story, built: Built, tmp_path: Path
) -> None:
    name = "on-the-static-edge"
    async with agent_on(story, built, tmp_path) as agent:
        assert agent.pod.spec.containers[0].image == built.reference
        write_private(agent.data / "join-token", await token_for(story))
        container_id = await agent.start()

        try:
            await node_is_ready(story)
        except Exception as exc:
            raise AssertionError(f"{exc}\n{agent.log()[-5000:]}") from exc
        with story.api() as api:
            apply_text(api, pod_manifest(name, nodeName=NODE))
        await pod_becomes(story, name, is_running, "Running")
        before = await agent.running(name)
        assert len(before) == 1

        # what the container mounts for Secrets of pods, the host's containerd sees
        kind = await agent.host.run("stat", "--file-system", "--format=%T", f"{agent.data}/run")
        assert kind.strip() == "tmpfs"

        said = await agent.probe(container_id)
        assert said.exit_code == 0, said

        began = time.monotonic()
        await agent.runtime.stop_container(container_id, grace_seconds=agent.pod.grace_seconds)
        assert time.monotonic() - began < agent.pod.grace_seconds
        status = await agent.runtime.container_status(container_id)
        assert status.state is ContainerState.EXITED
        assert status.exit_code == 0, status
        log = agent.log()
        assert "fedge: stopping" in log
        assert '"event": "stopped"' in log
        assert "s6-svc: fatal" not in log
        assert await agent.running(name) == before
