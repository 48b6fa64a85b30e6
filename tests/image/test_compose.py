"""``docker compose up`` on an engine of the test's own: images of Debian packages, no registry.

It builds six images and takes minutes, so it runs with ``FEDGE_TEST_COMPOSE=1`` only
(``make test-compose``).
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from images import engine
from images.cached import CACHE, Built
from images.cloud import CLOUD
from images.engine import Engine
from images.errors import BuildError
from tests.image.archives import loads_all

ROOT = Path(__file__).resolve().parents[2]
CHECKOUT_ONLY = {"fedge_cri"}
"""What only the demo loads, which runs on the machine itself."""
WITHOUT = ("jaeger",)
"""What no Debian package makes."""

pytestmark = [
    pytest.mark.stack,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        os.environ.get("FEDGE_TEST_COMPOSE") != "1", reason="takes minutes: `make test-compose`"
    ),
]


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        with engine.running(CACHE) as started:
            yield started
    except BuildError as exc:
        if "no container engine starts here" in str(exc):
            pytest.skip(str(exc))
        raise


@pytest.fixture(scope="module")
def system(docker: Engine) -> Iterator[Engine]:
    """The system of docker-compose.yml, running."""
    docker.add_base_images(CACHE / "engine")
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    images: dict[str, dict[str, str]] = {}
    for each in compose["services"].values():
        if "build" in each:
            images[each["image"]] = each["build"]
    for name, build in images.items():
        docker.docker(
            "build", "--quiet", "--network=host", "--tag", name, "--file", build["dockerfile"],
            *([f"--target={build['target']}"] if "target" in build else []), str(ROOT),
            seconds=1500,
        )  # fmt: skip
    services = [
        name
        for name, each in compose["services"].items()
        if name not in WITHOUT and "profiles" not in each
    ]
    try:
        up(docker, *services)
        yield docker
    finally:
        docker.compose(*FILE, "down", "--volumes", "--timeout=30")


FILE = ("--file", str(ROOT / "docker-compose.yml"), "--project-name=fedge-test")


def up(docker: Engine, *arguments: str) -> None:
    try:
        docker.compose(
            *FILE, "up", "--detach", "--wait", "--no-build", "--pull=never", *arguments, seconds=900
        )
    except BuildError as exc:
        logs = docker.compose(*FILE, "logs", "--tail=20")
        raise AssertionError(f"{exc}\n{logs[-20000:]}") from exc


def fedge(docker: Engine, *arguments: str) -> str:
    return docker.compose(*FILE, "run", "--rm", "--no-TTY", "fedge", *arguments)


def until(docker: Engine, is_so: Callable[[list[Any]], bool], *what: str) -> list[Any]:
    deadline = time.monotonic() + 240
    while True:
        found: list[Any] = json.loads(fedge(docker, "get", *what, "-o", "json"))["items"]
        if is_so(found):
            return found
        assert time.monotonic() < deadline, json.dumps([each.get("status") for each in found])
        time.sleep(1)


def is_ready(node: Any) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    return conditions.get("Ready") == "True"


def test_two_edges_from_the_image_join_and_run_a_pod(system: Engine) -> None:
    nodes = until(system, lambda found: len(list(filter(is_ready, found))) == 2, "nodes")
    assert {each["metadata"]["name"] for each in nodes} == {"edge-1", "edge-2"}
    fedge(system, "apply", "-f", "/usr/share/fedge/hello")
    until(system, lambda found: [p["status"]["phase"] for p in found] == ["Running"], "pods")


def test_edges_have_the_address_where_pods_reach_the_api(system: Engine) -> None:
    for name in ("edge-1", "edge-2"):
        shown = system.compose(
            *FILE, "exec", "--no-TTY", name, "ip", "-brief", "address", "show", "lo"
        )
        assert "169.254.30.10/32" in shown


@pytest.mark.parametrize("name", sorted(CLOUD))
def test_image_has_all_that_is_ever_loaded(system: Engine, name: str) -> None:
    program, *arguments = loads_all(CLOUD[name], but=CHECKOUT_ONLY if name == "cli" else ())
    system.docker(
        "run",
        "--rm",
        "--network=none",
        f"--entrypoint={program}",
        f"fedge/{name}:0.1.0",
        *arguments,
    )


def test_services_run_as_nobody(system: Engine) -> None:
    for name in ("hub", "controller", "device", "apiserver"):
        [container] = system.compose(*FILE, "ps", "--quiet", name).split()
        [about] = json.loads(system.docker("inspect", container))
        user = about["Config"]["User"].partition(":")[0]
        assert user.isdecimal()
        assert int(user) > 0
        assert about["HostConfig"]["ReadonlyRootfs"]


def test_three_controllers_share_the_nodes_and_one_may_be_killed(system: Engine) -> None:
    up(system, "--scale=controller=3", "--no-recreate", "--no-deps", "controller")
    containers = system.compose(*FILE, "ps", "--quiet", "controller").split()
    assert len(containers) == 3
    system.docker("kill", containers[0])
    fedge(system, "delete", "pod", "hello")
    fedge(system, "apply", "-f", "/usr/share/fedge/hello")
    until(system, lambda found: [p["status"]["phase"] for p in found] == ["Running"], "pods")


def test_image_runs_with_docker_and_says_what_it_lacks(docker: Engine, built: Built) -> None:
    docker.docker("load", "--input", str(built.archive))
    with pytest.raises(BuildError, match="no volume is mounted at /var/lib/fedge"):
        docker.docker("run", "--rm", "--network=host", "fedge/edge:0.1.0")
    docker.docker("volume", "create", "named")
    try:
        with pytest.raises(BuildError, match=r"is the folder .*/named/_data"):
            docker.docker(
                "run", "--rm", "--network=host", "--volume=named:/var/lib/fedge", "fedge/edge:0.1.0"
            )
    finally:
        docker.docker("volume", "rm", "named")
