"""The edge's image, built once from the same inputs."""

import fcntl
import hashlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images import edge
from images.python import ROOT, members_of

CACHE: Final = ROOT / ".cache" / "images"
_KEPT_BUILDS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image that was built."""

    archive: Path
    """In the OCI layout; Docker and containerd load it."""
    bill: Path
    """SPDX."""
    digest: str
    """``sha256:...`` of its manifest."""
    reference: str
    """Its name with registry host and tag."""


def edge_image(
    architecture: str = "amd64",
    *,
    cache: Path = CACHE,
    say: Callable[[str], None] = lambda _: None,
) -> Built:
    """Return the edge's image, building it if this tree's was not built yet.

    Debian's packages are those of the day of the build: `make clean` forgets them.

    Args:
        architecture: as Debian calls it.
        cache: folder of what is kept.
        say: told what takes its time.

    Raises:
        BuildError: it cannot be built; with why and what to do.
    """
    os.umask(0o022)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = cache / "edge" / f"{architecture}-{_key(_inputs())}"
        if not (folder / "digest").exists():
            say(f"building {edge.reference()} for {architecture} (a minute)")
            _build(architecture, folder, cache)
            _forget_old(folder.parent)
    return Built(
        archive=folder / "edge.tar",
        bill=folder / "edge.spdx.json",
        digest=(folder / "digest").read_text(),
        reference=edge.reference(),
    )


def _build(architecture: str, folder: Path, cache: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = base(architecture, cache)
    with tempfile.TemporaryDirectory(dir=cache, prefix="root-") as scratch:
        archive, bill, digest = edge.complete(
            found, Path(scratch), architecture=architecture, cache=cache
        )
    (folder / "edge.tar").write_bytes(archive)
    (folder / "edge.spdx.json").write_bytes(bill)
    (folder / "digest").write_text(digest)


def base(architecture: str, cache: Path) -> edge.Base:
    """Return what fedge stands on, as it was put together from the same recipe before."""
    kept = cache / "base" / f"{architecture}-{_key(_recipe())}"
    if kept.exists():
        found: edge.Base = pickle.loads(kept.read_bytes())  # noqa: S301 - written below
        return found
    with tempfile.TemporaryDirectory(dir=cache, prefix="root-") as scratch:
        found = edge.base(architecture, Path(scratch), cache=cache)
    kept.parent.mkdir(exist_ok=True)
    new = kept.with_suffix(".new")
    new.write_bytes(pickle.dumps(found))
    new.replace(kept)
    _forget_old(kept.parent)
    return found


def _key(files: Iterable[Path]) -> str:
    """Return a hash of files of this tree."""
    found = hashlib.sha256()
    for path in files:
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def _recipe() -> Iterator[Path]:
    yield ROOT / "constraints.txt"
    yield from sorted((ROOT / "images").glob("*.py"))
    for member in members_of(*edge.MEMBERS):
        yield ROOT / member / "pyproject.toml"


def _inputs() -> Iterator[Path]:
    yield from _recipe()
    for member in members_of(*edge.MEMBERS):
        for path in sorted((ROOT / member).rglob("*")):
            if (
                path.is_file()
                and "__pycache__" not in path.parts
                and "_generated" not in path.parts
            ):
                yield path


def _forget_old(folder: Path) -> None:
    builds = sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
    for old in builds[_KEPT_BUILDS:]:
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
