"""Images of the cloud: small, nobody's, whole; one of them run by containerd.

`make test-compose` builds all of them and runs the system from them.
"""

import json
import tarfile
from collections.abc import Iterator

import pytest

from fedge_local.errors import CommandFailedError
from images.cached import Built, image
from images.cloud import CLOUD, USER
from tests.fixtures.servers import Runtime
from tests.image.archives import loads_all, members, missing

pytestmark = pytest.mark.timeout(600)  # the first test may have to build it

NAME = "hub"
MADE = CLOUD[NAME]
MAX_MEGABYTES = 70


@pytest.fixture(scope="module")
def hub() -> Built:
    return image(MADE)


@pytest.fixture(scope="module")
def archive(hub: Built) -> Iterator[tarfile.TarFile]:
    with tarfile.open(hub.archive) as opened:
        yield opened


def test_image_is_small_and_whole(hub: Built, archive: tarfile.TarFile) -> None:
    assert hub.archive.stat().st_size < MAX_MEGABYTES * 1_000_000
    assert missing(archive, MADE) == set()
    bill = json.loads(hub.bill.read_text())
    assert {"ca-certificates", "fedge-hub", "redis"} <= {each["name"] for each in bill["packages"]}


def test_nothing_is_in_it_that_hub_does_not_run(archive: tarfile.TarFile) -> None:
    names = [member.name for member in members(archive)]
    for part in ("/apt/", "bin/dpkg", "bin/sh", "busybox", "share/doc", "_bundled", "/pip/"):
        assert not [name for name in names if part in name], part


async def test_it_runs_as_nobody_loads_all_and_says_what_is_wrong_with_its_settings(
    hub: Built, containerd: Runtime
) -> None:
    ctr = containerd.server.ctr
    await ctr("images", "import", str(hub.archive))
    run = ("run", "--rm", "--net-host", "--read-only", f"--cgroup={containerd.cgroup_parent}/hub")
    script = (
        "import os, ssl;print(os.getuid(), len(ssl.create_default_context().get_ca_certs()) > 100)"
    )
    said = await ctr(*run, hub.reference, "looks", "/usr/bin/python3", "-c", script)
    assert said.split() == [str(USER), "True"]
    await ctr(*run, hub.reference, "loads", *loads_all(MADE))
    with pytest.raises(CommandFailedError, match="FEDGE_HUB_HTTP_PORT"):
        await ctr(*run, "--env=FEDGE_HUB_HTTP_PORT=many", hub.reference, "wrong")
