"""What a program says of itself: for which processor it is, and which libraries it needs.

https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images.errors import BuildError

MACHINES: Final = {"amd64": 62, "arm64": 183}
"""Number of the processor by Debian's name of the architecture."""
_MAGIC: Final = b"\x7fELF\x02\x01"
"""64 bits, little-endian."""
_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRINGS = 0, 1, 5


@dataclass(frozen=True, slots=True)
class Program:
    """A program or a library."""

    path: Path
    machine: int
    needed: tuple[str, ...]


def programs(root: Path) -> Iterator[Program]:
    """Yield every program and library in a folder."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                is_program = file.read(len(_MAGIC)) == _MAGIC
            if is_program:
                yield read(path)


def read(path: Path) -> Program:
    """Return what a program says."""
    content = path.read_bytes()
    machine: int = struct.unpack_from("<H", content, 18)[0]
    [offset] = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", content, offset + i * size) for i in range(count)]
    entries: list[tuple[int, int]] = []
    for kind, _, start, _, _, length, *_ in segments:
        if kind == _DYNAMIC:
            for tag, value in struct.iter_unpack("<QQ", content[start : start + length]):
                if tag == _END:
                    break
                entries.append((tag, value))
    needed = []
    strings = next((value for tag, value in entries if tag == _STRINGS), 0)
    for kind, _, start, address, _, length, *_ in segments:
        if entries and kind == _LOAD and address <= strings < address + length:
            base = start + strings - address
            for tag, value in entries:
                if tag == _NEEDED:
                    at = base + value
                    needed.append(content[at : content.index(b"\0", at)].decode())
    return Program(path, machine, tuple(needed))


def check(root: Path, *, architecture: str) -> int:
    """See that all programs of a root folder are for one processor and find what they need.

    Returns:
        How many there are.

    Raises:
        BuildError: one is for another processor, or a library is missing.
    """
    found = list(programs(root))
    there = {each.name for each in root.rglob("*.so*")}
    for each in found:
        where = each.path.relative_to(root)
        if each.machine != MACHINES[architecture]:
            raise BuildError(
                f"{where} is not for {architecture}: its ELF machine is {each.machine}"
            )
        if missing := [name for name in each.needed if name not in there]:
            raise BuildError(f"{where} needs {missing}: keep the package that has it")
    return len(found)
