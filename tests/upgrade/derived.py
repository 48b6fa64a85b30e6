"""Other versions of an image: the same with another version on it, and with files changed."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_VERSION = "org.opencontainers.image.version"
_NAME = "io.containerd.image.name"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def derive(
    archive: Path,
    target: Path,
    *,
    version: str,
    files: Mapping[str, str] | None = None,
    layer: bytes = b"",
) -> str:
    """Write an image that is another version of the one in ``archive``; return its name.

    Args:
        archive: of the image.
        target: where the other is written.
        version: that it says it is.
        files: text of files that are other ones, or whiteouts.
        layer: a layer, not compressed, below these.
    """
    with tarfile.open(archive) as opened:

        def read(name: str) -> Any:
            file = opened.extractfile(name)
            assert file is not None
            return json.load(file)

        blobs: dict[str, bytes] = {}

        def blob(content: bytes) -> dict[str, Any]:
            digest = hashlib.sha256(content).hexdigest()
            blobs[f"blobs/sha256/{digest}"] = content
            return {"digest": f"sha256:{digest}", "size": len(content)}

        index = read("index.json")
        [described] = index["manifests"]
        manifest = read(_path(described))
        config = read(_path(manifest["config"]))
        for content in filter(None, (layer, _layer(files or {}))):
            manifest["layers"].append({"mediaType": _LAYER, **blob(content)})
            config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(content).hexdigest()}")
            config.get("history", []).append({"created_by": "a test"})
        manifest["config"] |= blob(json.dumps(config).encode())
        manifest.setdefault("annotations", {})[_VERSION] = version
        described |= blob(json.dumps(manifest).encode())
        name = described["annotations"][_NAME].rpartition(":")[0] + f":{version}"
        described["annotations"] |= {_NAME: name, "org.opencontainers.image.ref.name": version}
        with tarfile.open(target, "w") as written:
            for member in opened:
                if member.name.startswith("blobs/") or member.name == "oci-layout":
                    written.addfile(member, opened.extractfile(member))
            for path, content in {**blobs, "index.json": json.dumps(index).encode()}.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                written.addfile(member, io.BytesIO(content))
    return str(name)


def _path(descriptor: Mapping[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def _layer(files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(text), 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()
