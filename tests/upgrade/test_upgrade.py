"""A gateway is brought to another version while its pods run on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedge_cli.demo import Story
from images.cached import edge_image
from tests.upgrade.derived import derive
from tests.upgrade.system import ended, entry_of, flow, give, make_job, running, state_of

pytestmark = [pytest.mark.stack, pytest.mark.containerd, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with running(tmp_path_factory.mktemp("stack"), edge_image().archive) as story:
        yield story


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
