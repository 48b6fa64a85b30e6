"""A gateway is brought to another version while its pods run on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedge_cli.demo import EDGE, Story
from images.cached import edge_image
from tests.e2e.pods import apply_text
from tests.e2e.test_jobs import becomes, is_over, job
from tests.upgrade.derived import derive
from tests.upgrade.system import ended, entry_of, flow, give, make_job, running, state_of

pytestmark = [pytest.mark.stack, pytest.mark.containerd, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with running(tmp_path_factory.mktemp("stack"), edge_image().archive) as story:
        yield story


async def test_settings_are_changed_in_the_image_too(story: Story) -> None:
    before = await story.container_running()
    fields = {"FEDGE_EDGED_MAX_PODS": "37"}
    spec = {"nodeNames": [EDGE], "updateFields": fields}
    with story.api() as api:
        apply_text(api, job("ConfigUpdateJob", "fewer", spec))
    path = "/apis/operations.kubeedge.io/v1alpha2/configupdatejobs/fewer"
    found = await becomes(story, path, is_over)
    assert found["status"]["phase"] == "Completed", json.dumps(found["status"], indent=1)
    node = await becomes(
        story, f"/api/v1/nodes/{EDGE}", lambda it: it["status"]["capacity"]["pods"] == "37"
    )
    assert node["metadata"]["name"] == EDGE
    assert (await story.container_running()).id == before.id


async def test_new_version_runs_and_the_pod_has_noticed_nothing(
    story: Story, tmp_path: Path
) -> None:
    before = await story.container_running()
    archive = tmp_path / "new.tar"
    derive(edge_image().archive, archive, version="0.2.0", files={"etc/fedge-release": "0.2.0\n"})
    await give(story, archive)
    make_job(story, "forward", "0.2.0", checkItems=["mem", "disk"])
    status = await ended(story, "forward")
    assert status["phase"] == "Completed", json.dumps(status, indent=1)
    assert flow(status) == [("Check", "True"), ("BackUp", "True"), ("Upgrade", "True")]
    entry = entry_of(status)
    assert (entry["currentVersion"], entry["historicVersion"]) == ("0.2.0", "0.1.0")
    assert state_of(story)["current"].startswith("0.2.0-")
    assert (await story.container_running()).id == before.id
    await story.pod_running(restarts=0)
