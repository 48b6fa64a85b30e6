"""ReplicaSets, Deployments and DaemonSets on a running server; the test plays the nodes."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.apiserver.servers import ApiServer, connect
from tests.integration.apiserver.test_conformance_objects import (
    MERGE,
    STRATEGIC,
    made,
    pods,
    refused,
)

APPS = "/apis/apps/v1"
NODES = "/api/v1/nodes"
SECONDS = 20
LABELS = {"app": "x"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of this module's own: its nodes are played."""
    held = ApiServer(tmp_path_factory.mktemp("workloads"))
    held.start()
    yield held
    held.stop()


@pytest.fixture(scope="module")
def api(server: ApiServer) -> Iterator[httpx.Client]:
    """A client."""
    with connect(server.kubeconfig) as client:
        yield client


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


@pytest.fixture
def played(api: httpx.Client) -> Iterator[Played]:
    """A namespace and three nodes."""
    name = f"work-{uuid4().hex[:8]}"
    made(api.post("/api/v1/namespaces", json={"metadata": {"name": name}}))
    nodes = [f"{name}-{index}" for index in range(3)]
    for node in nodes:
        make_node(api, node, played=name)
    held = Played(api, name)
    yield held
    api.delete(f"/api/v1/namespaces/{name}")
    held.until(lambda: api.get(f"/api/v1/namespaces/{name}").status_code == 404)
    for node in nodes:
        api.delete(f"{NODES}/{node}")


class TestReplicaSets:
    """As many pods as are said."""

    def test_pods_come_up_to_the_number_and_come_back(self, played: Played) -> None:
        played.make("replicasets", "r", replicas=3)
        played.until(
            lambda: played.get("replicasets", "r").get("status", {}).get("readyReplicas") == 3
        )
        victim = played.pods()[0]["metadata"]["name"]
        made(played.api.delete(pods(played.namespace, victim)))
        played.until(
            lambda: (
                victim not in [p["metadata"]["name"] for p in played.pods()]
                and len(played.pods()) == 3
            )
        )

    def test_scale_is_shown_and_changed(self, played: Played) -> None:
        played.make("replicasets", "r", replicas=1)
        path = f"{played.path('replicasets', 'r')}/scale"
        scale = made(played.api.get(path))
        assert (scale["kind"], scale["spec"], scale["apiVersion"]) == (
            "Scale",
            {"replicas": 1},
            "autoscaling/v1",
        )
        made(played.api.patch(path, json={"spec": {"replicas": 4}}, headers=MERGE))
        played.until(lambda: len(played.pods()) == 4)
        scale = made(played.api.get(path))
        # without a version it is for whatever is there: the controller writes meanwhile
        named = {"metadata": {"name": "r"}, "spec": {"replicas": 0}}
        made(played.api.put(path, json=named))
        played.until(lambda: not played.pods())
        refused(played.api.put(path, json=scale), 409, "Conflict")
        bad = {"spec": {"replicas": -1}}
        refused(played.api.patch(path, json=bad, headers=MERGE), 422, "Invalid")

    def test_pods_go_with_their_set(self, played: Played) -> None:
        played.make("replicasets", "r", replicas=2)
        played.until(lambda: len(played.pods()) == 2)
        made(played.api.delete(played.path("replicasets", "r")))
        played.until(lambda: not played.pods())

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ({"selector": {"matchLabels": {"app": "other"}}}, "`selector` does not match"),
            ({"selector": {}}, "empty selector is invalid"),
            ({"replicas": -1}, "spec.replicas"),
        ],
    )
    def test_set_that_contradicts_itself_is_invalid(
        self, played: Played, spec: dict[str, Any], text: str
    ) -> None:
        template = {
            "metadata": {"labels": LABELS},
            "spec": {"containers": [{"name": "main", "image": "a"}]},
        }
        body = {
            "metadata": {"name": "bad"},
            "spec": {"selector": {"matchLabels": LABELS}, "template": template, **spec},
        }
        status = refused(played.api.post(played.path("replicasets"), json=body), 422, "Invalid")
        assert text in status["message"]


class TestDeployments:
    """From one template to the next."""

    def test_rollout_keeps_within_its_bounds(self, played: Played) -> None:
        rolling = {"maxSurge": 1, "maxUnavailable": 1}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
        played.make("deployments", "d", replicas=4, strategy=strategy)
        played.until(lambda: played.is_rolled_out("d"))
        assert played.images() == ["app:1"] * 4
        played.most, played.fewest_ready = 0, 10**9
        played.set_image("deployments", "d", "app:2")
        played.until(lambda: played.is_rolled_out("d"))
        assert played.images() == ["app:2"] * 4
        assert played.most <= 5
        assert played.fewest_ready >= 3
        held = played.get("deployments", "d")
        conditions = {c["type"]: c["reason"] for c in held["status"]["conditions"]}
        assert conditions == {
            "Available": "MinimumReplicasAvailable",
            "Progressing": "NewReplicaSetAvailable",
        }
        assert held["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"

    def test_template_that_does_not_work_leaves_the_old_one(self, played: Played) -> None:
        rolling = {"maxSurge": 1, "maxUnavailable": 0}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
        played.make("deployments", "d", replicas=2, strategy=strategy, progressDeadlineSeconds=2)
        played.until(lambda: played.is_rolled_out("d"))
        played.broken.add("app:bad")
        played.set_image("deployments", "d", "app:bad")

        def gave_up() -> bool:
            conditions = played.get("deployments", "d")["status"]["conditions"]
            return any(c["reason"] == "ProgressDeadlineExceeded" for c in conditions)

        played.until(gave_up)
        assert played.images() == ["app:1", "app:1", "app:bad"]
        assert sum(map(is_ready, played.pods())) == 2

    def test_recreate_never_runs_both(self, played: Played) -> None:
        played.make("deployments", "d", replicas=2, strategy={"type": "Recreate"})
        played.until(lambda: played.is_rolled_out("d"))
        played.set_image("deployments", "d", "app:2")

        def done() -> bool:
            assert len(set(played.images())) <= 1
            return played.is_rolled_out("d")

        played.until(done)
        assert played.images() == ["app:2", "app:2"]

    def test_sets_of_long_ago_are_forgotten(self, played: Played) -> None:
        played.make("deployments", "d", replicas=1, revisionHistoryLimit=1)
        for number in range(1, 5):
            played.set_image("deployments", "d", f"app:{number}")
            played.until(lambda: played.is_rolled_out("d"))
        played.until(lambda: len(made(played.api.get(played.path("replicasets")))["items"]) == 2)

    def test_kubectl_sees_it_through(
        self, played: Played, server: ApiServer, tmp_path: Path
    ) -> None:
        def kubectl(*arguments: str) -> str:
            done = subprocess.run(
                [
                    "kubectl",
                    f"--kubeconfig={server.kubeconfig}",
                    f"--namespace={played.namespace}",
                    *arguments,
                ],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
                env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/local/bin"},
            )
            assert done.returncode == 0, (arguments, done.stdout, done.stderr)
            return done.stdout

        kubectl("create", "deployment", "web", "--image=app:1", "--replicas=2")
        played.until(lambda: played.is_rolled_out("web"))
        assert "successfully rolled out" in kubectl("rollout", "status", "deployment/web")
        assert "2/2" in kubectl("get", "deployments")
        kubectl("set", "image", "deployment/web", "app=app:2")
        played.until(lambda: played.is_rolled_out("web"))
        assert "1" in kubectl("rollout", "history", "deployment/web")
        kubectl("rollout", "undo", "deployment/web")
        played.until(lambda: played.is_rolled_out("web") and played.images() == ["app:1"] * 2)
        kubectl("scale", "deployment/web", "--replicas=3")
        played.until(lambda: len(played.images()) == 3)
        kubectl("rollout", "restart", "deployment/web")
        played.until(lambda: played.is_rolled_out("web"))
        assert "NewReplicaSet" in kubectl("describe", "deployment", "web")
        assert "Replicas" in kubectl("explain", "deployment.status").title()


class TestDaemonSets:
    """One pod on each node."""

    def nodes(self, played: Played) -> list[str]:
        return sorted(
            p["spec"]["nodeName"] for p in played.pods() if "deletionTimestamp" not in p["metadata"]
        )

    def make(self, played: Played, **spec: Any) -> None:
        containers = [{"name": "main", "image": "app:1"}]
        template = {
            "metadata": {"labels": LABELS},
            "spec": {"containers": containers, "nodeSelector": {"played": played.namespace}},
        }
        played.make("daemonsets", "d", template=template, **spec)

    def status(self, played: Played) -> dict[str, Any]:
        found: dict[str, Any] = played.get("daemonsets", "d").get("status", {})
        return found

    def test_each_node_has_one_and_new_ones_get_one(self, played: Played) -> None:
        self.make(played)
        played.until(lambda: self.status(played).get("numberReady") == 3)
        assert len(set(self.nodes(played))) == 3
        extra = f"{played.namespace}-extra"
        make_node(played.api, extra, played=played.namespace)
        played.until(lambda: self.status(played).get("numberReady") == 4)
        unlabelled = {"metadata": {"labels": {"played": None}}}
        made(played.api.patch(f"{NODES}/{extra}", json=unlabelled, headers=MERGE))
        played.until(lambda: extra not in self.nodes(played))
        played.api.delete(f"{NODES}/{extra}")

    def test_rollout_does_not_wait_for_nodes_that_are_away(self, played: Played) -> None:
        self.make(played)
        played.until(lambda: self.status(played).get("numberReady") == 3)
        away = self.nodes(played)[0]
        lost = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
        made(played.api.patch(f"{NODES}/{away}/status", json=lost, headers=STRATEGIC))
        [there] = [p for p in played.pods() if p["spec"]["nodeName"] == away]
        say(played.api, played.namespace, there["metadata"]["name"], ready=False)
        played.set_image("daemonsets", "d", "app:2")
        played.until(lambda: played.images() == ["app:1", "app:2", "app:2"])
        [still] = [p for p in played.pods() if p["spec"]["nodeName"] == away]
        assert still["metadata"]["uid"] == there["metadata"]["uid"]
        back = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        made(played.api.patch(f"{NODES}/{away}/status", json=back, headers=STRATEGIC))
        played.until(lambda: played.images() == ["app:2"] * 3)

    def test_pod_that_ended_is_replaced(self, played: Played) -> None:
        self.make(played)
        played.until(lambda: self.status(played).get("numberReady") == 3)
        victim = played.pods()[0]["metadata"]["name"]
        made(
            played.api.patch(
                f"{pods(played.namespace, victim)}/status",
                json={"status": {"phase": "Failed"}},
                headers=MERGE,
            )
        )
        played.until(
            lambda: (
                victim not in [p["metadata"]["name"] for p in played.pods()]
                and self.status(played).get("numberReady") == 3
            )
        )
