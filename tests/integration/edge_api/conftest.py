"""The whole system in one process, once for a module: the cloud is away when hub is stopped."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import yaml

from fedge_device.kinds.resources import DEVICES
from fedge_kube import PODS, ROLE_BINDINGS, ROLES, SERVICE_ACCOUNTS, KubeClient
from tests.fixtures.servers import SharedBroker
from tests.integration.bad_input.system import DEADLINE_SECONDS, NODE, ROOT, System, system
from tests.unit.edged.kit import IMAGE


@dataclass
class Edge:
    """The system, and its edge's API as its users see it."""

    system: System
    root: httpx.AsyncClient
    """Whoever is root at the gateway."""

    @property
    def kube(self) -> KubeClient:
        return self.system.kube

    def client(self, token: str) -> httpx.AsyncClient:
        """Return a client that shows a token."""
        config = yaml.safe_load((self.system.edge_api / "kubeconfig").read_text())
        cluster = config["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return httpx.AsyncClient(
            base_url=cluster["server"],
            verify=ssl.create_default_context(cadata=authority),
            headers={"authorization": f"Bearer {token}"},
            timeout=20,
            trust_env=False,
        )

    async def becomes(self, condition: Callable[[], Awaitable[object]]) -> None:
        await self.system.becomes(condition)

    async def kubectl(self, *words: str, text: str = "", code: int = 0) -> str:
        """Run kubectl at the edge as root there; return what it printed."""
        process = await asyncio.create_subprocess_exec(
            "kubectl", f"--kubeconfig={self.system.edge_api / 'kubeconfig'}", *words,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(DEADLINE_SECONDS):
            said, _ = await process.communicate(text.encode())
        assert process.returncode == code, said.decode()
        return said.decode()

    async def get(self, path: str, **query: str) -> Any:
        """Return what root is answered."""
        answer = await self.root.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def shows(self, path: str) -> bool:
        return (await self.root.get(path)).status_code == 200

    async def answers(self) -> bool:
        """Whether the API takes connections."""
        try:
            return (await self.root.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def is_running(self, name: str) -> bool:
        """Whether the edge says that a pod runs."""
        answer = await self.root.get(f"/api/v1/namespaces/default/pods/{name}")
        return (
            answer.status_code == 200 and answer.json().get("status", {}).get("phase") == "Running"
        )

    async def program(self, name: str, *rules: dict[str, Any]) -> str:
        """Have a pod run under an account of its own with a role; return its token.

        It is the one that the pod's containers see.
        """
        metadata = {"name": name, "namespace": "default"}
        group = "rbac.authorization.k8s.io"
        await self.kube.create(
            SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        )
        role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata}
        await self.kube.create(ROLES, {**role, "rules": list(rules)})
        binding: dict[str, Any] = {
            "apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
        }  # fmt: skip
        await self.kube.create(ROLE_BINDINGS, binding)
        await self.kube.create(PODS, pod(name, serviceAccountName=name))
        await self.becomes(lambda: self.is_running(name))
        return ((await self.access_of(name)) / "token").read_text()

    async def device(self, name: str) -> None:
        """Attach a thermometer to the node."""
        folder = ROOT / "examples" / "thermometer"
        obj = yaml.safe_load((folder / "device.yaml").read_text())
        obj["metadata"]["name"] = name
        obj["spec"]["nodeName"] = NODE
        await self.kube.create(DEVICES, obj)

    async def access_of(self, name: str) -> Path:
        """Return the folder that a pod sees as /var/run/secrets/kubernetes.io/serviceaccount."""
        made = await self.kube.get(PODS, "default", name)
        run: Path = self.system.edge_api.parents[1] / "run" / str(made["metadata"]["uid"])
        [found] = (run / "volumes/files").glob("kube-api-access-*")
        return found


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": NODE,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": IMAGE}],
            "tolerations": [{"operator": "Exists"}],
            **spec,
        },
    }


def config_map(name: str, **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def edge(
    shared_broker: SharedBroker, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Edge]:
    """The system, running."""
    folder: Path = tmp_path_factory.mktemp("edge-api")
    with pytest.MonkeyPatch.context() as patched:
        async with system(shared_broker, redis_url, folder, patched) as running:
            kubeconfig = running.edge_api / "kubeconfig"
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not (running.edge_api / "endpoint.json").exists():  # noqa: ASYNC110 - a file
                    await asyncio.sleep(0.05)
            token = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"]
            made = Edge(running, None)  # type: ignore[arg-type]  # set below
            async with made.client(token) as root:
                made.root = root
                yield made


def told(answer: httpx.Response) -> Any:
    """Return an answer's content, for messages."""
    return json.loads(answer.content)
