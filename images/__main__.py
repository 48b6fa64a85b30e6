"""Build the edge's image: ``python -m images [--architecture arm64]``.

Prints the digest. The archive, its digest and its bill of materials lie in ``.cache/edge-image``;
what was built from the same inputs before is not built again.
"""

import argparse
import sys
from pathlib import Path

from images.cached import CACHE, edge_image
from images.errors import BuildError


def main() -> int:
    """Build, and say where the image is."""
    parser = argparse.ArgumentParser(prog="python -m images", description=__doc__)
    parser.add_argument("--architecture", default="amd64", choices=["amd64", "arm64"])
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of what is kept")
    given = parser.parse_args()
    try:
        built = edge_image(given.architecture, cache=given.cache, say=_say)
    except BuildError as exc:
        sys.stderr.write(f"images: {exc}\n")
        return 1
    size = built.archive.stat().st_size / 1e6
    sys.stdout.write(f"{built.reference}  {given.architecture}  {built.digest}  {size:.1f} MB\n")
    sys.stdout.write(f"{built.archive}\n{built.bill}\n")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"images: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
