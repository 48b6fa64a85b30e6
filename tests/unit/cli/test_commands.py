"""The command line itself: usage, exit codes, what is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedge_cli import running
from fedge_cli.app import app
from fedge_cli.main import is_plain_run

runner = CliRunner()


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kubeconfig, no local system, no settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FEDGE_DATA_DIR", str(tmp_path / "data"))
    for name in ("KUBECONFIG", "FEDGE_KUBECONFIG", "FEDGE_NAMESPACE", "FEDGE_OUTPUT"):
        monkeypatch.delenv(name, raising=False)


COMMANDS = [
    "run", "apply", "get", "describe", "status", "logs", "exec", "delete", "version", "demo",
    "down",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage: fedge" in result.output.replace("root", "fedge")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get"], "Missing argument"),
        (["get", "pods", "-o", "xml"], "-o is 'xml'"),
        (["apply"], "say which manifests"),
        (["apply", "-f", "x", "--dry-run", "maybe"], "--dry-run is 'maybe'"),
        (["delete"], "say what to delete"),
        (["delete", "pod", "a", "-f", "x"], "say what to delete"),
        (["get", "pods", "--kubeconfig", "/nowhere"], "no kubeconfig at /nowhere"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], said: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["describe", "set", "watch", "history"])
def test_each_command_of_devices_has_help(command: str) -> None:
    result = runner.invoke(app, ["device", command, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output


@pytest.mark.parametrize(
    "variables", [{"FEDGE_EDGE_DATA_DIR": "/nowhere"}, {"FEDGE_EDGE_SOCKET": "/nowhere/edged.sock"}]
)
def test_devices_are_looked_at_on_the_node_where_that_is_meant(variables: dict[str, str]) -> None:
    result = runner.invoke(app, ["device", "describe", "ac"], env=variables)
    assert result.exit_code in {3, 4}
    assert "on this node" in result.stderr or "as root on the node" in result.stderr


def test_edge_that_never_was_is_told() -> None:
    result = runner.invoke(app, ["config", "edge", "gw"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "run `fedge demo`" in result.stderr


def test_no_server_ends_with_4_and_the_remedy() -> None:
    result = runner.invoke(app, ["get", "pods"])
    assert result.exit_code == 4
    assert "make demo" in result.stderr


def test_options_come_from_the_environment_too() -> None:
    result = runner.invoke(app, ["get", "pods"], env={"FEDGE_OUTPUT": "xml"})
    assert "-o is 'xml'" in result.stderr
    result = runner.invoke(app, ["apply", "-f", "x"], env={"FEDGE_APPLY_DRY_RUN": "maybe"})
    assert "--dry-run is 'maybe'" in result.stderr


def test_version_without_a_server_is_still_the_version() -> None:
    result = runner.invoke(app, ["version"])
    assert result.exit_code == 0
    assert "not reached" in result.stdout
    assert "no kubeconfig found" in result.stderr


def test_down_with_nothing_started_says_so() -> None:
    result = runner.invoke(app, ["down"])
    assert result.exit_code == 0
    assert "nothing was started" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "hub"], True),
        (["run", "meta", "edged"], True),
        (["run"], False),
        (["run", "hub", "--help"], False),
        (["get", "run"], False),
        ([], False),
    ],
)
def test_services_are_run_the_lean_way(arguments: list[str], expected: bool) -> None:
    assert is_plain_run(arguments) is expected


def test_unknown_service_ends_with_2_and_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert running.run(["nothing"]) == 2
    assert "there is no service 'nothing'; installed are:" in capsys.readouterr().err


def test_all_wrong_settings_are_named_at_once_by_their_variables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDGE_EDGE_NODE_NAME", raising=False)
    monkeypatch.setenv("FEDGE_EDGE_HEARTBEAT_SECONDS", "never")
    monkeypatch.setenv("FEDGE_EDGED_MAX_PARALLEL_STARTS", "0")
    monkeypatch.setenv("FEDGE_LOG_LEVEL", "loud")
    assert running.run(["meta", "edged"]) == 2
    told = capsys.readouterr().err
    assert [line.partition(":")[0] for line in told.splitlines()] == [
        "FEDGE_LOG_LEVEL",
        "FEDGE_EDGE_NODE_NAME",
        "FEDGE_EDGE_HEARTBEAT_SECONDS",
        "FEDGE_EDGED_MAX_PARALLEL_STARTS",
        "set these variables, or correct them, and start again",
    ]
    assert "FEDGE_EDGE_NODE_NAME: is not set" in told


def loaded_by(*arguments: str) -> set[str]:
    """Return the modules that a command loads."""
    code = "import sys; from fedge_cli.main import main\ntry: main()\nfinally: print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    return set(result.stdout.split())


def test_help_loads_nothing_that_it_does_not_need() -> None:
    heavy = {"httpx", "yaml", "rich.console", "pydantic", "asyncio", "fedge_local", "kubernetes"}
    assert not heavy & loaded_by("--help")


def test_running_services_loads_no_command_line() -> None:
    loaded = loaded_by("run", "nothing")
    assert "fedge_service" in loaded
    assert not {"typer", "rich.console", "httpx", "yaml", "fedge_cli.app"} & loaded
