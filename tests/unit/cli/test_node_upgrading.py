"""``fedge node upgrade``: what is made of its words, and what is said meanwhile."""

from typing import Any

import pytest
from typer.testing import CliRunner

from fedge_cli import node_upgrading
from fedge_cli.app import app
from fedge_cli.errors import CommandError, MissingError, UsageError
from tests.unit.cli.server import Server, body_of

JOBS = node_upgrading.JOBS
DIGEST = "sha256:" + "a" * 64
WAITS = [
    {"action": "Check", "status": "True"},
    {"action": "WaitingConfirmation", "status": "Unknown", "reason": "x"},
]


def entry(phase: str, steps: list[dict[str, Any]], **more: str) -> dict[str, Any]:
    return {"nodeName": "gw-1", "phase": phase, "actionFlow": steps, **more}


@pytest.mark.parametrize(
    ("image", "version", "repository", "digest"),
    [
        ("fedge/edge:0.2.0", "0.2.0", "fedge/edge", ""),
        ("r.example:5000/f/edge:0.2.0", "0.2.0", "r.example:5000/f/edge", ""),
        (f"r.example/edge:v2@{DIGEST}", "v2", "r.example/edge", DIGEST),
        (f"r.example/edge@{DIGEST}", "a" * 12, "r.example/edge", DIGEST),
    ],
)
def test_reference_says_version_repository_and_digest(
    image: str, version: str, repository: str, digest: str
) -> None:
    spec = node_upgrading.job_for("gw-1", image, seconds=60, confirm=True)["spec"]
    assert (spec["version"], spec["image"]) == (version, repository)
    assert spec.get("imageDigestGatter", {}).get("amd64", "") == digest
    assert (spec["nodeNames"], spec["timeoutSeconds"]) == (["gw-1"], 60)
    assert spec["requireConfirmation"] is True


@pytest.mark.parametrize("image", ["fedge/edge", "r.example:5000/edge"])
def test_reference_without_a_version_is_refused(image: str) -> None:
    with pytest.raises(UsageError, match="names no version"):
        node_upgrading.job_for("gw-1", image, seconds=60, confirm=False)


def follow(*statuses: dict[str, Any]) -> tuple[list[str], Server]:
    told: list[str] = []
    left = list(statuses)
    server = Server(
        {
            f"POST {JOBS}": lambda request: {**body_of(request), "metadata": {"name": "j"}},
            f"GET {JOBS}/j": lambda _: {"status": left.pop(0) if len(left) > 1 else left[0]},
        }
    )
    job = node_upgrading.job_for("gw-1", "e:2", seconds=60, confirm=False)
    with server.api() as api:
        node_upgrading.upgrade(api, job, say=told.append)
    return told, server


def test_steps_are_told_as_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_upgrading, "LOOK_SECONDS", 0)
    done = [{"action": "Check", "status": "True"}, {"action": "Upgrade", "status": "True"}]
    over = [{"type": "Complete", "status": "True"}]
    told, _ = follow(
        {},
        {"nodeStatus": [entry("InProgress", done[:1])]},
        {
            "nodeStatus": [entry("Successful", done, currentVersion="2")],
            "conditions": over,
        },
    )
    assert told == ["nodeupgradejob/j", "Check: done", "Upgrade: done", "node gw-1 runs 2"]


def test_failure_is_an_error_with_the_reason() -> None:
    failed = [{"action": "Upgrade", "status": "False", "reason": "no link"}]
    status = {
        "nodeStatus": [entry("Failure", failed, reason="1 runs again: no link")],
        "conditions": [{"type": "Failed"}],
    }
    with pytest.raises(CommandError, match="node gw-1: 1 runs again: no link"):
        follow(status)


def test_node_that_waits_for_somebody_or_is_away_keeps_nobody_waiting() -> None:
    told, _ = follow({"nodeStatus": [entry("InProgress", WAITS)]})
    assert told[-1] == "WaitingConfirmation: waits: x"
    # its turn comes at once, but for a node that is away
    told, _ = follow(
        {"nodeStatus": [entry("Pending", [])]},
        {"nodeStatus": [entry("Pending", [], reason="the node is away")]},
    )
    assert told[-1].startswith("the node is away; see `fedge get nodeupgradejob j")


def test_agreeing_names_the_node_in_the_jobs_that_wait() -> None:
    def job(name: str, steps: list[dict[str, Any]], agreed: str = "") -> dict[str, Any]:
        annotations = {node_upgrading.CONFIRMED: agreed} if agreed else {}
        return {
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"version": "2"},
            "status": {"nodeStatus": [entry("InProgress", steps)]},
        }

    server = Server(
        {
            f"GET {JOBS}": {"items": [job("done", WAITS[:1]), job("waits", WAITS, "gw-0")]},
            f"PATCH {JOBS}/waits": {},
        }
    )
    told: list[str] = []
    with server.api() as api:
        node_upgrading.confirm(api, "gw-1", say=told.append)
        assert body_of(server.requests[-1])["metadata"]["annotations"] == {
            node_upgrading.CONFIRMED: "gw-0,gw-1"
        }
        assert told == ["agreed: node gw-1, version 2"]
        with pytest.raises(MissingError, match="'gw-2' waits with no upgrade"):
            node_upgrading.confirm(api, "gw-2", say=told.append)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name one of --image, --file and --confirm"),
        (["gw-1", "--image=e:2", "--confirm"], "name one of"),
        (["--image=e:2"], "name the node"),
        (["--file=x.tar", "--edge-socket=/nowhere/edged.sock"], "run this as root on the node"),
    ],
)
def test_words_that_do_not_fit_are_told(words: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["node", "upgrade", *words])
    assert result.exit_code != 0
    assert says in " ".join(result.output.split())
