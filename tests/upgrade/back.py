"""A gateway comes back by itself from versions that do not work: ``make test-upgrade``.

Takes several minutes: a version that does not work has its time before it is taken back.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fedge_cli.demo import EDGE, Story
from fedge_fabric import definitions
from fedge_fabric import topology as t
from fedge_fabric.fabric import Fabric
from fedge_local.edge import AMQP_PORT, MQTT_PORT
from fedge_local.errors import CommandFailedError
from fedge_slots import broker_of
from images.cached import edge_image
from tests.chaos import load
from tests.chaos.checker import Arrivals, Findings, accepted_events, compare_events
from tests.chaos.everything import Consumer
from tests.upgrade import brokers
from tests.upgrade.derived import derive
from tests.upgrade.system import (
    REPOSITORY,
    SECONDS,
    becomes,
    ended,
    entry_of,
    flow,
    give,
    make_job,
    running,
    state_of,
)

pytestmark = [pytest.mark.stack, pytest.mark.containerd, pytest.mark.timeout(900)]

SITE = "usr/local/lib/python3.13/dist-packages"
CLI = [sys.executable, "-m", "fedge_cli"]


def broken(module: str, text: str) -> dict[str, str]:
    """Return what makes a version whose module is another."""
    folder, _, name = module.rpartition("/")
    return {
        f"{SITE}/{folder}/{name}.py": text,
        # compiled ahead, and not looked up against its source
        f"{SITE}/{folder}/__pycache__/.wh.{name}.cpython-313.opt-2.pyc": "",
    }


VERSIONS = {
    "0.2.0": {"etc/fedge-release": "0.2.0\n"},
    # looked at when meta serves, not when it is loaded
    "0.3.0": broken("fedge_meta/keeping", "raise RuntimeError('this version does not work')\n"),
    "0.4.0": broken("fedge_boot/enrolling", "def join(*_, **__):\n    raise SystemExit(9)\n"),
    # deaf: what it says goes up, and nothing comes down
    "0.10.0": broken(
        "fedge_fabric/definitions",
        Path(definitions.__file__)
        .read_text()
        .replace('f"^{re.escape(topology.DOWN)}$"', '"^no-exchange-at-all$"'),
    ),
    "0.5.0": broken("fedge_twin/plugin", "raise ImportError('a library is missing')\n"),
    "0.6.0": {"etc/fedge-release": "0.6.0\n"},
}
OTHER_BROKER = "4.99.0"
"""What a RabbitMQ calls itself that is the image's own."""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("images")
    base = edge_image().archive
    found = {}
    for version, files in VERSIONS.items():
        found[version] = folder / f"{version}.tar"
        derive(base, found[version], version=version, files=files)
    layer = brokers.renamed(base, folder / "renamed", OTHER_BROKER)
    for version, files in {"0.7.0": VERSIONS["0.3.0"], "0.8.0": {}}.items():
        found[version] = folder / f"{version}.tar"
        derive(base, found[version], version=version, files=files, layer=layer)
    older, layer = brokers.older(base, folder / "older")
    assert older.startswith("3.10.")
    found["0.9.0"] = folder / "0.9.0.tar"
    derive(base, found["0.9.0"], version="0.9.0", layer=layer)
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with running(tmp_path_factory.mktemp("stack"), edge_image().archive) as story:
        yield story


async def here(story: Story, *arguments: str) -> str:
    """Run ``fedge node upgrade`` on the gateway."""
    edge = story.stack.edge(EDGE).parts
    socket = edge.folder / "data" / "run" / "edged" / "edged.sock"
    command = [*CLI, "node", "upgrade", *arguments, f"--edge-socket={socket}"]
    return await edge.host.run(*command, timeout_seconds=300)


async def test_versions_that_do_not_work_are_taken_back_one_after_the_other(
    story: Story, archives: dict[str, Path]
) -> None:
    before = await story.container_running()
    # services that never come to be ready; a deaf edge; a first process that ends; one that does
    # not even load
    for version, says in (
        ("0.3.0", "did not work as the one before within 30 s"),
        ("0.10.0", "did not work as the one before within 30 s"),
        ("0.4.0", "ended 2 times before it was ready"),
        ("0.5.0", "does not run here"),
    ):
        await give(story, archives[version])
        make_job(story, f"to-{version}", version, timeoutSeconds=30)
        status = await ended(story, f"to-{version}")
        entry = entry_of(status)
        assert status["phase"] == "Failure", json.dumps(status, indent=1)
        assert says in entry["reason"]
        assert state_of(story)["current"] == ""
        assert (await story.container_running()).id == before.id
        await story.node_ready("True")
        last = flow(status)[-1]
        assert last == (("BackUp", "False") if version == "0.5.0" else ("RollBack", "True"))


TAKEN_BACK = "did not work as the one before|ended 2 times before it was ready"
EVENTS = t.Queue(
    "upgrade.events", (t.Binding(t.REPORTED, f"node.*.event.{load.WORD}.#"),), 256, ordered=True
)


@asynccontextmanager
async def events_made(story: Story, book: Path) -> AsyncIterator[None]:
    """Have an application at the gateway make events, and note those that its broker confirms."""
    edge = story.stack.edge(EDGE).parts
    process = await edge.host.spawn(
        [
            sys.executable, "-m", "tests.chaos.load", "--node", EDGE, "--book", str(book),
            "--amqp", str(AMQP_PORT), "--mqtt", str(MQTT_PORT), "--keys", "a", "b.c",
        ],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY),
            load.ACCOUNT: edge.account,
        },
        log=book.with_suffix(".log"),
    )  # fmt: skip
    try:
        yield
    finally:
        await process.stop(grace_seconds=5)


def accepted(book: Path) -> int:
    return sum(map(len, accepted_events(book).values()))


async def accepted_while_tried(story: Story, book: Path) -> int:
    """Return how many events are accepted while a version is tried out; waits for its trial."""
    async with asyncio.timeout(SECONDS):
        while not ((trial := state_of(story).get("trial")) and trial["starts"]):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.1)
        before = last = accepted(book)
        while state_of(story).get("trial"):
            last = accepted(book)
            await asyncio.sleep(0.1)
    return last - before


async def more_accepted(book: Path, than: int) -> int:
    """Return how many events were accepted once they are more."""
    async with asyncio.timeout(60):
        while (now := accepted(book)) <= than:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.2)
    return now


async def all_arrive_once(book: Path, arrivals: Arrivals) -> None:
    """Wait until every accepted event has had its effect; once each, in order."""
    events, findings = accepted_events(book), Findings(lost=["none arrived"])
    try:
        async with asyncio.timeout(60):
            while (findings := compare_events(events, arrivals.numbers())).lost:  # noqa: ASYNC110 - a database
                await asyncio.sleep(0.2)
    except TimeoutError:
        pytest.fail(f"{len(findings.lost)} of {accepted(book)} never arrived: {findings}")
    assert findings == Findings()


@asynccontextmanager
async def events_with_the_line_cut(story: Story, folder: Path) -> AsyncIterator[Path]:
    """Have events made at the gateway with the line cut; the book of those that are accepted.

    None of them gets through meanwhile. Afterwards the line is there again, and each must have its
    effect, once and in order; and no data of a broker is left aside.
    """
    book, arrivals = folder / "book", Arrivals(folder / "arrived.db")
    edge = story.stack.edge(EDGE)
    cloud = Fabric(story.stack.amqp_url, service="upgrade", exchanges=t.CLOUD_EXCHANGES)
    cloud.subscribe(EVENTS, Consumer(arrivals).take)
    async with cloud.running():
        await story.cut_line()
        try:
            async with events_made(story, book):
                yield book
            assert arrivals.numbers() == {}  # all of them waited
        finally:
            await edge.heal()
        await story.node_ready("True")
        await all_arrive_once(book, arrivals)
    assert not list((edge.parts.folder / "data" / "rabbitmq").glob("mnesia.*"))


@pytest.mark.parametrize(
    ("version", "is_open"),
    [
        pytest.param("0.3.0", True, id="same broker"),
        pytest.param("0.7.0", False, id="another broker"),
        pytest.param("0.9.0", False, id="older broker, which does not read the data"),
    ],
)
async def test_events_accepted_with_the_line_cut_survive_a_version_that_is_taken_back(
    story: Story, archives: dict[str, Path], tmp_path: Path, version: str, is_open: bool
) -> None:
    async with events_with_the_line_cut(story, tmp_path) as book:
        before = await more_accepted(book, 20)
        async with asyncio.TaskGroup() as tasks:
            during = tasks.create_task(accepted_while_tried(story, book))
            with pytest.raises(CommandFailedError, match=TAKEN_BACK):
                await here(story, f"--file={archives[version]}", "--timeout=40s")
        assert state_of(story)["current"] == ""
        assert bool(during.result()) is is_open
        # the broker of the version before takes them again
        await more_accepted(book, max(before, accepted(book)))


def waits(status: dict[str, Any]) -> bool:
    steps = [
        step for entry in status.get("nodeStatus") or () for step in entry.get("actionFlow") or ()
    ]
    return any(each["action"] == "WaitingConfirmation" for each in steps)


async def test_somebody_agrees_by_the_command(story: Story, archives: dict[str, Path]) -> None:
    before = await story.container_running()
    await give(story, archives["0.2.0"])
    make_job(story, "asks", "0.2.0", requireConfirmation=True)
    await becomes(story, "asks", waits)
    process = await asyncio.create_subprocess_exec(
        *CLI, "node", "upgrade", EDGE, "--confirm", f"--kubeconfig={story.stack.kubeconfig}",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out.decode() == f"agreed: node {EDGE}, version 0.2.0\n"
    status = await ended(story, "asks")
    assert status["phase"] == "Completed", json.dumps(status, indent=1)
    assert (await story.container_running()).id == before.id


async def test_from_a_file_with_the_line_cut_and_still_there_after_a_restart(
    story: Story, archives: dict[str, Path]
) -> None:
    before = await story.container_running()
    edge = story.stack.edge(EDGE)
    await story.cut_line()
    said = await here(story, f"--file={archives['0.6.0']}", "--timeout=60s")
    assert said.splitlines() == [
        "version 0.6.0 is installed",
        "trying it",
        f"node {EDGE} runs 0.6.0",
    ]
    assert "it runs already" in await here(story, f"--file={archives['0.6.0']}")
    # the container starts anew, as after a power cut: from the image that it was made of
    await edge.parts.services.stop()
    await edge.parts.services.start()
    await edge.parts.services.ready(timeout_seconds=60)
    assert json.loads(await here_version(story))["version"] == "0.6.0"
    assert state_of(story)["current"].startswith("0.6.0-")
    assert (await story.container_running()).id == before.id
    await edge.heal()
    await story.node_ready("True")


async def test_another_broker_that_works_is_kept_with_what_was_queued(
    story: Story, archives: dict[str, Path], tmp_path: Path
) -> None:
    async with events_with_the_line_cut(story, tmp_path) as book:
        before = await more_accepted(book, 20)
        said = await here(story, f"--file={archives['0.8.0']}", "--timeout=60s")
        assert said.splitlines()[-1] == f"node {EDGE} runs 0.8.0"
        await more_accepted(book, max(before, accepted(book)))
    current = state_of(story)["current"]
    versions = story.stack.edge(EDGE).parts.folder / "data" / "versions"
    assert broker_of(versions / current / "root") == OTHER_BROKER


async def here_version(story: Story) -> str:
    """Return what edged tells at the gateway."""
    edge = story.stack.edge(EDGE).parts
    socket = edge.folder / "data" / "run" / "edged" / "edged.sock"
    code = (
        "import sys, json, pathlib; from fedge_cli.node_upgrading import _tell;"
        "print(json.dumps(_tell(pathlib.Path(sys.argv[1]))))"
    )
    return await edge.host.run(sys.executable, "-c", code, str(socket))
