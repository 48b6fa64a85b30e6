"""Files as layers, layers as an image: an archive in the OCI layout that Docker loads as well.

The layout is https://github.com/opencontainers/image-spec/blob/main/image-layout.md; the file
``manifest.json`` beside it is what ``docker load`` reads, of any age. Layers are compressed with
gzip, which every engine knows (decision 0030). Owners, times and the order of files are fixed, so
that equal content has an equal digest.
"""

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

EPOCH: Final = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
"""Time of all files (https://reproducible-builds.org/specs/source-date-epoch/)."""
_LEVEL: Final = 6
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A compressed layer."""

    content: bytes
    digest: str
    """Of the compressed content."""
    diff_id: str
    """Of the content before it was compressed."""
    created_by: str


def layer(
    root: Path,
    *,
    created_by: str,
    is_in: Callable[[str], bool],
    owners: Mapping[str, int] | None = None,
) -> Layer:
    """Make a layer of the files of a folder.

    Args:
        root: the folder.
        created_by: what it holds, for the image's history.
        is_in: says of a path (``usr/bin/erl``) whether it belongs to the layer. Folders come with
            their files; empty ones too, if they belong to it themselves.
        owners: numeric owner and group of paths that are not root's.
    """
    owners = owners or {}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        added: set[str] = set()
        first: dict[tuple[int, int], str] = {}
        for path in _walk(root):
            name = str(path.relative_to(root))
            if not is_in(name):
                continue
            for parent in reversed(Path(name).parents[:-1]):
                if str(parent) not in added:
                    added.add(str(parent))
                    archive.addfile(_member(root, root / parent, owners))
            if name in added:
                continue
            added.add(name)
            member = _member(root, path, owners)
            if member.isfile():
                status = path.stat()
                known = first.setdefault((status.st_dev, status.st_ino), name)
                if status.st_nlink > 1 and known != name:
                    member.type, member.linkname, member.size = tarfile.LNKTYPE, known, 0
                    archive.addfile(member)
                else:
                    with path.open("rb") as file:
                        archive.addfile(member, file)
            else:
                archive.addfile(member)
    plain = out.getvalue()
    packed = gzip.compress(plain, compresslevel=_LEVEL, mtime=0)
    return Layer(
        content=packed, digest=digest(packed), diff_id=digest(plain), created_by=created_by
    )


def archive(
    layers: Iterable[Layer],
    *,
    name: str,
    architecture: str,
    config: Mapping[str, Any],
    annotations: Mapping[str, str] | None = None,
) -> tuple[bytes, str]:
    """Return the image as an archive, and its digest (that of its manifest).

    Args:
        layers: lowest first.
        name: full name with registry host and tag; the host need not exist.
        architecture: as OCI calls it, which is as Debian does.
        config: what is run and how (``Entrypoint``, ``Env``, ...).
        annotations: of the manifest.
    """
    layers = list(layers)
    moment = _moment()
    described = _json(
        {
            "created": moment,
            "architecture": architecture,
            "os": "linux",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in layers]},
            "history": [{"created": moment, "created_by": each.created_by} for each in layers],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, described),
            "layers": [_descriptor(_LAYER, each.content) for each in layers],
            "annotations": dict(annotations or {}),
        }
    )
    named = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    platform = {"architecture": architecture, "os": "linux"}
    index = _json(
        {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": [
                {
                    **_descriptor(_MANIFEST, manifest),
                    "annotations": named,
                    "platform": platform,
                }
            ],
        }
    )
    blobs = {_blob(each): each for each in (described, manifest)}
    blobs |= {_blob(each.content): each.content for each in layers}
    for_docker = [
        {
            "Config": _blob(described),
            "RepoTags": [name],
            "Layers": [_blob(each.content) for each in layers],
        }
    ]
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": index,
        "manifest.json": _json(for_docker),
        **dict(sorted(blobs.items())),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as written:
        for folder in ("blobs", "blobs/sha256"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            written.addfile(member)
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))
    return out.getvalue(), digest(manifest)


def digest(content: bytes) -> str:
    """Return a digest as OCI writes it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _walk(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _member(root: Path, path: Path, owners: Mapping[str, int]) -> tarfile.TarInfo:
    status = path.lstat()
    member = tarfile.TarInfo(str(path.relative_to(root)))
    member.mtime = EPOCH
    member.uid = member.gid = owners.get(member.name, 0)
    member.mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
    elif stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
    else:
        member.size = status.st_size
    return member


def _moment() -> str:
    from datetime import UTC, datetime  # noqa: PLC0415 - nothing here may ask for the time of day

    return datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _blob(content: bytes) -> str:
    return f"blobs/sha256/{digest(content).removeprefix('sha256:')}"


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
