"""Layers that put another RabbitMQ into the edge's image."""

import gzip
import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from images import debian, elf
from images.__main__ import unpack
from images.cached import CACHE
from images.edge import EDGE
from images.layers import layer
from images.recipe import merged

RELEASE = "bookworm"
"""Debian's before, whose RabbitMQ is 3.10."""
_ERLANG, _RABBITMQ = "usr/lib/erlang", "usr/lib/rabbitmq"


def renamed(archive: Path, scratch: Path, name: str) -> bytes:
    """Return the layer that makes the image's broker one of another version, which is the same."""
    unpack(archive, scratch)
    [server] = (scratch / _RABBITMQ / "lib").iterdir()
    old = server.name
    server.rename(server.with_name(f"rabbitmq_server-{name}"))
    return _layer(scratch, (_RABBITMQ,), gone=(f"{_RABBITMQ}/lib/{old}",))


def older(archive: Path, scratch: Path) -> tuple[str, bytes]:
    """Return the version of Debian's RabbitMQ of before, and the layer that is it and Erlang."""
    unpack(archive, scratch)
    places = (_ERLANG, _RABBITMQ)
    before = {each for place in places for each in _files(scratch, place)}
    for place in places:
        shutil.rmtree(scratch / place)
    packages = debian.fetch(
        ("rabbitmq-server",),
        architecture=debian.machine(),
        folder=CACHE / f"debian-{RELEASE}",
        release=RELEASE,
    )
    for package in packages:
        if package.name.startswith("erlang-") or package.name == "rabbitmq-server":
            debian.unpack(package, scratch, is_kept=lambda path: _is_kept(merged(path)))
    EDGE.finish(scratch)
    elf.check(scratch, architecture=debian.machine())
    [server] = (scratch / _RABBITMQ / "lib").iterdir()
    after = {each for place in places for each in _files(scratch, place)}
    gone = tuple(sorted(before - after))
    return server.name.partition("-")[2], _layer(scratch, places, gone=gone)


def _is_kept(path: str) -> bool:
    return path.startswith((f"{_ERLANG}/", f"{_RABBITMQ}/")) and EDGE.is_kept(path)


def _files(root: Path, place: str) -> Iterator[str]:
    for path in (root / place).rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield str(path.relative_to(root))


def _layer(root: Path, places: tuple[str, ...], *, gone: tuple[str, ...]) -> bytes:
    made = layer(root, created_by="a test", is_in=lambda path: path.startswith(places))
    out = io.BytesIO(gzip.decompress(made.content))
    with tarfile.open(fileobj=out, mode="a") as archive:
        for path in gone:
            folder, _, name = path.rpartition("/")
            archive.addfile(tarfile.TarInfo(f"{folder}/.wh.{name}"))
    return out.getvalue()
