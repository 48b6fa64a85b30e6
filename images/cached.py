"""Images, built once from the same inputs."""

import fcntl
import hashlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from images import recipe
from images.cloud import CLOUD
from images.edge import EDGE
from images.python import ROOT, members_of
from images.recipe import Base, Recipe

CACHE: Final = ROOT / ".cache" / "images"
RECIPES: Final[Mapping[str, Recipe]] = {EDGE.short_name: EDGE, **CLOUD}
"""All images, by their names without ``fedge/``."""
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


def edge_image(architecture: str = "amd64", *, cache: Path = CACHE) -> Built:
    """Return the edge's image, as `image` does."""
    return image(EDGE, architecture, cache=cache)


def image(
    made: Recipe,
    architecture: str = "amd64",
    *,
    cache: Path = CACHE,
    say: Callable[[str], None] = lambda _: None,
) -> Built:
    """Return an image, building it if this tree's was not built yet.

    Debian's packages are those of the day of the build: `make clean` forgets them.

    Args:
        made: the image's recipe.
        architecture: as Debian calls it.
        cache: folder of what is kept.
        say: told what takes its time.

    Raises:
        BuildError: it cannot be built; with why and what to do.
    """
    folder = cache / made.short_name / f"{architecture}-{_key(_inputs(made))}"
    if not (folder / "digest").exists():  # written last
        os.umask(0o022)
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "digest").exists():
                say(f"building {made.reference} for {architecture} (a minute)")
                _build(made, architecture, folder, cache)
                _forget_old(folder.parent)
    return Built(
        archive=folder / f"{made.short_name}.tar",
        bill=folder / f"{made.short_name}.spdx.json",
        digest=(folder / "digest").read_text(),
        reference=made.reference,
    )


def _build(made: Recipe, architecture: str, folder: Path, cache: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found = base(made, architecture, cache)
    with tempfile.TemporaryDirectory(dir=cache, prefix="root-") as scratch:
        archive, bill, digest = recipe.complete(
            made, found, Path(scratch), architecture=architecture, cache=cache
        )
    (folder / f"{made.short_name}.tar").write_bytes(archive)
    (folder / f"{made.short_name}.spdx.json").write_bytes(bill)
    new = folder / "digest.new"
    new.write_text(digest)
    new.replace(folder / "digest")


def base(made: Recipe, architecture: str, cache: Path) -> Base:
    """Return what fedge stands on, as it was put together from the same recipe before."""
    kept = cache / "base" / made.short_name / f"{architecture}-{_key(_below(made))}"
    if kept.exists():
        found: Base = pickle.loads(kept.read_bytes())  # noqa: S301 - written below
        return found
    with tempfile.TemporaryDirectory(dir=cache, prefix="root-") as scratch:
        found = recipe.base(made, architecture, Path(scratch), cache=cache)
    kept.parent.mkdir(parents=True, exist_ok=True)
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


def _below(made: Recipe) -> Iterator[Path]:
    yield ROOT / "constraints.txt"
    yield from sorted((ROOT / "images").glob("*.py"))
    for member in members_of(*made.members):
        yield ROOT / member / "pyproject.toml"


def _inputs(made: Recipe) -> Iterator[Path]:
    yield from _below(made)
    for folder in (*members_of(*made.members), *made.copies.values()):
        for path in sorted((ROOT / folder).rglob("*")):
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
