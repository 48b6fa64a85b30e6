"""A node with valid keys that speaks of what is not its own, under its own routing key."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fedge_fabric import Envelope, kinds
from fedge_fabric.writes import Author, ObjectChange, Request, Write, node_author
from fedge_objects import ObjectKey, Version
from tests.security.conftest import VICTIM, Node, System, until

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]

VERSION = Version(9_000_000_000_000_000, 9_000_000_000_000_000)
POD = """
apiVersion: v1
kind: Pod
metadata: {name: bound, namespace: default}
spec:
  nodeName: gw-1.plant.example
  tolerations: [{operator: Exists}]
  containers: [{name: main, image: "fedge.local/hello:1"}]
"""


@pytest.fixture
async def pod(system: System, tmp_path: Any) -> AsyncIterator[None]:
    """A pod that is bound to the attacked node."""
    file = tmp_path / "pod.yaml"
    file.write_text(POD)
    await system.fedge("apply", "-f", str(file))
    yield
    await system.fedge("delete", "-f", str(file), "--now")


def status_of(subject: str, source: str = "/node/mallory/edged") -> Envelope:
    return Envelope(
        type=kinds.STATUS_REPORTED,
        source=source,
        subject=subject,
        version=VERSION,
        data={"phase": "Failed", "conditions": [{"type": "Ready", "status": "False"}]},
    )


LIES: dict[str, tuple[str, Callable[[], Envelope]]] = {
    "the status of another node's pod": (
        "state.pods.default.bound", lambda: status_of("pods/default/bound")),
    "another node's own status": (
        f"state.nodes.-.{VICTIM.replace('.', '_')}", lambda: status_of(f"nodes//{VICTIM}")),
    "another node's lease": (
        "state.leases.kube-node-lease.x", lambda: status_of(f"leases/kube-node-lease/{VICTIM}")),
    "the status of a device that is not its own": (
        "state.devices.default.d", lambda: status_of("devices/default/d")),
    "in another node's name": (
        "state.pods.default.bound",
        lambda: status_of("pods/default/bound", source=f"/node/{VICTIM}/edged")),
    "in the cloud's name": (
        "state.pods.default.bound", lambda: status_of("pods/default/bound", source="/cloud/hub")),
    "that another node lives": (
        "state.alive",
        lambda: Envelope(type=kinds.NODE_ALIVE, source=f"/node/{VICTIM}/edged",
                         data={"interval_seconds": 1})),
    "what the cloud alone says": (
        "state.pods.default.x",
        lambda: Envelope(type=kinds.OBJECT_PUT, source="/node/mallory/x", subject="pods/default/x",
                         version=VERSION, data={})),
    "of a path": (
        "state.pods.x", lambda: status_of("pods/../../../../api/v1/namespaces/default/pods/bound")),
    "nothing readable": (
        "state.pods.x",
        lambda: Envelope(type="x" * 200, source="/node/mallory/x", subject="\x00", data=[[[]]])),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_what_is_not_its_own_is_put_aside(
    lie: tuple[str, Callable[[], Envelope]], pod: None, mallory: Node, system: System
) -> None:
    words, make = lie
    # a node is believed nothing at all before it was heard and told what it has
    await mallory.says("node.mallory.state.alive", alive())
    before = await system.dead_letters()

    await mallory.says(f"node.mallory.{words}", make())

    async def put_aside() -> bool:
        return await system.dead_letters() == before + 1

    await until(put_aside, "the message lies among the dead letters")
    shown = await system.fedge("get", "pod", "bound", "-o", "json")
    assert '"Failed"' not in shown


def alive() -> Envelope:
    return Envelope(
        type=kinds.NODE_ALIVE, source="/node/mallory/edged", data={"interval_seconds": 3600}
    )


async def test_a_token_for_a_pod_of_another_node_is_not_given(
    pod: None, mallory: Node, system: System
) -> None:
    await mallory.says("node.mallory.state.alive", alive())
    since = len(system.hub_log())
    asked = Envelope(
        type=kinds.TOKEN_ASKED,
        source="/node/mallory/edged",
        subject="pods/default/bound",
        data={"account": "default", "uid": "x", "audience": "", "seconds": 600},
    )
    await mallory.says("node.mallory.event.tokens.default.bound", asked)
    await until(
        lambda: system.logged("event_refused", since, node="mallory", object="pods/default/bound"),
        "hub refuses it and says so",
    )


AUTHORS: dict[str, Author] = {
    "the account of another node's pod": Author(
        account=("default", "default"), about=ObjectKey("pods", "default", "bound"), uid="x"
    ),
    "another node's root": node_author(VICTIM),
    "an account by way of its own node": Author(
        account=("kube-system", "admin"), about=ObjectKey("nodes", "", "mallory")
    ),
    "an account of another namespace than the pod's": Author(
        account=("kube-system", "admin"), about=ObjectKey("pods", "default", "bound"), uid="x"
    ),
    "the cloud's own account": Author(
        account=("fedge-system", "fedge-controller"), about=ObjectKey("nodes", "", "mallory")
    ),
}


@pytest.mark.parametrize("author", AUTHORS.values(), ids=AUTHORS.keys())
@pytest.mark.parametrize("is_change", [False, True], ids=["request", "change"])
async def test_nobody_writes_as_somebody_of_another_node(
    author: Author, is_change: bool, pod: None, mallory: Node, system: System
) -> None:
    name = f"stolen-{uuid.uuid4().hex[:8]}"
    metadata = {"name": name, "namespace": "default"}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    write = Write(author=author, request=Request(
        method="POST", path="/api/v1/namespaces/default/configmaps", query="",
        content_type="application/json", body=obj,
    ))  # fmt: skip
    if is_change:
        change = ObjectChange(
            verb="create", group="", version="v1", plural="configmaps",
            namespace="default", name=name, base=None, wanted=obj,
        )  # fmt: skip
        write = Write(author=author, change=change)
    await mallory.says("node.mallory.state.alive", alive())
    since = len(system.hub_log())
    asked = Envelope(
        type=kinds.WRITE_ASKED,
        source="/node/mallory/meta",
        subject=str(author.about),
        data=write.data(),
    )
    await mallory.says("node.mallory.request.write", asked)
    await until(
        lambda: system.logged("write_refused", since, node="mallory"), "hub refuses it and says so"
    )
    assert name not in await system.fedge("get", "configmaps", "-o", "name")


async def test_a_flood_of_lies_does_not_slow_the_others(mallory: Node, system: System) -> None:
    heard = await system.victim_speaks()
    await asyncio.gather(
        *(
            mallory.says("node.mallory.state.pods.x", status_of(f"pods/default/{n}"))
            for n in range(200)
        ),
        return_exceptions=True,
    )

    async def heard_again() -> bool:
        return await system.victim_speaks() > heard

    await until(heard_again, "the other node is heard")
