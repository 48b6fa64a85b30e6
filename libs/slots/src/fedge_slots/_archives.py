"""Archives of images, as ``make edge-image``, Docker and containerd write them.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md

Every part is checked against its digest while it is read, so that a file that was cut short or
changed on its way is noticed before anything of it runs.
"""

import hashlib
import json
import platform
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, cast

import msgspec

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
"""Go's names by the kernel's."""
_MAX_JSON: Final = 4 * 1024 * 1024
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_VERSION: Final = "org.opencontainers.image.version"


class ArchiveError(Exception):
    """The file is no image that can be used here; the text says why and what to do."""


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """An image in an archive.

    Attributes:
        digest: of its manifest.
        version: as it says itself; empty if it does not.
        architecture: as Go names it.
        layers: digests of its layers, lowest first.
        packed_bytes: of the layers, packed.
        labels: of its configuration.
    """

    digest: str
    version: str
    architecture: str
    layers: tuple[str, ...]
    packed_bytes: int
    labels: Mapping[str, str]


def own_architecture() -> str:
    """Return this machine's architecture as Go names it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def describe(path: Path) -> Described:
    """Return which image an archive holds.

    Raises:
        ArchiveError: it holds none, several, or one for another processor.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            index = _json(archive, "index.json")
            digest = _one_manifest(archive, index["manifests"])
            manifest = _blob_json(archive, digest)
            config = _blob_json(archive, manifest["config"]["digest"])
            annotations = manifest.get("annotations") or {}
            labels = (config.get("config") or {}).get("Labels") or {}
            found = Described(
                digest=digest,
                version=str(annotations.get(_VERSION) or labels.get(_VERSION) or ""),
                architecture=str(config["architecture"]),
                layers=tuple(each["digest"] for each in manifest["layers"]),
                packed_bytes=sum(int(each["size"]) for each in manifest["layers"]),
                labels=labels,
            )
    except (OSError, tarfile.TarError, KeyError, TypeError, ValueError) as exc:
        raise ArchiveError(
            f"{path} is not an archive of an image in the OCI layout ({exc!r}): `make edge-image`"
            " makes one, `docker save` and `ctr images export` do"
        ) from exc
    if found.architecture != own_architecture():
        raise ArchiveError(
            f"the image in {path} is for {found.architecture}, this machine is"
            f" {own_architecture()}: take the image for it"
        )
    return found


def unpack(path: Path, described: Described, root: Path) -> None:
    """Unpack an image into an empty folder, as a container of it would see it.

    Args:
        path: of the archive.
        described: what was found in it.
        root: the folder.

    Raises:
        ArchiveError: a part is missing or is not what its digest says.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for digest in described.layers:
                _unpack_layer(archive, digest, root)
    except (OSError, tarfile.TarError, KeyError) as exc:
        raise ArchiveError(f"{path} cannot be unpacked: {exc!r}; copy it anew") from exc


def _unpack_layer(archive: tarfile.TarFile, digest: str, root: Path) -> None:
    with _blob(archive, digest) as blob:
        checked = _Checked(blob)
        # gzip or none; a stream, so that it is read once and from its begin to its end
        with tarfile.open(fileobj=cast("IO[bytes]", checked), mode="r|*") as layer:
            for member in layer:
                _apply(layer, member, root)
        checked.drain()
    if checked.digest != digest:
        raise ArchiveError(f"layer {digest} is not what its digest says: copy the file anew")


def _apply(layer: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    path = PurePosixPath(member.name)
    name = path.name
    if name == _OPAQUE:
        folder = _inside(root, path).parent
        for each in folder.iterdir() if folder.is_dir() else ():
            _remove(each)
        return
    if name.startswith(_WHITEOUT):
        _remove(_inside(root, path).with_name(name.removeprefix(_WHITEOUT)))
        return
    if member.isdev():
        return  # /dev is the container's
    target = _inside(root, path)
    if not member.isdir() and (target.is_symlink() or target.exists()):
        _remove(target)
    layer.extract(member, root, filter="tar")


def _inside(root: Path, path: PurePosixPath) -> Path:
    found = root / path.relative_to("/") if path.is_absolute() else root / path
    # by a link of an earlier layer it may lead out as well
    if ".." in path.parts or not found.parent.resolve().is_relative_to(root.resolve()):
        raise ArchiveError(f"a layer has a file {str(path)!r} outside of its root")
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _one_manifest(archive: tarfile.TarFile, manifests: list[dict[str, Any]]) -> str:
    """Return the digest of the one image for this machine."""
    fitting = [
        each
        for each in manifests
        if (each.get("platform") or {}).get("architecture", own_architecture())
        == own_architecture()
    ]
    if len(fitting) != 1:
        raise ValueError(f"{len(fitting)} images for {own_architecture()} in it")
    digest = str(fitting[0]["digest"])
    if "index" in str(fitting[0].get("mediaType")):
        return _one_manifest(archive, _blob_json(archive, digest)["manifests"])
    return digest


def _blob(archive: tarfile.TarFile, digest: str) -> IO[bytes]:
    kind, _, number = digest.partition(":")
    file = archive.extractfile(f"blobs/{kind}/{number}")
    if file is None or kind != "sha256":
        raise KeyError(digest)
    return file


def _blob_json(archive: tarfile.TarFile, digest: str) -> Any:
    with _blob(archive, digest) as file:
        content = file.read(_MAX_JSON)
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise ValueError(f"{digest} is not what its digest says")
    return json.loads(content)


def _json(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    with file:
        return json.loads(file.read(_MAX_JSON))


class _Checked:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._hash.update(piece)
        return piece

    def drain(self) -> None:
        while self.read(1024 * 1024):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
