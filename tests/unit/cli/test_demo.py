"""What the demo says, and how its story ends when a step does not."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from fedge_cli import demo
from fedge_cli.demo import RunningContainer, Story
from fedge_cli.errors import CommandError, UsageError
from fedge_cli.getting import Table
from fedge_cli.local import translated
from fedge_cli.telling import Telling
from fedge_local.errors import NotReadyError
from fedge_local.stack import Stack, Step
from tests.unit.cli.server import Server

CONTAINER = RunningContainer(
    id="c" * 64, image="sha256:" + "1" * 64, args=("/hello",), env=("A=1",), mounts=(("/v", "/s"),)
)
PODS = "/api/v1/namespaces/default/pods"


def told(*, terminal: bool = False) -> tuple[Telling, io.StringIO]:
    out = io.StringIO()
    return Telling(Console(file=out, force_terminal=terminal, width=100)), out


def test_steps_are_plain_lines_where_nobody_watches() -> None:
    telling, out = told()
    with telling.steps() as steps, telling.waiting("something"):
        for state in ("starting", "ready"):
            steps(Step(where="cloud", name="hub", state=state, seconds=1.25))
    assert out.getvalue() == "   cloud    hub          ready      1.2 s\n"


def test_steps_move_on_a_terminal() -> None:
    telling, out = told(terminal=True)
    with telling.steps() as steps:
        steps(Step(where="cloud", name="hub", state="starting", seconds=0.1))
    assert "starting" in out.getvalue()
    assert "\x1b[" in out.getvalue()


def test_names_in_brackets_are_told_as_they_are() -> None:
    telling, out = told()
    telling.heading("[red]not markup")
    telling.line("[red]not markup")
    telling.table(Table(["A"], [["[red]not markup"]]))
    assert out.getvalue().count("[red]not markup") == 3


def test_container_with_another_spec_is_told_as_different() -> None:
    other = replace(CONTAINER, id="d" * 64, env=("A=2",))
    assert not CONTAINER.same_spec(other)
    assert demo._compared(CONTAINER, other).rows[-1] == [
        "", "new", "same", "same", "DIFFERENT", "same",
    ]  # fmt: skip
    assert CONTAINER.same_spec(replace(CONTAINER, id="d" * 64))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def story(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    story = Story(Stack(tmp_path / "stack"), repository=tmp_path)
    monkeypatch.setattr(story, "api", server.api)
    return story


def pod(container: str, restarts: int) -> dict[str, Any]:
    status = {
        "restartCount": restarts, "state": {"running": {}}, "containerID": f"containerd://{container}",
    }  # fmt: skip
    return {
        "metadata": {"name": "hello"},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


async def test_pod_is_not_taken_for_running_by_what_the_cloud_knew_before(
    server: Server, story: Story
) -> None:
    new = {"type": "MODIFIED", "object": pod(CONTAINER.id, 2)}

    def respond(request: httpx.Request) -> dict[str, Any]:
        if "watch" in request.url.params:
            return new
        return {"metadata": {"resourceVersion": "7"}, "items": [pod("old", 2)]}

    server.routes[f"GET {PODS}"] = respond
    assert (await story.pod_running(restarts=2))["status"] == pod("old", 2)["status"]
    seen = await story.pod_running(restarts=2, container=CONTAINER)
    assert seen == new["object"]


async def test_wait_that_is_over_says_what_for_what_was_found_and_where_to_look(
    server: Server, story: Story
) -> None:
    server.routes[f"GET {PODS}"] = lambda request: (
        {"type": "BOOKMARK", "object": {}}
        if "watch" in request.url.params
        else {"metadata": {"resourceVersion": "7"}, "items": [pod("old", 0)]}
    )
    with pytest.raises(CommandError) as caught:
        await story.pod_running(restarts=1, seconds=0.05)
    text = str(caught.value)
    assert "for pod hello Running with 1 restarts" in text
    assert json.dumps(pod("old", 0)["status"]) in text
    assert str(story.stack.folder) in text


def test_demo_of_somebody_else_than_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="root"):
        demo.show(None)


def test_first_failure_of_the_local_system_is_the_commands() -> None:
    first = NotReadyError("hub ended at its start; the end of its log ...")
    with pytest.raises(CommandError, match="hub ended") as caught, translated():
        raise ExceptionGroup("tasks", [ExceptionGroup("inner", [first])])
    assert caught.value.exit_code == 1
    with pytest.raises(CommandError, match="hub ended"), translated():
        raise first
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError
