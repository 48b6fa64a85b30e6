"""What is next in a job: as much as is wanted at once, nothing twice, nobody forgotten."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedge_controller.jobs.kinds import ConfigUpdateJobs, ImagePrePullJobs, JobKind, NodeUpgradeJobs
from fedge_controller.jobs.rounds import LATE_SECONDS, ROLE, Next, decide, given_up, time_of
from fedge_controller.kinds.node_tasks import NodeTasks
from fedge_objects import JsonObject
from fedge_operations import read_task

NOW = 1_800_000_000.0
PULL = {"images": ["busybox:1"], "nodeNames": ["a", "b", "c"]}


def node(name: str, *, ready: bool = True, **labels: str) -> JsonObject:
    status = "True" if ready else "Unknown"
    return {
        "metadata": {"name": name, "labels": {ROLE: "", **labels}},
        "status": {"conditions": [{"type": "Ready", "status": status}]},
    }


def nodes(*names: str, away: tuple[str, ...] = ()) -> dict[str, JsonObject]:
    return {name: node(name, ready=name not in away) for name in names}


def job(kind: JobKind, spec: JsonObject, **annotations: str) -> JsonObject:
    metadata = {
        "name": "j",
        "uid": "uid-j",
        "creationTimestamp": time_of(NOW),
        "annotations": annotations,
    }
    version = "operations.kubeedge.io/v1alpha2"
    return {"apiVersion": version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def pull_job(**template: Any) -> JsonObject:
    return job(ImagePrePullJobs(), {"imagePrePullTemplate": {**PULL, **template}})


class Api:
    """What the API holds; a look at it may be followed by a kill before any of its writes."""

    def __init__(self, kind: JobKind, job: JsonObject, nodes: dict[str, JsonObject]) -> None:
        self.kind, self.job, self.nodes = kind, job, nodes
        self.tasks: dict[str, JsonObject] = {}
        self.made: list[str] = []
        self.now = NOW

    def look(self, *, writes: int = 99) -> Next:
        """Look once and write what follows, the first ``writes`` of it only."""
        found = decide(
            self.kind, self.job, nodes=self.nodes, tasks=copy.deepcopy(self.tasks), now=self.now
        )
        for task in found.make[:writes]:
            made = copy.deepcopy(task)
            made["metadata"] |= {
                "uid": f"uid-{len(self.made)}",
                "creationTimestamp": time_of(self.now),
            }
            assert made["metadata"]["name"] not in self.tasks
            self.tasks[made["metadata"]["name"]] = made
            self.made.append(made["spec"]["nodeName"])
        writes -= len(found.make)
        for name, reason in list(found.give_up.items())[: max(0, writes)]:
            self.tasks[name]["status"] = given_up(self.tasks[name], reason)
        for name, spec in found.confirm.items():
            self.tasks[name]["spec"] = spec
        if writes - len(found.give_up) > 0:
            self.job = {**self.job, "status": found.status}
        return found

    def settle(self) -> Next:
        """Look until nothing changes any more."""
        while True:
            before = copy.deepcopy((self.job, self.tasks))
            found = self.look()
            if (self.job, self.tasks) == before:
                return found

    def tells(self, node: str, phase: str, **more: Any) -> None:
        [task] = [each for each in self.tasks.values() if each["spec"]["nodeName"] == node]
        sequence = int((task.get("status") or {}).get("sequence") or 0) + 1
        task["status"] = {"phase": phase, "sequence": sequence, **more}

    @property
    def phases(self) -> dict[str, str]:
        return {each["nodeName"]: each["phase"] for each in self.job["status"]["nodeStatus"]}

    def reason(self, node: str) -> str:
        [found] = [e for e in self.job["status"]["nodeStatus"] if e["nodeName"] == node]
        return str(found.get("reason", ""))


def test_one_node_after_the_other_has_its_turn() -> None:
    api = Api(ImagePrePullJobs(), pull_job(), nodes("a", "b", "c"))
    for number, name in enumerate("abc"):
        api.settle()
        assert api.made == list("abc")[: number + 1]
        api.tells(name, "Successful", images=[{"image": "busybox:1", "status": "True"}])
    api.settle()
    status = api.job["status"]
    assert status["phase"] == "Completed"
    assert (status["nodes"], status["succeeded"], status["failed"]) == (3, 3, 0)
    assert [(each["type"], each["status"]) for each in status["conditions"]] == [
        ("Complete", "True")
    ]
    assert status["nodeStatus"][0]["imageStatus"] == [{"image": "busybox:1", "status": "True"}]


def test_turn_is_written_before_the_task_is_made() -> None:
    api = Api(ImagePrePullJobs(), pull_job(), nodes("a", "b", "c"))
    api.look()
    assert set(api.phases.values()) == {"Pending"}
    assert api.look().make == []
    assert api.phases["a"] == "InProgress"
    assert [each["spec"]["nodeName"] for each in api.look(writes=0).make] == ["a"]


def test_task_says_all_that_the_node_has_to_know() -> None:
    spec = {"retryTimes": 2, "imageSecrets": "team/pull", "timeoutSeconds": 60, "nodeNames": ["a"]}
    api = Api(ImagePrePullJobs(), pull_job(**spec), nodes("a"))
    api.settle()
    [task] = api.tasks.values()
    read = read_task(NodeTasks().for_node(task))
    assert (read.node, read.timeout_seconds, read.job) == ("a", 60, "ImagePrePullJob/j")
    assert read.work.images == ("busybox:1",)  # type: ignore[union-attr]  # a Pull
    assert list(read.check_items) == ["disk"]
    assert {str(each) for each in NodeTasks().needs_of(task)} == {"secrets/team/pull"}
    api.tells("a", "Successful")
    [over] = api.tasks.values()
    assert NodeTasks().needs_of(over) == frozenset()
    assert read_task(NodeTasks().for_node(over)).is_over


def test_absent_node_is_passed_over_and_has_its_turn_when_it_is_back() -> None:
    api = Api(ImagePrePullJobs(), pull_job(), nodes("a", "b", "c", away=("a",)))
    api.settle()
    assert api.made == ["b"]
    assert api.reason("a") == "the node is away; its turn comes when it is back"
    for name in "bc":
        api.tells(name, "Successful")
        api.settle()
    assert api.job["status"]["phase"] == "InProgress"
    api.nodes["a"] = node("a")
    api.settle()
    assert api.made == ["b", "c", "a"]
    assert api.reason("a") == ""


def test_job_may_limit_how_long_it_waits_for_absent_nodes() -> None:
    api = Api(ImagePrePullJobs(), pull_job(failureTolerate="1"), nodes("a", "b", "c", away=("a",)))
    api.job["metadata"]["annotations"] = {"operations.fedge.io/absent-seconds": "600"}
    found = api.settle()
    for name in "bc":
        api.tells(name, "Successful")
        found = api.settle()
    assert found.look_again_at == NOW + 600
    api.now = NOW + 600
    api.settle()
    assert api.phases["a"] == "Unknown"
    assert api.reason("a") == "the node was away for the 600 s that the job waits"
    assert api.job["status"]["phase"] == "Completed"


def test_node_that_says_nothing_in_time_is_unknown_until_it_does() -> None:
    api = Api(ImagePrePullJobs(), pull_job(timeoutSeconds=60), nodes("a", "b", "c"))
    found = api.settle()
    assert found.look_again_at == NOW + 60 + LATE_SECONDS
    api.nodes["a"] = node("a", ready=False)
    api.now = NOW + 60 + LATE_SECONDS
    api.settle()
    assert api.phases["a"] == "Unknown"
    assert api.reason("a").startswith("the node did not say within 60 s how it ended; it is away")
    assert api.job["status"]["phase"] == "Failure"
    assert api.made == ["a"]
    assert api.reason("b").startswith("not begun: 1 of 3 nodes failed, more than the share 0.1")
    api.tells("a", "Successful")
    api.settle()
    assert api.phases == {"a": "Successful", "b": "Pending", "c": "Pending"}
    assert api.job["status"]["phase"] == "Failure"


def test_no_more_are_begun_once_too_many_failed_and_running_ones_end() -> None:
    spec = {"concurrency": 2, "failureTolerate": "0.3"}
    api = Api(ImagePrePullJobs(), pull_job(**spec), nodes("a", "b", "c"))
    api.settle()
    assert api.made == ["a", "b"]
    api.tells("a", "Failure", reason="disk")
    api.settle()
    assert api.job["status"]["phase"] == "InProgress"
    assert api.made == ["a", "b"]
    api.tells("b", "Successful")
    api.settle()
    status = api.job["status"]
    assert (status["phase"], status["conditions"][0]["reason"]) == ("Failure", "TooManyFailed")
    assert api.phases["c"] == "Pending"


def test_labels_choose_edges_once() -> None:
    template = {"images": ["i:1"], "labelSelector": {"matchLabels": {"site": "x"}}}
    made = job(ImagePrePullJobs(), {"imagePrePullTemplate": template})
    found = {
        "a": node("a", site="x"),
        "b": node("b", site="y"),
        "cloud": {"metadata": {"name": "cloud", "labels": {"site": "x"}}},
    }
    api = Api(ImagePrePullJobs(), made, found)
    api.settle()
    api.nodes["late"] = node("late", site="x")
    api.settle()
    assert list(api.phases) == ["a"]


def test_nodes_that_are_none_fail_at_once() -> None:
    plain: dict[str, JsonObject] = {"cloud": {"metadata": {"name": "cloud"}}}
    api = Api(ImagePrePullJobs(), pull_job(nodeNames=["a", "no", "cloud"]), nodes("a") | plain)
    api.settle()
    assert api.phases == {"a": "Pending", "no": "Failure", "cloud": "Failure"}
    assert api.reason("no") == "there is no node 'no' in the cluster"
    assert "lacks the label" in api.reason("cloud")


@pytest.mark.parametrize(
    ("kind", "spec", "says"),
    [
        (ImagePrePullJobs(), {"images": [], "nodeNames": ["a"]}, "images has 0"),
        (ImagePrePullJobs(), {**PULL, "labelSelector": {"matchLabels": {}}}, "only one of them"),
        (ImagePrePullJobs(), {"images": ["i"]}, "set nodeNames or labelSelector"),
        (ImagePrePullJobs(), {**PULL, "failureTolerate": "2"}, 'a share from "0" to "1"'),
        (ImagePrePullJobs(), {**PULL, "checkItems": ["gpu"]}, "set any of cpu, mem, disk"),
        (ImagePrePullJobs(), {**PULL, "imageSecrets": "pull"}, "write namespace/name"),
        (ImagePrePullJobs(), {**PULL, "retryTimes": -1}, "retryTimes is -1"),
        (ConfigUpdateJobs(), {"nodeNames": ["a"]}, "updateFields has 0"),
        (NodeUpgradeJobs(), {"nodeNames": ["a"], "version": "a b"}, "version is 'a b'"),
        (
            NodeUpgradeJobs(),
            {"nodeNames": ["a"], "version": "v1", "imageDigestGatter": {"amd64": "x"}},
            "imageDigestGatter.amd64 is 'x'",
        ),
    ],
)
def test_wrong_job_says_what_is_wrong(kind: JobKind, spec: JsonObject, says: str) -> None:
    whole = {"imagePrePullTemplate": spec} if isinstance(kind, ImagePrePullJobs) else spec
    api = Api(kind, job(kind, whole), nodes("a", "b", "c"))
    api.settle()
    status = api.job["status"]
    assert (status["phase"], status["conditions"][0]["type"]) == ("Failure", "Failed")
    assert says in status["reason"]
    assert api.made == []


def test_upgrade_waits_for_somebody_without_an_end_and_goes_on_when_they_agree() -> None:
    spec = {
        "nodeNames": ["a"],
        "version": "v2",
        "image": "r:5000/e:v1",
        "requireConfirmation": True,
    }
    api = Api(NodeUpgradeJobs(), job(NodeUpgradeJobs(), spec), nodes("a"))
    api.settle()
    [task] = api.tasks.values()
    assert task["spec"]["upgrade"] == {
        "version": "v2",
        "image": "r:5000/e",
        "requireConfirmation": True,
    }
    waits = {"action": "WaitingConfirmation", "status": "Unknown", "time": time_of(NOW)}
    api.tells("a", "InProgress", reason="waits for somebody", steps=[waits])
    api.now = NOW + 86400
    assert api.settle().give_up == {}
    api.job["metadata"]["annotations"]["operations.fedge.io/confirmed"] = "b, a"
    api.settle()
    [task] = api.tasks.values()
    assert task["spec"]["upgrade"]["confirmed"] is True
    agreed = {**waits, "status": "True", "time": time_of(api.now)}
    api.tells("a", "InProgress", steps=[agreed])
    assert api.settle().look_again_at == api.now + 300 + LATE_SECONDS


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_is_killed_each_node_is_begun_once_and_no_more_at_once(
    data: st.DataObject,
) -> None:
    names = "abcde"
    at_once = data.draw(st.integers(1, 3), label="concurrency")
    spec = {"nodeNames": list(names), "concurrency": at_once, "failureTolerate": "1"}
    api = Api(ImagePrePullJobs(), pull_job(**spec), nodes(*names))
    for _ in range(40):
        if data.draw(st.booleans(), label="a node tells"):
            going = [
                each["spec"]["nodeName"]
                for each in api.tasks.values()
                if (each.get("status") or {}).get("phase") not in {"Successful", "Failure"}
            ]
            if going:
                phase = data.draw(st.sampled_from(["InProgress", "Successful", "Failure"]))
                api.tells(data.draw(st.sampled_from(going)), phase)
        name = data.draw(st.sampled_from(names))
        api.nodes[name] = node(name, ready=data.draw(st.booleans(), label=f"{name} is there"))
        api.look(writes=data.draw(st.sampled_from([0, 1, 99]), label="writes before the kill"))
        going_on = [
            each
            for each in api.tasks.values()
            if (each.get("status") or {}).get("phase") not in {"Successful", "Failure"}
        ]
        assert len(going_on) <= at_once
        assert len(set(api.made)) == len(api.made)
    api.nodes = nodes(*names)
    for _ in range(20):
        api.settle()
        for task in api.tasks.values():
            if (task.get("status") or {}).get("phase") not in {"Successful", "Failure"}:
                api.tells(task["spec"]["nodeName"], "Successful")
    assert api.job["status"]["phase"] == "Completed"
    assert sorted(api.made) == list(names)
