"""What is secret at an edge: on its disk, in its broker, and in its devices' hands."""

import asyncio
import base64
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import pytest

from fedge_local.stack import Stack
from tests.security.conftest import VICTIM, System, until

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]

READS_IT = """
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: default}
stringData: {word: "%s"}
---
apiVersion: v1
kind: Pod
metadata: {name: reads-it, namespace: default}
spec:
  nodeName: gw-1.plant.example
  tolerations: [{operator: Exists}]
  containers:
    - name: main
      image: fedge.local/hello:demo
      volumeMounts: [{name: login, mountPath: /login}]
  volumes: [{name: login, secret: {secretName: login}}]
"""
DEVICE = """
apiVersion: v1
kind: Secret
metadata: {name: %(name)s-login, namespace: default}
type: devices.fedge.io/mqtt
stringData: {password: "%(word)s"}
---
apiVersion: devices.kubeedge.io/v1beta1
kind: DeviceModel
metadata: {name: pump, namespace: default}
spec:
  properties: [{name: speed, type: INT, accessMode: ReadWrite}]
---
apiVersion: devices.kubeedge.io/v1beta1
kind: Device
metadata:
  name: %(name)s
  namespace: default
  annotations: {devices.fedge.io/mqtt-secret: %(name)s-login}
spec:
  nodeName: gw-1.plant.example
  deviceModelRef: {name: pump}
"""


def files_with(folder: Path, *words: str) -> list[str]:
    """Return the files below a folder that have one of these words in them."""
    found = []
    for path in folder.rglob("*"):
        try:
            is_file = stat.S_ISREG(path.lstat().st_mode)
            content = path.read_bytes() if is_file else b""
        except FileNotFoundError:
            continue  # it went meanwhile
        if any(word.encode() in content for word in words):
            found.append(str(path.relative_to(folder)))
    return found


def edge_folder(stack: Stack) -> Path:
    """Return where everything of the edge lies: its services', its broker's, its runtime's."""
    return stack.kubeconfig.parent / "edges" / VICTIM


def disk_of(stack: Stack) -> Path:
    """Return the folder of the edge's databases."""
    return edge_folder(stack) / "data"


async def test_a_secret_lies_nowhere_readable_but_in_the_pod(
    system: System, tmp_path: Path
) -> None:
    word = secrets.token_hex(16)
    file = tmp_path / "secret.yaml"
    file.write_text(READS_IT % word)
    await system.fedge("apply", "-f", str(file))
    try:

        async def is_read() -> bool:
            told = await system.fedge("get", "pod", "reads-it", "-o", "json")
            return '"phase": "Running"' in told

        await until(is_read, "the pod runs")
        read = await system.fedge("exec", "reads-it", "--", "cat", "/login/word")
        assert read.strip() == word
        words = (word, base64.b64encode(word.encode()).decode())
        edge = edge_folder(system.stack)
        assert len(list(edge.iterdir())) > 3
        assert await asyncio.to_thread(files_with, edge, *words) == []
        # where it may be read it is found by the same look
        assert await asyncio.to_thread(files_with, system.stack.kubeconfig.parent, *words)
    finally:
        await system.fedge("delete", "-f", str(file), "--now")


async def test_others_can_read_neither_keys_nor_databases(system: System) -> None:
    disk = disk_of(system.stack)
    private = [*(disk / "identity").iterdir(), *disk.glob("*.db*"), *disk.glob("*.key")]
    assert len(private) > 6
    assert [str(each) for each in private if stat.S_IMODE(each.stat().st_mode) & 0o077] == []


@asynccontextmanager
async def client(system: System, user: str, password: str) -> AsyncIterator[aiomqtt.Client]:
    host, port = system.stack.edge(VICTIM).parts.mqtt_address
    async with aiomqtt.Client(
        host, port, username=user, password=password, identifier=f"{user}/{secrets.token_hex(4)}"
    ) as found:
        yield found


async def can_log_in(system: System, user: str, password: str) -> bool:
    try:
        async with client(system, user, password):
            return True
    except aiomqtt.MqttError:
        return False


async def may_publish(system: System, user: str, password: str, topic: str) -> bool:
    """Whether the broker takes a message; it answers one that it refuses by hanging up."""
    try:
        async with client(system, user, password) as device:
            publishing = asyncio.ensure_future(device.publish(topic, b"{}", qos=1))
            hung_up = device._disconnected
            await asyncio.wait({publishing, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            is_taken = publishing.done() and publishing.exception() is None
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            return is_taken
    except aiomqtt.MqttError:
        return False


async def test_a_device_has_its_own_account_and_no_more_than_its_own_topics(
    system: System, tmp_path: Path
) -> None:
    word, file = secrets.token_hex(8), tmp_path / "device.yaml"
    file.write_text(DEVICE % {"name": "pump-1", "word": word})
    crds = Path(__file__).parents[2] / "deploy/k8s/base/crds"
    await system.fedge("apply", "-f", str(crds))
    await system.fedge("apply", "-f", str(file))
    user = "default/pump-1"

    await until(lambda: can_log_in(system, user, word), "the device can log in")
    assert not await can_log_in(system, user, "guessed")
    assert not await can_log_in(system, "default/pump-2", word)
    own, others = (f"$hw/events/device/default/pump-{n}/twin/update" for n in (1, 2))
    assert await may_publish(system, user, word, own)
    assert not await may_publish(system, user, word, others)
    for topic in ("fedge/local", "$hw/events/node/gw-1.plant.example/membership/updated", "a"):
        assert not await may_publish(system, user, word, topic), topic

    async def is_shut_out() -> bool:
        return not await can_log_in(system, user, word)

    await system.fedge("delete", "secret", "pump-1-login")
    await until(is_shut_out, "the device is shut out")
    await system.fedge("delete", "device", "pump-1")
