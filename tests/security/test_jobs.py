"""A node with valid keys that tells how another node's task ended."""

import json
from pathlib import Path

import pytest

from fedge_fabric import Envelope, kinds
from fedge_operations import NODE_TASKS, task_name
from tests.security.conftest import VICTIM, Node, System, until
from tests.security.test_messages import alive

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]

CRDS = Path(__file__).parents[2] / "deploy/k8s/base/crds"
JOB = """
apiVersion: operations.kubeedge.io/v1alpha2
kind: ImagePrePullJob
metadata: {name: attacked}
spec:
  imagePrePullTemplate:
    nodeNames: [gw-1.plant.example]
    images: ["127.0.0.1:1/nothing:1"]
    retryTimes: 100
"""


async def test_another_nodes_task_is_not_its_to_speak_of(
    mallory: Node, system: System, tmp_path: Path
) -> None:
    await system.fedge("apply", "-f", str(CRDS))
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    await system.fedge("apply", "-f", str(file))
    name = task_name("ImagePrePullJob", "attacked", VICTIM)
    try:

        async def is_begun() -> bool:
            told = await system.fedge("get", "nodetasks", "-o", "json")
            return '"InProgress"' in told and name in told

        await until(is_begun, "the victim has begun its task")
        task = json.loads(await system.fedge("get", "nodetasks", name, "-o", "json"))
        await mallory.says("node.mallory.state.alive", alive())
        before = await system.dead_letters()
        for node in ("mallory", VICTIM):
            lie = Envelope(
                type=kinds.STATUS_REPORTED,
                source=f"/node/{node}/edged",
                subject=f"{NODE_TASKS}//{name}",
                data={
                    "uid": task["metadata"]["uid"],
                    "status": {"phase": "Successful", "sequence": 1_000_000},
                    "observed": [9_000_000_000_000_000, 1],
                    "finished": False,
                },
            )
            await mallory.says(f"node.mallory.state.nodetasks.-.{len(node)}", lie)

        async def put_aside() -> bool:
            return await system.dead_letters() == before + 2

        await until(put_aside, "both lies are put aside")
        task = json.loads(await system.fedge("get", "nodetasks", name, "-o", "json"))
        assert task["status"]["phase"] == "InProgress"
        assert task["status"]["sequence"] < 1_000_000
    finally:
        await system.fedge("delete", "-f", str(file))
