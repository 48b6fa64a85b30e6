"""What is said of the edge's health; the ill and the well are tried on the image itself."""

import json
from pathlib import Path

import pytest

from fedge_boot.health import JOINING, main


def test_gateway_that_joins_is_not_well_but_alive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = str(tmp_path / "about.json")
    assert main([], nothing) == 1
    assert capsys.readouterr().out == f"{JOINING}\n"
    assert main(["--alive"], nothing) == 0
    assert capsys.readouterr().out == f"alive: {JOINING}\n"


def test_what_does_not_run_is_not_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = tmp_path / "about.json"
    about.write_text(json.dumps({"scan": "/nowhere"}))
    monkeypatch.setattr("fedge_boot.health._state", lambda _: {"up": "false"})
    assert main(["--alive"], str(about)) == 1
    assert "broker does not run" in capsys.readouterr().out


def test_another_question_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--alvie"]) == 2
    assert "'--alvie'" in capsys.readouterr().out
