"""Container images built from the machine's own busybox, for where no registry is in reach.

An image is an archive in the OCI layout (https://github.com/opencontainers/image-spec), built byte
for byte the same each time: no clock, no user, no compression library has a say in it. Equal
content therefore has an equal digest, and an import can be skipped.
"""

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedge_local.errors import MissingError

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "ash", "awk", "cat", "chmod", "cp", "cut", "date", "dd", "df", "dirname", "du", "echo", "env",
    "expr", "false", "find", "free", "grep", "head", "hostname", "httpd", "id", "ifconfig", "ip",
    "kill", "ln", "ls", "mkdir", "mkfifo", "mktemp", "mount", "mv", "nc", "netstat", "nslookup",
    "od", "ping", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "route", "sed", "seq", "sh",
    "sha256sum", "sleep", "sort", "stat", "sync", "tail", "tar", "tee", "test", "time", "timeout",
    "top", "touch", "tr", "true", "umount", "uname", "uniq", "vi", "wc", "wget", "which", "whoami",
    "xargs", "yes",
)  # fmt: skip

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_EPOCH = "1970-01-01T00:00:00Z"
_ARCHITECTURES = {62: "amd64", 183: "arm64", 40: "arm", 243: "riscv64", 22: "s390x", 21: "ppc64le"}
_ELF = b"\x7fELF"
_ELF_MACHINE = slice(18, 20)
_ELF_TYPE_BIG_ENDIAN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe:
    """What an image is made of: busybox, links to its applets, and what is said here."""

    name: str
    """Full name with registry host and tag; the host need not exist."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    """Executable files by absolute path."""
    applets: tuple[str, ...] = APPLETS


@dataclass(frozen=True, slots=True)
class Image:
    """A built image."""

    name: str
    digest: str
    """``sha256:...`` of its manifest."""
    archive: bytes
    """The OCI layout as a tar archive."""


PAUSE = ImageRecipe(
    name="fedge.local/pause:1",
    entrypoint=("/bin/busybox", "sleep", "2147483647"),
    applets=(),
)
"""What keeps a pod's namespaces. The runtime ends it with SIGKILL, so it needs no handlers."""

SHELL = ImageRecipe(name="fedge.local/busybox:1", command=("sh",))
"""busybox alone: the command is the pod's."""

_HELLO = """\
#!/bin/sh
# Says who greets whom, then serves /www until it is told to stop.
trap 'echo "goodbye"; exit 0' TERM INT
echo "${GREETING:-Hello} from ${NODE_NAME:-a node} ($(hostname))"
mkdir -p /www
echo "${GREETING:-Hello} from ${NODE_NAME:-a node}" > /www/index.html
httpd -p "${PORT:-8080}" -h /www || exit 1
while :; do
    sleep 2147483647 &
    wait $!
done
"""

HELLO = ImageRecipe(
    name="fedge.local/hello:demo",
    entrypoint=("/hello",),
    scripts={"/hello": _HELLO},
)
"""Greets with ``GREETING``, serves the greeting on ``PORT`` (8080), ends at once on SIGTERM."""

ALL = (PAUSE, SHELL, HELLO)


def build(recipe: ImageRecipe, *, busybox: Path = BUSYBOX) -> Image:
    """Build an image for this machine's architecture.

    Args:
        recipe: what goes in.
        busybox: a statically linked busybox.

    Raises:
        MissingError: busybox is not there.
    """
    try:
        program = busybox.read_bytes()
    except FileNotFoundError as exc:
        raise MissingError(f"{busybox} is missing: run `apt-get install busybox-static`") from exc
    layer = _layer(recipe, program)
    config = _json(
        {
            "created": _EPOCH,
            "architecture": _architecture(program),
            "os": "linux",
            "config": {
                "Env": ["PATH=/bin", *(f"{k}={v}" for k, v in sorted(recipe.environment.items()))],
                "Entrypoint": list(recipe.entrypoint),
                "Cmd": list(recipe.command),
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created": _EPOCH, "created_by": "fedge"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer)],
        }
    )
    index = _json(
        {
            "schemaVersion": 2,
            "mediaType": _INDEX,
            "manifests": [
                _descriptor(_MANIFEST, manifest)
                | {
                    "annotations": {
                        "io.containerd.image.name": recipe.name,
                        "org.opencontainers.image.ref.name": recipe.name.rpartition(":")[2],
                    }
                }
            ],
        }
    )
    blobs = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in (layer, config, manifest)}
    archive = _tar(
        [_directory("blobs/"), _directory("blobs/sha256/")],
        {
            **blobs,
            "index.json": index,
            "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        },
        mode=0o644,
    )
    return Image(recipe.name, _digest(manifest), archive)


def _layer(recipe: ImageRecipe, program: bytes) -> bytes:
    folders = ["bin/", "dev/", "etc/", "proc/", "root/", "run/", "sys/", "tmp/", "var/"]
    members = [_directory(each, mode=0o1777 if each == "tmp/" else 0o755) for each in folders]
    for applet in recipe.applets:
        link = tarfile.TarInfo(f"bin/{applet}")
        link.type = tarfile.SYMTYPE
        link.linkname = "busybox"
        members.append(link)
    files = {"bin/busybox": program}
    files |= {path.lstrip("/"): text.encode() for path, text in sorted(recipe.scripts.items())}
    return _tar(members, files, mode=0o755)


def _tar(members: list[tarfile.TarInfo], files: Mapping[str, bytes], *, mode: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in members:
            archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mode = mode
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _directory(name: str, *, mode: int = 0o755) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    member.mode = mode
    return member


def _architecture(program: bytes) -> str:
    """Return the image's architecture, read from the program's ELF header."""
    if not program.startswith(_ELF):
        raise MissingError(
            "/bin/busybox is not a Linux program: run `apt-get install --reinstall busybox-static`"
        )
    order: Any = "big" if program[5] == _ELF_TYPE_BIG_ENDIAN else "little"
    machine = int.from_bytes(program[_ELF_MACHINE], order)
    return _ARCHITECTURES.get(machine, "amd64")


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def main(file: str) -> None:
    """Write an archive of all images: ``python -m fedge_local.images FILE``."""
    blobs: dict[str, bytes] = {}
    manifests: list[Any] = []
    for image in map(build, ALL):
        with tarfile.open(fileobj=io.BytesIO(image.archive)) as archive:
            for member in archive.getmembers():
                opened = archive.extractfile(member)
                if opened is None:
                    continue
                content = opened.read()
                if member.name == "index.json":
                    manifests += json.loads(content)["manifests"]
                else:
                    blobs[member.name] = content
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
    folders = [_directory("blobs/"), _directory("blobs/sha256/")]
    Path(file).write_bytes(_tar(folders, {**blobs, "index.json": _json(index)}, mode=0o644))


if __name__ == "__main__":
    main(sys.argv[1])
