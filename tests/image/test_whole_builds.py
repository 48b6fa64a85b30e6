"""Two whole builds of the image from the same inputs are the same, wherever and however made.

It builds the image twice, and so runs with ``FEDGE_TEST_REPRODUCIBLE=1`` only
(``make test-reproducible``).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from images.cached import CACHE, edge_image

ROOT = Path(__file__).resolve().parents[2]
TREE = ("images", "libs", "scripts", "services", "constraints.txt", "pyproject.toml")
"""What a build reads."""
FETCHED = ("debian", "wheels")
ARCHITECTURE = os.environ.get("FEDGE_TEST_ARCHITECTURE") or "amd64"

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.environ.get("FEDGE_TEST_REPRODUCIBLE") != "1",
        reason="builds the image twice: `make test-reproducible`",
    ),
]


def build(tree: Path, cache: Path, **variables: str) -> tuple[bytes, bytes]:
    """Build from a tree, nobody else allowed to read what is made; return archive and bill."""
    command = [sys.executable, "-m", "images", f"--architecture={ARCHITECTURE}"]
    ended = subprocess.run(
        [*command, f"--cache={cache}"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), **variables},
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    _, archive, bill = ended.stdout.splitlines()
    assert Path(archive).is_relative_to(cache), archive
    return Path(archive).read_bytes(), Path(bill).read_bytes()


def test_two_whole_builds_are_the_same(tmp_path: Path) -> None:
    edge_image(ARCHITECTURE)  # all that both are made of is fetched
    tree = tmp_path / "another tree"
    for name in TREE:
        if (ROOT / name).is_dir():
            # without the files' modes and times
            shutil.copytree(
                ROOT / name, tree / name, copy_function=shutil.copyfile,
                ignore=shutil.ignore_patterns("__pycache__", "_generated"),
            )  # fmt: skip
        else:
            shutil.copyfile(ROOT / name, tree / name)
    shutil.copytree(
        ROOT / "libs/cri/src/fedge_cri/_generated", tree / "libs/cri/src/fedge_cri/_generated"
    )
    caches = [tmp_path / "one", tmp_path / "another of a longer name"]
    for cache in caches:
        for name in FETCHED:
            shutil.copytree(CACHE / name, cache / name, ignore=shutil.ignore_patterns("own"))
    first = build(ROOT, caches[0], TZ="UTC", PYTHONHASHSEED="1", LC_ALL="C.UTF-8")
    second = build(tree, caches[1], TZ="Pacific/Kiritimati", PYTHONHASHSEED="2", LC_ALL="C")
    assert first == second
