"""Nodes that a test plays, and what it makes for them."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.integration.apiserver.test_conformance_objects import STRATEGIC, made, pods

APPS = "/apis/apps/v1"
NODES = "/api/v1/nodes"
SECONDS = 20
LABELS = {"app": "x"}


class Played:
    """A namespace whose nodes do at once what they are told."""

    def __init__(self, api: httpx.Client, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.broken: set[str] = set()
        """Images that never become ready."""
        self.most = 0
        """The most pods that were there at once."""
        self.fewest_ready = 10**9

    def path(self, plural: str, name: str = "") -> str:
        return f"{APPS}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def make(self, plural: str, name: str, **spec: Any) -> None:
        template = {
            "metadata": {"labels": LABELS},
            "spec": {"containers": [{"name": "main", "image": spec.pop("image", "app:1")}]},
        }
        body = {
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": LABELS}, "template": template, **spec},
        }
        made(self.api.post(self.path(plural), json=body))

    def set_image(self, plural: str, name: str, image: str) -> None:
        containers = [{"name": "main", "image": image}]
        change = {"spec": {"template": {"spec": {"containers": containers}}}}
        made(self.api.patch(self.path(plural, name), json=change, headers=STRATEGIC))

    def get(self, plural: str, name: str) -> dict[str, Any]:
        return made(self.api.get(self.path(plural, name)))

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = made(self.api.get(pods(self.namespace)))["items"]
        return found

    def step(self) -> None:
        """Play the nodes once."""
        found = self.pods()
        self.most = max(self.most, sum("deletionTimestamp" not in p["metadata"] for p in found))
        for pod in found:
            name, meta = pod["metadata"]["name"], pod["metadata"]
            if meta.get("deletionTimestamp"):
                self.api.request(
                    "DELETE", pods(self.namespace, name), json={"gracePeriodSeconds": 0}
                )
            elif "nodeName" in pod["spec"] and pod["status"]["phase"] == "Pending":
                ready = pod["spec"]["containers"][0]["image"] not in self.broken
                say(self.api, self.namespace, name, ready=ready)
        ready_now = [p for p in self.pods() if is_ready(p)]
        self.fewest_ready = min(self.fewest_ready, len(ready_now))

    def until(self, holds: Callable[[], Any], what: str = "") -> None:
        """Play the nodes until something holds."""
        end = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < end, (what, self.pods())
            self.step()

    def images(self) -> list[str]:
        return sorted(
            p["spec"]["containers"][0]["image"]
            for p in self.pods()
            if "deletionTimestamp" not in p["metadata"]
        )

    def is_rolled_out(self, name: str) -> bool:
        """Judge as ``kubectl rollout status`` does."""
        held = self.get("deployments", name)
        status, wanted = held.get("status", {}), held["spec"]["replicas"]
        return bool(
            status.get("observedGeneration") == held["metadata"]["generation"]
            and status.get("updatedReplicas", 0) == wanted
            and status.get("replicas", 0) == wanted
            and status.get("availableReplicas", 0) == wanted
        )


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def say(api: httpx.Client, namespace: str, name: str, *, ready: bool) -> None:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"status": {"phase": "Running", "conditions": [condition]}}
    answer = api.patch(f"{pods(namespace, name)}/status", json=status, headers=STRATEGIC)
    assert answer.status_code in (200, 404), answer.text


def make_node(api: httpx.Client, name: str, **labels: str) -> None:
    meta = {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}
    made(api.post(NODES, json={"metadata": meta}))
    condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    status = {"status": {"conditions": [condition]}}
    made(api.patch(f"{NODES}/{name}/status", json=status, headers=STRATEGIC))
