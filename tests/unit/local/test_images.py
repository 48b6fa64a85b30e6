import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from fedge_local import images
from fedge_local.errors import MissingError


@pytest.fixture
def busybox(tmp_path: Path) -> Path:
    program = tmp_path / "busybox"
    header = bytearray(64)
    header[:4] = b"\x7fELF"
    header[5] = 1  # little endian
    header[18:20] = (183).to_bytes(2, "little")
    program.write_bytes(bytes(header))
    return program


def blobs(image: images.Image) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(image.archive)) as archive:
        return {
            member.name: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }


def test_image_is_the_same_byte_for_byte_when_built_twice(busybox: Path) -> None:
    first = images.build(images.HELLO, busybox=busybox)
    assert first == images.build(images.HELLO, busybox=busybox)


def test_image_has_another_digest_when_a_script_differs(busybox: Path) -> None:
    other = replace(images.HELLO, scripts={"/hello": "#!/bin/sh\n"})
    first = images.build(images.HELLO, busybox=busybox)
    assert first.digest != images.build(other, busybox=busybox).digest


def test_archive_is_a_whole_oci_layout(busybox: Path) -> None:
    image = images.build(images.HELLO, busybox=busybox)
    files = blobs(image)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["digest"] == image.digest
    assert entry["annotations"]["io.containerd.image.name"] == images.HELLO.name
    manifest = json.loads(files[f"blobs/sha256/{image.digest[7:]}"])
    for described in (manifest["config"], *manifest["layers"]):
        blob = files[f"blobs/sha256/{described['digest'][7:]}"]
        assert "sha256:" + hashlib.sha256(blob).hexdigest() == described["digest"]
        assert len(blob) == described["size"]


def test_image_is_for_the_architecture_of_busybox(busybox: Path) -> None:
    image = images.build(images.PAUSE, busybox=busybox)
    files = blobs(image)
    manifest = json.loads(files[f"blobs/sha256/{image.digest[7:]}"])
    config = json.loads(files[f"blobs/sha256/{manifest['config']['digest'][7:]}"])
    assert config["architecture"] == "arm64"
    assert config["config"]["Entrypoint"] == list(images.PAUSE.entrypoint)


def test_build_says_the_package_when_busybox_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="busybox-static"):
        images.build(images.PAUSE, busybox=tmp_path / "none")
