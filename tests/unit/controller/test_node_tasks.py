"""What a node says of its task, as it reaches the API."""

import copy
from typing import Any

import pytest

from fedge_controller.kinds.node_tasks import NodeTasks
from fedge_dispatch import Report
from fedge_kube import ConflictError, KubeClient, NotFoundError, RefusedError, Resource
from fedge_objects import JsonObject, NodeName, ObjectKey

KEY = ObjectKey("nodetasks.operations.fedge.io", "", "t")


class Api(KubeClient):
    """Holds one task; refuses so many writes as if others were quicker."""

    def __init__(self, task: JsonObject | None, conflicts: int = 0) -> None:
        self.task = task
        self.conflicts = conflicts

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:  # noqa: ARG002
        if self.task is None:
            raise NotFoundError(name)
        return copy.deepcopy(self.task)

    async def replace(
        self,
        resource: Resource,  # noqa: ARG002
        obj: JsonObject,
        *,
        subresource: str = "",
    ) -> JsonObject:
        assert subresource == "status"
        if self.conflicts:
            self.conflicts -= 1
            raise ConflictError("another was quicker")
        self.task = obj
        return obj


def task(**status: Any) -> JsonObject:
    return {
        "metadata": {"name": "t", "uid": "uid-t", "resourceVersion": "5"},
        "spec": {"nodeName": "a"},
        "status": status,
    }


def report(sequence: int, phase: str = "InProgress", *, node: str = "a", **more: Any) -> Report:
    return Report(
        node=NodeName(node),
        key=KEY,
        uid=str(more.pop("uid", "uid-t")),
        status={"phase": phase, "sequence": sequence, **more},
        labels={},
        finished=False,
    )


async def told(api: Api, *reports: Report) -> JsonObject:
    for each in reports:
        await NodeTasks().report(api, each)
    status: JsonObject = (api.task or {}).get("status") or {}
    return status


async def test_highest_number_counts_whatever_comes_after_it() -> None:
    status = await told(Api(task()), report(1), report(3, "Successful"), report(2))
    assert (status["phase"], status["sequence"]) == ("Successful", 3)


async def test_conflict_is_looked_at_again() -> None:
    status = await told(Api(task(), conflicts=2), report(1, "Failure", reason="no disk"))
    assert (status["phase"], status["reason"]) == ("Failure", "no disk")


async def test_another_node_may_not_speak_of_it() -> None:
    api = Api(task(phase="InProgress", sequence=1))
    with pytest.raises(RefusedError, match="which is another's"):
        await told(api, report(9, "Successful", node="b"))
    assert api.task == task(phase="InProgress", sequence=1)


async def test_a_namesakes_end_is_passed_over() -> None:
    assert await told(Api(task()), report(9, "Successful", uid="uid-old")) == {}
    assert await told(Api(None), report(9, "Successful")) == {}


async def test_given_up_stays_so_until_the_end_is_told() -> None:
    api = Api(task(phase="Unknown", reason="it is away", sequence=1))
    status = await told(api, report(2, steps=[{"action": "Check", "status": "True"}]))
    assert (status["phase"], status["reason"], status["sequence"]) == ("Unknown", "it is away", 2)
    status = await told(api, report(3, "Successful"))
    assert status["phase"] == "Successful"


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "Successful"},
        {"phase": "Unknown", "sequence": 1},
        {"phase": "Successful", "sequence": 0},
        {"phase": "Successful", "sequence": 1, "reason": "x" * 2000},
        {"phase": "Successful", "sequence": 1, "steps": [{"action": "Dance", "status": "True"}]},
        {"phase": "Successful", "sequence": 1, "images": [{"image": "i", "status": "True"}] * 500},
    ],
)
async def test_nonsense_is_refused(status: JsonObject) -> None:
    api = Api(task())
    said = Report(node=NodeName("a"), key=KEY, uid="", status=status, labels={}, finished=False)
    with pytest.raises(RefusedError, match="nodetasks"):
        await told(api, said)
    assert api.task == task()
