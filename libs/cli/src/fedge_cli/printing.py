"""Data on standard output: tables, JSON, YAML, names. Colours only where a person looks."""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from fedge_cli.getting import Table, name_of

_GAP = "   "
_GREEN, _YELLOW, _RED = "\033[32m", "\033[33m", "\033[31m"
_PLAIN = "\033[0m"
_GOOD = {"Running", "Ready", "Active", "Bound", "Completed", "Succeeded", "True", "up"}
_WAITING = {
    "Pending", "ContainerCreating", "PodInitializing", "Terminating", "Unknown", "never", "unknown",
}  # fmt: skip
_COLOURED = ("STATUS", "LINK")


def is_coloured() -> bool:
    """Whether a person looks, and wants colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def table_lines(
    table: Table, *, header: bool = True, widths: Sequence[int] = (), coloured: bool = False
) -> list[str]:
    """Return a table's lines; columns are at least as wide as ``widths``."""
    rows = [table.columns, *table.rows] if header else table.rows
    needed = column_widths(table, widths)
    status = next((at for at, name in enumerate(table.columns) if name in _COLOURED), -1)
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, needed, strict=True)]
        if coloured and row is not table.columns and status >= 0:
            cells[status] = f"{_colour(row[status])}{cells[status]}{_PLAIN}"
        lines.append(_GAP.join(cells).rstrip())
    return lines


def column_widths(table: Table, widths: Sequence[int] = ()) -> list[int]:
    """Return how wide each column is, at least ``widths``."""
    found = [max(len(row[at]) for row in [table.columns, *table.rows]) for at in _range(table)]
    return [max(pair) for pair in zip(found, widths, strict=True)] if widths else found


def write_table(table: Table, *, header: bool = True, widths: Sequence[int] = ()) -> None:
    """Print a table."""
    for line in table_lines(table, header=header, widths=widths, coloured=is_coloured()):
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def render(objects: Mapping[str, Any], output: str) -> str:
    """Return objects as JSON or YAML, or their names."""
    if output == "json":
        return json.dumps(objects, indent=2, ensure_ascii=False)
    if output == "yaml":
        dumped = yaml.dump(objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        return str(dumped).rstrip("\n")
    items: Iterable[Mapping[str, Any]] = (
        objects["items"] if objects.get("kind") == "List" else [objects]
    )
    return "\n".join(name_of(each) for each in items)


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: no aliases, text of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the library's signature
        """Write everything out."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else "")


_Dumper.add_representer(str, _text)


def _range(table: Table) -> range:
    return range(len(table.columns))


def _colour(status: str) -> str:
    first = status.partition(" ")[0].partition(",")[0]
    if "(stale" in status or first in _WAITING:
        return _YELLOW
    return _GREEN if first in _GOOD else _RED
