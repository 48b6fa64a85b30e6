"""Jobs on a running server; the test plays the nodes."""

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.apiserver.played import make_node
from tests.integration.apiserver.servers import ApiServer, connect
from tests.integration.apiserver.test_conformance_objects import MERGE, STRATEGIC, made, pods

SECONDS = 30
TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"


class Played:
    """A namespace with one node; each pod ends as its image says, when the test lets it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.api = connect(server.kubeconfig)
        self.namespace = f"jobs-{uuid4().hex[:8]}"
        made(self.api.post("/api/v1/namespaces", json={"metadata": {"name": self.namespace}}))
        self.lets_go = True
        """Whether the node confirms that pods which are being deleted are gone."""

    def path(self, name: str = "") -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs" + (f"/{name}" if name else "")

    def make(self, name: str, image: str = "ok", **spec: Any) -> dict[str, Any]:
        policy = spec.pop("restartPolicy", "Never")
        containers = [{"name": "main", "image": image}]
        template = {"spec": {"restartPolicy": policy, "containers": containers}}
        body = {"metadata": {"name": name}, "spec": {"template": template, **spec}}
        return made(self.api.post(self.path(), json=body))

    def get(self, name: str) -> dict[str, Any]:
        return made(self.api.get(self.path(name)))

    def change(self, name: str, **spec: Any) -> None:
        made(self.api.patch(self.path(name), json={"spec": spec}, headers=MERGE))

    def pods(self, name: str = "") -> list[dict[str, Any]]:
        query = {"labelSelector": f"job-name={name}"} if name else {}
        answer = self.api.get(pods(self.namespace), params=query)
        found: list[dict[str, Any]] = made(answer)["items"]
        return found

    def step(self, most: int = 100) -> None:
        """Let at most so many pods come to their end, and let go of deleted ones."""
        for pod in self.pods():
            name = pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"]:
                if self.lets_go:
                    self.api.request(
                        "DELETE", pods(self.namespace, name), json={"gracePeriodSeconds": 0}
                    )
                continue
            if pod["status"]["phase"] != "Pending" or "nodeName" not in pod["spec"] or most <= 0:
                continue
            image = pod["spec"]["containers"][0]["image"]
            phase = {"ok": "Succeeded", "bad": "Failed", "waits": "Running"}[image]
            most -= 1
            self.say(name, phase=phase)

    def say(self, name: str, **status: Any) -> None:
        path = f"{pods(self.namespace, name)}/status"
        answer = self.api.patch(path, json={"status": status}, headers=STRATEGIC)
        assert answer.status_code in (200, 404), answer.text

    def until(self, holds: Callable[[], Any], *, plays: bool = True) -> None:
        end = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < end, (made(self.api.get(self.path())), self.pods())
            if plays:
                self.step()
            else:
                time.sleep(0.02)

    def ends(self, name: str) -> dict[str, dict[str, Any]]:
        """Play until a Job has ended; return its conditions."""
        self.until(lambda: {"Complete", "Failed"} & conditions(self.get(name)).keys())
        return conditions(self.get(name))


def is_gone(api: httpx.Client, path: str) -> bool:
    return api.get(path).status_code == 404


def conditions(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {c["type"]: c for c in job["status"].get("conditions", ()) if c["status"] == "True"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of this module's own: its node is played."""
    held = ApiServer(tmp_path_factory.mktemp("jobs"))
    held.start()
    with connect(held.kubeconfig) as client:
        make_node(client, "worker")
    yield held
    held.stop()


@pytest.fixture
def played(server: ApiServer) -> Iterator[Played]:
    """A namespace of the test's own."""
    held = Played(server)
    yield held
    held.lets_go = True
    held.api.delete(f"/api/v1/namespaces/{held.namespace}")
    held.until(lambda: held.api.get(f"/api/v1/namespaces/{held.namespace}").status_code == 404)
    held.api.close()


def test_job_runs_its_pod_once_and_completes(played: Played) -> None:
    made_job = played.make("one")
    uid = made_job["metadata"]["uid"]
    assert made_job["spec"]["selector"] == {
        "matchLabels": {"batch.kubernetes.io/controller-uid": uid}
    }
    ended = played.ends("one")
    assert ended["Complete"]["reason"] == "CompletionsReached"
    status = played.get("one")["status"]
    assert status["succeeded"] == 1
    assert status["completionTime"] >= status["startTime"]
    assert status["uncountedTerminatedPods"] == {}
    (pod,) = played.pods("one")
    assert TRACKING not in pod["metadata"].get("finalizers", ())
    assert pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "one"


def test_no_more_pods_than_are_wanted_run_at_once(played: Played) -> None:
    played.make("many", image="waits", completions=5, parallelism=2)
    most = 0

    def is_done() -> bool:
        nonlocal most
        held = [p for p in played.pods() if p["status"]["phase"] in ("Pending", "Running")]
        most = max(most, len(held))
        for pod in held:
            if pod["status"]["phase"] == "Running":
                played.say(pod["metadata"]["name"], phase="Succeeded")
        return "Complete" in conditions(played.get("many"))

    played.until(is_done)
    assert most == 2
    assert played.get("many")["status"]["succeeded"] == 5
    assert len(played.pods()) == 5


def test_indexed_job_gives_each_pod_a_number(played: Played) -> None:
    played.make("array", completions=4, parallelism=4, completionMode="Indexed")
    assert "Complete" in played.ends("array")
    assert played.get("array")["status"]["completedIndexes"] == "0-3"
    found = {p["metadata"]["annotations"][INDEX]: p for p in played.pods()}
    assert sorted(found) == ["0", "1", "2", "3"]
    pod = found["2"]
    assert pod["metadata"]["name"].startswith("array-2-")
    assert pod["spec"]["hostname"] == "array-2"
    variable = pod["spec"]["containers"][0]["env"][0]
    assert variable["name"] == "JOB_COMPLETION_INDEX"
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.annotations['{INDEX}']"


def test_job_without_completions_ends_when_one_pod_says_so(played: Played) -> None:
    played.make("queue", image="waits", parallelism=3)
    played.until(lambda: [p["status"]["phase"] for p in played.pods()] == ["Running"] * 3)
    first, *rest = [p["metadata"]["name"] for p in played.pods()]
    played.say(first, phase="Succeeded")
    played.until(lambda: played.get("queue")["status"].get("succeeded") == 1)
    assert not conditions(played.get("queue")), "two of its pods are still at work"
    for name in rest:
        played.say(name, phase="Succeeded")
    assert "Complete" in played.ends("queue")
    assert len(played.pods()) == 3


def test_job_fails_past_its_limit(played: Played) -> None:
    played.make("broken", image="bad", backoffLimit=0, parallelism=2, completions=2)
    assert played.ends("broken")["Failed"]["reason"] == "BackoffLimitExceeded"
    held = played.get("broken")["status"]
    assert held["failed"] in (1, 2)
    assert "completionTime" not in held


def test_restarts_in_place_count_towards_the_limit(played: Played) -> None:
    played.make("restarts", image="waits", restartPolicy="OnFailure", backoffLimit=2)
    played.until(lambda: [p["status"]["phase"] for p in played.pods()] == ["Running"])
    (pod,) = played.pods()
    counts = [{"name": "main", "restartCount": 2, "image": "x", "imageID": "", "ready": False}]
    played.say(pod["metadata"]["name"], containerStatuses=counts)
    assert played.ends("restarts")["Failed"]["reason"] == "BackoffLimitExceeded"


def test_next_try_is_put_off_after_a_failure(played: Played) -> None:
    played.make("again", image="bad", backoffLimit=3)
    played.until(lambda: played.get("again")["status"].get("failed") == 1)
    played.change("again", parallelism=3)
    played.until(lambda: played.get("again")["metadata"]["generation"] == 2, plays=False)
    assert len(played.pods()) == 1, "ten seconds have not passed"


def test_deadline_ends_a_job(played: Played) -> None:
    played.make("late", image="waits", activeDeadlineSeconds=1)
    assert played.ends("late")["Failed"]["reason"] == "DeadlineExceeded"
    assert played.pods() == []


def test_job_has_not_failed_before_its_pods_are_gone(played: Played) -> None:
    """A node that is away cannot say so: until then the work may go on there."""
    played.lets_go = False
    played.make("away", image="waits", activeDeadlineSeconds=1)
    played.until(lambda: [p["status"]["phase"] for p in played.pods()] == ["Running"])
    played.until(lambda: "FailureTarget" in conditions(played.get("away")))
    played.until(lambda: played.get("away")["status"].get("terminating") == 1)
    assert "Failed" not in conditions(played.get("away"))
    played.lets_go = True
    assert played.ends("away")["Failed"]["reason"] == "DeadlineExceeded"


def test_suspended_job_has_no_pods_and_goes_on(played: Played) -> None:
    played.make("paused", image="waits", suspend=True)
    played.until(lambda: "Suspended" in conditions(played.get("paused")))
    assert played.pods() == []
    played.change("paused", suspend=False)
    played.until(lambda: "startTime" in played.get("paused")["status"])
    played.until(lambda: len(played.pods()) == 1)
    played.change("paused", suspend=True)
    played.until(lambda: "startTime" not in played.get("paused")["status"])
    played.until(lambda: played.pods() == [])
    assert "failed" not in played.get("paused")["status"], "what was taken away has not failed"


def test_finished_job_goes_after_its_time(played: Played) -> None:
    played.make("brief", ttlSecondsAfterFinished=0)
    played.until(lambda: played.api.get(played.path("brief")).status_code == 404)
    played.until(lambda: played.pods() == [])


def test_deleted_pod_is_replaced_and_counted_once(played: Played) -> None:
    played.make("retry", image="waits", backoffLimit=5)
    played.until(lambda: [p["status"]["phase"] for p in played.pods()] == ["Running"])
    (pod,) = played.pods()
    played.api.delete(pods(played.namespace, pod["metadata"]["name"]))
    played.until(lambda: played.get("retry")["status"].get("failed") == 1)
    played.until(lambda: played.pods() == [])
    assert played.get("retry")["status"]["failed"] == 1


def test_pods_stay_when_their_job_is_deleted_unless_told_otherwise(played: Played) -> None:
    for name, query, is_left in (
        ("a", {}, True),
        ("b", {"propagationPolicy": "Background"}, False),
    ):
        played.make(name)
        played.ends(name)
        answer = played.api.delete(played.path(name), params=query)
        assert answer.status_code == 200
        assert ("child pods are preserved" in answer.headers.get("warning", "")) is is_left
        path = played.path(name)
        played.until(partial(is_gone, played.api, path))
    played.until(lambda: played.pods("b") == [])
    (pod,) = played.pods("a")
    assert not pod["metadata"].get("ownerReferences")


def test_running_pods_do_not_outlive_their_job_in_the_foreground(played: Played) -> None:
    played.make("front", image="waits", parallelism=2, completions=2)
    played.until(lambda: [p["status"]["phase"] for p in played.pods()] == ["Running"] * 2)
    played.api.request("DELETE", played.path("front"), json={"propagationPolicy": "Foreground"})
    played.until(lambda: played.api.get(played.path("front")).status_code == 404)
    assert played.pods() == []


def exits(played: Played, name: str, code: int) -> None:
    """Have a running pod's only container end."""
    ended = {"exitCode": code, "reason": "Error"}
    status = {"name": "main", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    played.say(name, phase="Failed", containerStatuses=[{**status, "state": {"terminated": ended}}])


def running(played: Played) -> list[str]:
    return [p["metadata"]["name"] for p in played.pods() if p["status"]["phase"] == "Running"]


def test_exit_code_can_fail_the_job_or_be_ignored(played: Played) -> None:
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]
    policy = {"rules": rules}
    played.make("strict", image="waits", backoffLimit=0, podFailurePolicy=policy)
    played.until(lambda: running(played))
    (first,) = running(played)
    played.say(first, phase="Failed", conditions=[{"type": "DisruptionTarget", "status": "True"}])
    played.until(
        lambda: all(
            TRACKING not in p["metadata"].get("finalizers", ()) for p in played.pods("strict")
        )
    )
    assert not conditions(played.get("strict")), "what disrupted it is not its fault"
    assert "failed" not in played.get("strict")["status"]
    played.make("exact", image="waits", backoffLimit=6, podFailurePolicy=policy)
    played.until(lambda: running(played))
    (second,) = running(played)
    exits(played, second, 42)
    failed = played.ends("exact")["Failed"]
    assert failed["reason"] == "PodFailurePolicy"
    assert failed["message"] == (
        f"Container main for pod {played.namespace}/{second} failed with exit code 42 matching "
        "FailJob rule at index 1"
    )


def test_each_index_has_its_own_limit(played: Played) -> None:
    played.make(
        "apart",
        image="waits",
        completions=3,
        parallelism=3,
        completionMode="Indexed",
        backoffLimitPerIndex=0,
    )
    played.until(lambda: len(running(played)) == 3)
    for pod in played.pods():
        if pod["metadata"]["annotations"][INDEX] == "1":
            exits(played, pod["metadata"]["name"], 1)
        else:
            played.say(pod["metadata"]["name"], phase="Succeeded")
    assert played.ends("apart")["Failed"]["reason"] == "FailedIndexes"
    status = played.get("apart")["status"]
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,2", "1")
    assert len(played.pods()) == 3


def test_some_indexes_may_be_enough(played: Played) -> None:
    played.make(
        "enough",
        image="waits",
        completions=4,
        parallelism=4,
        completionMode="Indexed",
        successPolicy={"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]},
    )
    played.until(lambda: len(running(played)) == 4)
    (leader,) = (
        p["metadata"]["name"] for p in played.pods() if p["metadata"]["annotations"][INDEX] == "1"
    )
    played.say(leader, phase="Succeeded")
    assert played.ends("enough")["Complete"]["reason"] == "SuccessPolicy"
    assert played.get("enough")["status"]["succeeded"] == 1
    assert [p["metadata"]["name"] for p in played.pods()] == [leader]


def test_kills_of_the_server_neither_lose_nor_repeat_an_end(played: Played) -> None:
    choice = random.Random(7)  # noqa: S311 - how often what is cut, not a secret
    played.make("steady", completions=24, parallelism=6)
    for _ in range(4):
        played.step(most=choice.randint(1, 4))
        played.server.kill()
        played.server.start()
    assert "Complete" in played.ends("steady")
    status = played.get("steady")["status"]
    ends = [p for p in played.pods() if p["status"]["phase"] == "Succeeded"]
    assert (status["succeeded"], len(ends)) == (24, 24)
    assert "failed" not in status
