"""The black-box suite knows two interfaces and nothing of how they are made here."""

import ast
from pathlib import Path

import pytest

SUITE = Path(__file__).resolve().parents[2] / "blackbox"
OWN = "own.py"
"""The one file that starts the repository's own system, loaded only if no other one is named."""


@pytest.mark.parametrize("name", sorted(each.name for each in SUITE.glob("*.py")))
def test_nothing_of_ours_is_imported(name: str) -> None:
    tree = ast.parse((SUITE / name).read_text())
    imported = {
        module
        for node in ast.walk(tree)
        for module in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    ours = {
        each
        for each in imported
        if each.startswith(("fedge", "bench", "tests")) and each != "tests.blackbox.system"
    }
    assert bool(ours) == (name == OWN), ours
