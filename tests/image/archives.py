"""Reads an image's archive."""

import ast
import gzip
import io
import json
import sys
import tarfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO

from images import python
from images.recipe import SITE, Recipe


def content(archive: tarfile.TarFile, name: str) -> bytes:
    """Return a file of the archive."""
    file: IO[bytes] | None = archive.extractfile(name)
    assert file is not None
    return file.read()


def members(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """Return all files of the image."""
    found = []
    for name in json.loads(content(archive, "manifest.json"))[0]["Layers"]:
        unpacked = gzip.decompress(content(archive, name))
        with tarfile.open(fileobj=io.BytesIO(unpacked)) as layer_archive:
            found += layer_archive.getmembers()
    return found


def imported(member: Path) -> Iterator[tuple[str, str]]:
    """Return what a member imports when it runs, lazily too, and where."""

    def walk(nodes: Iterable[ast.AST]) -> Iterator[str]:
        for node in nodes:
            match node:
                case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=orelse):
                    yield from walk(orelse)
                case ast.Import(names=names):
                    yield from (each.name for each in names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module
                case _:
                    yield from walk(ast.iter_child_nodes(node))

    for path in sorted(member.rglob("src/**/*.py")):
        for module in walk([ast.parse(path.read_text())]):
            yield module, str(path.relative_to(python.ROOT))


def loads_all(made: Recipe, *, but: Collection[str] = ()) -> list[str]:
    """Return the command that loads, in the image, all that its members import, lazily too."""
    modules = {
        module
        for member in python.members_of(*made.members)
        for module, _ in imported(python.ROOT / member)
        if module.partition(".")[0] not in but
    }
    script = f"import importlib; [importlib.import_module(each) for each in {sorted(modules)}]"
    return ["/usr/bin/python3", "-c", script]


def missing(
    archive: tarfile.TarFile, made: Recipe, *, but: Collection[str] = ()
) -> set[tuple[str, str]]:
    """Return the modules that an image lacks, and where they are imported."""
    there = {
        member.name.removeprefix(f"{SITE}/").partition("/")[0].partition(".")[0]
        for member in members(archive)
        if member.name.startswith(f"{SITE}/")
    }
    there |= set(sys.stdlib_module_names) | set(but)
    return {
        (module, where)
        for member in python.members_of(*made.members)
        for module, where in imported(python.ROOT / member)
        if module.partition(".")[0] not in there
    }
