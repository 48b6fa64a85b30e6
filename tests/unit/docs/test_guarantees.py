"""Every cell of the guarantees' tables names a test that is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.everything import FAULTS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
LINK = re.compile(r"\(#([a-z0-9-]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+(?:::\w+)?)(\[fault\])?`")


def tables() -> Iterator[list[list[str]]]:
    """Yield the tables of the page, each as rows of cells."""
    rows: list[list[str]] = []
    for line in [*PAGE.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            yield rows
            rows = []


def cells() -> Iterator[tuple[str, str]]:
    """Yield each cell beside the first of its row, with what the row is about."""
    for head, _, *rows in tables():
        for row in rows:
            assert len(row) == len(head), f"row {row[0]!r} has {len(row)} cells of {len(head)}"
            for title, cell in zip(head[1:], row[1:], strict=True):
                yield f"{row[0]} / {title}", cell


def named() -> dict[str, list[tuple[str, str, bool]]]:
    """Return the tests by anchor: file, name, whether there is one for each fault."""
    found: dict[str, list[tuple[str, str, bool]]] = {}
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        anchor = re.search(r"\{ #([a-z0-9-]+) \}", section.splitlines()[0])
        if anchor is not None:
            found[anchor[1]] = [(m[1], m[2], bool(m[3])) for m in TEST.finditer(section)]
    return found


def test_every_cell_names_a_test() -> None:
    known = named()
    found = list(cells())
    assert len(found) > 5 * len(FAULTS)
    for what, cell in found:
        anchors = LINK.findall(cell)
        assert anchors, f"{what}: no test is named"
        for anchor in anchors:
            assert known.get(anchor), f"{what}: there is no test at #{anchor}"


@pytest.mark.parametrize(
    ("file", "name", "per_fault"), sorted({each for tests in named().values() for each in tests})
)
def test_named_test_is_there(file: str, name: str, per_fault: bool) -> None:
    body: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
    *classes, function = name.split("::")
    for each in classes:
        [inside] = [node for node in body if isinstance(node, ast.ClassDef) and node.name == each]
        body = inside.body
    [test] = [
        node
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
    ]
    arguments = {each.arg for each in test.args.args}
    assert not per_fault or "fault" in arguments


def test_every_fault_that_is_made_has_a_row_and_every_row_is_made() -> None:
    first = next(tables())
    assert {row[0] for row in first[2:]} == set(FAULTS)
