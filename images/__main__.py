"""Build an image: ``python -m images [hub] [--architecture arm64]``; the edge's if none is named.

Prints the digest, and where the archive and its bill of materials lie; what was built from the same
inputs before is not built again.
"""

import argparse
import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import IO

from images.cached import CACHE, RECIPES, image
from images.errors import BuildError


def main() -> int:
    """Build, and say where the image is."""
    parser = argparse.ArgumentParser(prog="python -m images", description=__doc__)
    parser.add_argument("name", nargs="?", default="edge", choices=RECIPES)
    parser.add_argument("--architecture", default="amd64", choices=["amd64", "arm64"])
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of what is kept")
    parser.add_argument(
        "--unpack", type=Path, metavar="FOLDER", help="also unpack the image's files into a folder"
    )
    parser.add_argument("--copy", type=Path, metavar="FILE", help="also copy the archive there")
    given = parser.parse_args()
    try:
        built = image(RECIPES[given.name], given.architecture, cache=given.cache, say=_say)
        if given.copy is not None:
            shutil.copyfile(built.archive, given.copy)
        if given.unpack is not None:
            unpack(built.archive, given.unpack)
    except BuildError as exc:
        sys.stderr.write(f"images: {exc}\n")
        return 1
    size = built.archive.stat().st_size / 1e6
    sys.stdout.write(f"{built.reference}  {given.architecture}  {built.digest}  {size:.1f} MB\n")
    sys.stdout.write(f"{built.archive}\n{built.bill}\n")
    return 0


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files of an image's archive, as the Dockerfiles do."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as opened:
        [described] = json.load(_member(opened, "manifest.json"))
        for name in described["Layers"]:
            with tarfile.open(fileobj=_member(opened, name), mode="r|gz") as layer:
                layer.extractall(folder, filter="fully_trusted")


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise BuildError(f"{name} is not a file of the archive: remove the cache and build again")
    return file


def _say(text: str) -> None:
    sys.stderr.write(f"images: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
