"""What a job asks of a node, as both sides read it."""

import pytest

from fedge_operations import (
    Action,
    ImageResult,
    Outcome,
    Progress,
    Pull,
    Step,
    TaskPhase,
    Update,
    Upgrade,
    as_spec,
    read_progress,
    read_task,
    task_name,
)


@pytest.mark.parametrize(
    "work",
    [
        Pull(images=("a", "b"), retry_times=3, secret="n/s"),
        Update(fields={"FEDGE_LOG_LEVEL": "info"}),
        Upgrade(version="v2", image="r/e", digests={"amd64": "sha256:0"}, confirmed=True),
    ],
)
def test_work_is_read_as_it_was_written(work: Pull | Update | Upgrade) -> None:
    job = {"kind": "J", "name": "j"}
    spec = {"nodeName": "a", "job": job, "timeoutSeconds": 5, **as_spec(work)}
    task = read_task({"metadata": {"name": "t", "uid": "u"}, "spec": spec})
    assert task.work == work
    assert not task.is_over


def test_progress_is_read_as_it_was_written() -> None:
    progress = Progress(
        phase=TaskPhase.FAILURE,
        sequence=7,
        reason="r",
        steps=(Step(action=Action.CHECK, status=Outcome.TRUE, time="2027-01-01T00:00:00Z"),),
        images=(ImageResult(image="i", status=Outcome.FALSE, reason="no"),),
        current_version="2",
        historic_version="1",
    )
    assert read_progress(progress.as_status()) == progress


def test_tasks_have_names_of_their_own_however_long() -> None:
    names = {
        task_name(kind, job, node)
        for kind in ("ImagePrePullJob", "NodeUpgradeJob")
        for job in ("j", "j" * 253)
        for node in ("a", "b", "n" * 253)
    }
    assert len(names) == 12
    assert max(map(len, names)) <= 253
