"""What the image is made of, and that it is the same each time."""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedge_local.contained import image_of
from images import cached, recipe
from images.cached import CACHE, Built
from images.edge import EDGE
from images.layers import layer
from tests.image.archives import content, members, missing

pytestmark = pytest.mark.timeout(600)  # the first test may have to build it

MAX_MEGABYTES = 160


CLOUD_ONLY = {"cel_expr_python", "httpx", "uvloop"}
"""What shared libraries load in the cloud only."""


@pytest.fixture(scope="module")
def archive(built: Built) -> Iterator[tarfile.TarFile]:
    with tarfile.open(built.archive) as opened:
        yield opened


def test_image_is_small(built: Built) -> None:
    assert built.archive.stat().st_size < MAX_MEGABYTES * 1_000_000
    assert image_of(built.archive) == (built.reference, built.digest)


def test_files_say_nothing_of_who_built_them_or_when(archive: tarfile.TarFile) -> None:
    for member in members(archive):
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", ""), member.name
        assert member.mtime == 0, member.name
        assert not member.mode & 0o022 or member.name in {"tmp", "var/tmp"} or member.issym()


def test_nothing_is_in_it_that_a_gateway_does_not_run(archive: tarfile.TarFile) -> None:
    names = [member.name for member in members(archive)]
    for part in (
        "/apt/", "bin/dpkg", "/perl", "man1", "share/doc", "machine-id", "idlelib", "_bundled",
        "rabbitmq_management", "rabbitmq_stream", "/uvloop/", "kubernetes", ".log",
    ):  # fmt: skip
        assert not [name for name in names if part in name], part
    assert "usr/bin/fedge-health" in names


def test_whatever_the_edge_imports_is_in_it(archive: tarfile.TarFile) -> None:
    assert missing(archive, EDGE, but=CLOUD_ONLY) == set()


def test_bill_names_every_package_with_version_and_hash(
    built: Built, archive: tarfile.TarFile
) -> None:
    bill = json.loads(built.bill.read_text())
    packages = {each["name"]: each for each in bill["packages"]}
    assert bill["spdxVersion"] == "SPDX-2.3"
    for name in ("rabbitmq-server", "erlang-base", "libc6", "s6", "faststream", "fedge-edged"):
        assert packages[name]["versionInfo"]
        assert len(packages[name]["checksums"][0]["checksumValue"]) == 64
    related = {each["relatedSpdxElement"] for each in bill["relationships"]}
    assert {each["SPDXID"] for each in bill["packages"]} == related
    last = json.loads(content(archive, "manifest.json"))[0]["Layers"][-1]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content(archive, last)))) as own:
        assert content(own, "usr/share/sbom/fedge-edge.spdx.json") == built.bill.read_bytes()


def test_fedge_on_top_is_the_same_each_time(built: Built, tmp_path: Path) -> None:
    base = cached.base(EDGE, "amd64", CACHE)
    _, bill, digest = recipe.complete(EDGE, base, tmp_path, architecture="amd64", cache=CACHE)
    assert digest == built.digest
    assert bill == built.bill.read_bytes()


def test_layer_is_the_same_in_whatever_order_files_were_made(tmp_path: Path) -> None:
    found = set()
    for seed in range(3):
        names = [f"{folder}/{name}" for folder in "abc" for name in "xyz"]
        random.Random(seed).shuffle(names)  # noqa: S311 - nothing secret
        root = tmp_path / str(seed)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
        (root / "a/hard").hardlink_to(root / "a/x")
        (root / "a/soft").symlink_to("x")
        found.add(layer(root, created_by="test", is_in=lambda _: True).digest)
    assert len(found) == 1
