"""Workloads on a running server; the test plays the nodes."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.apiserver.played import LABELS, NODES, Played, is_ready, make_node, say
from tests.integration.apiserver.servers import ApiServer, connect
from tests.integration.apiserver.test_conformance_objects import (
    MERGE,
    STRATEGIC,
    made,
    pods,
    refused,
)


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


@pytest.fixture
def kubectl(played: Played, server: ApiServer, tmp_path: Path) -> Callable[..., str]:
    """Runs kubectl in the namespace."""

    def run(*arguments: str) -> str:
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

    return run


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

    def test_kubectl_sees_it_through(self, played: Played, kubectl: Callable[..., str]) -> None:
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


class TestStatefulSets:
    """Pods with a number of their own, one after another."""

    def names(self, played: Played) -> list[str]:
        return sorted(p["metadata"]["name"] for p in played.pods())

    def is_settled(self, played: Played, wanted: int, image: str) -> bool:
        held = played.get("statefulsets", "s")
        status = held.get("status", {})
        return (
            status.get("observedGeneration") == held["metadata"]["generation"]
            and status.get("readyReplicas", 0) == status.get("updatedReplicas", 0) == wanted
            and status["currentRevision"] == status["updateRevision"]
            and played.images() == [image] * wanted
        )

    def test_pods_come_one_after_another_and_go_in_reverse(self, played: Played) -> None:
        played.make("statefulsets", "s", replicas=3, serviceName="s")

        def is_up() -> bool:
            found = sorted(played.pods(), key=lambda p: str(p["metadata"]["name"]))
            assert [p["metadata"]["name"] for p in found] == [f"s-{n}" for n in range(len(found))]
            assert all(is_ready(p) for p in found[:-1]), "each waits for those before it"
            return self.is_settled(played, 3, "app:1")

        played.until(is_up)
        (pod,) = (p for p in played.pods() if p["metadata"]["name"] == "s-1")
        assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "1"
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("s-1", "s")
        scale = {"spec": {"replicas": 1}}
        path = played.path("statefulsets", "s")
        made(played.api.patch(f"{path}/scale", json=scale, headers=MERGE))

        def is_down() -> bool:
            names = self.names(played)
            assert names == [f"s-{number}" for number in range(len(names))]
            return self.is_settled(played, 1, "app:1")

        played.until(is_down)

    def test_pod_that_is_lost_comes_back_under_its_name(self, played: Played) -> None:
        played.make("statefulsets", "s", replicas=2)
        played.until(lambda: self.is_settled(played, 2, "app:1"))
        before = {p["metadata"]["name"]: p["metadata"]["uid"] for p in played.pods()}
        played.api.delete(pods(played.namespace, "s-0"))
        played.until(
            lambda: (
                self.is_settled(played, 2, "app:1")
                and {p["metadata"]["uid"] for p in played.pods()} != set(before.values())
            )
        )
        after = {p["metadata"]["name"]: p["metadata"]["uid"] for p in played.pods()}
        assert after["s-1"] == before["s-1"]
        assert after["s-0"] != before["s-0"]

    def test_rollout_begins_at_the_end_and_stops_at_the_partition(self, played: Played) -> None:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        played.make("statefulsets", "s", replicas=3, updateStrategy=strategy)
        played.until(lambda: self.is_settled(played, 3, "app:1"))
        played.set_image("statefulsets", "s", "app:2")
        played.until(lambda: played.images() == ["app:1", "app:2", "app:2"])
        images = {p["metadata"]["name"]: p["spec"]["containers"][0]["image"] for p in played.pods()}
        assert images["s-0"] == "app:1"
        uid = made(played.api.get(pods(played.namespace, "s-0")))["metadata"]["uid"]
        played.api.delete(pods(played.namespace, "s-0"))

        def is_back() -> bool:
            answer = played.api.get(pods(played.namespace, "s-0"))
            return answer.status_code == 200 and answer.json()["metadata"]["uid"] != uid

        played.until(is_back)
        assert played.images() == ["app:1", "app:2", "app:2"], "it keeps its old template"
        change = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
        made(played.api.patch(played.path("statefulsets", "s"), json=change, headers=MERGE))
        played.until(lambda: self.is_settled(played, 3, "app:2"))

    def test_template_that_does_not_work_stops_at_the_first(self, played: Played) -> None:
        played.broken.add("app:bad")
        played.make("statefulsets", "s", replicas=2)
        played.until(lambda: self.is_settled(played, 2, "app:1"))
        played.set_image("statefulsets", "s", "app:bad")
        played.until(lambda: played.images() == ["app:1", "app:bad"])
        for _ in range(3):
            played.step()
        assert played.images() == ["app:1", "app:bad"]

    def test_all_at_once_if_wanted(self, played: Played) -> None:
        played.make("statefulsets", "s", replicas=3, podManagementPolicy="Parallel")
        played.until(lambda: len(self.names(played)) == 3)
        change = {"spec": {"podManagementPolicy": "OrderedReady"}}
        answer = played.api.patch(played.path("statefulsets", "s"), json=change, headers=MERGE)
        assert "are forbidden" in refused(answer, 422, "Invalid")["message"]

    def test_claims_are_refused_and_not_ignored(self, played: Played) -> None:
        template = {"metadata": {"labels": LABELS}, "spec": {"containers": []}}
        claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
        spec = {
            "selector": {"matchLabels": LABELS},
            "template": template,
            "volumeClaimTemplates": [claim],
        }
        body = {"metadata": {"name": "s"}, "spec": spec}
        status = refused(played.api.post(played.path("statefulsets"), json=body), 422, "Invalid")
        assert "no volume claims" in status["message"]


@pytest.mark.parametrize("plural", ["statefulsets", "daemonsets"])
def test_kubectl_takes_a_set_back(played: Played, kubectl: Callable[..., str], plural: str) -> None:
    played.make(plural, "s")
    played.until(lambda: set(played.images()) == {"app:1"})
    played.set_image(plural, "s", "app:2")
    played.until(lambda: set(played.images()) == {"app:2"})
    history = kubectl("rollout", "history", f"{plural}/s")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdecimal()] == ["1", "2"]
    kubectl("rollout", "undo", f"{plural}/s")
    played.until(lambda: set(played.images()) == {"app:1"})
