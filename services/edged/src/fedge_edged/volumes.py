"""A pod's volumes on the node's disk.

Config maps, secrets and pod fields become folders whose whole content changes at once: a new
folder is written, then one symbolic link (``..data``) is moved over to it, as users of mounted
config maps expect (https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically).
Nothing is written that is there already. Secrets lie in memory only.
"""

import base64
import hashlib
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from fedge_edged.environment import field_value, resource_value
from fedge_edged.errors import ConfigError, MountError
from fedge_edged.pods import (
    ConfigMapSource,
    DownwardSource,
    HostPathSource,
    KeyToPath,
    Pod,
    Projection,
    SecretSource,
    Volume,
    VolumeMount,
)
from fedge_edged.ports import Objects
from fedge_objects import JsonObject, ObjectKey

log = structlog.stdlib.get_logger("fedge.edged")

_File = tuple[bytes, int]
"""Content and mode."""


class Volumes:
    """Makes and removes the volumes of pods."""

    def __init__(self, objects: Objects, *, disk: Path, memory: Path) -> None:
        """Take the objects of the node, and the folders for what lies on disk and in memory."""
        self._objects = objects
        self._disk = disk
        self._memory = memory

    def prepare(self, pod: Pod, facts: Mapping[str, str]) -> dict[str, Path]:
        """Make all volumes of ``pod``, or bring them up to date; return their paths by name.

        Raises:
            MountError: one cannot be made; the text is the kubelet's.
        """
        return {volume.name: self._prepare(pod, volume, facts) for volume in pod.spec.volumes}

    def remove(self, uid: str) -> None:
        """Remove all that lies here for a pod that is gone."""
        for root in (self._disk, self._memory):
            shutil.rmtree(root / uid, ignore_errors=True)

    def _prepare(self, pod: Pod, volume: Volume, facts: Mapping[str, str]) -> Path:
        try:
            if volume.host_path is not None:
                return _host_path(volume.name, volume.host_path)
            if volume.empty_dir is not None:
                in_memory = volume.empty_dir.medium == "Memory"
                path = self._folder(pod, "empty-dir", volume.name, in_memory=in_memory)
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o777)
                return path
            files = self._files(pod, volume, facts)
        except ConfigError as exc:
            raise MountError(
                f'MountVolume.SetUp failed for volume "{volume.name}" : {exc}'
            ) from exc
        secret = volume.secret is not None or volume.projected is not None
        path = self._folder(pod, "files", volume.name, in_memory=secret)
        write_atomically(path, files)
        return path

    def _folder(self, pod: Pod, kind: str, name: str, *, in_memory: bool) -> Path:
        root = self._memory if in_memory else self._disk
        return root / pod.metadata.uid / "volumes" / kind / name

    def _files(self, pod: Pod, volume: Volume, facts: Mapping[str, str]) -> dict[str, _File]:
        if volume.projected is not None:
            sources: Iterable[Projection] = volume.projected.sources
            mode: int | None = volume.projected.default_mode
        else:
            mode = None
            sources = [
                Projection(
                    config_map=volume.config_map,
                    secret=volume.secret,
                    downward_api=volume.downward_api,
                )
            ]
        files: dict[str, _File] = {}
        for source in sources:
            if source.config_map is not None:
                files |= self._config_map(pod, source.config_map, mode)
            elif source.secret is not None:
                files |= self._secret(pod, source.secret, mode)
            elif source.downward_api is not None:
                files |= _downward(pod, source.downward_api, mode, facts)
            elif source.service_account_token is None:
                # a token is not made yet: the pod's first event says so
                raise MountError(
                    f'volume "{volume.name}" is of a type that this node does not support'
                )
        return files

    def _config_map(self, pod: Pod, source: ConfigMapSource, mode: int | None) -> dict[str, _File]:
        obj = self._find(pod, "configmaps", source.name, optional=source.optional)
        data = {name: value.encode() for name, value in (obj.get("data") or {}).items()}
        data |= {n: base64.b64decode(v) for n, v in (obj.get("binaryData") or {}).items()}
        default = source.default_mode if mode is None else mode
        return _select(data, source.items, default, source.name, optional=source.optional)

    def _secret(self, pod: Pod, source: SecretSource, mode: int | None) -> dict[str, _File]:
        name = source.secret_name or source.name
        obj = self._find(pod, "secrets", name, optional=source.optional)
        data = {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
        default = source.default_mode if mode is None else mode
        return _select(data, source.items, default, name, optional=source.optional)

    def _find(self, pod: Pod, resource: str, name: str, *, optional: bool) -> JsonObject:
        obj = self._objects.get(ObjectKey(resource, pod.metadata.namespace, name))
        if obj is None and not optional:
            raise ConfigError(f'{resource.removesuffix("s")} "{name}" not found')
        return obj or {}


def mount_source(path: Path, mount: VolumeMount) -> Path:
    """Return what of a volume a container mounts.

    Raises:
        MountError: the sub-path leaves the volume.
    """
    if not mount.sub_path:
        return path
    target = (path / mount.sub_path).resolve()
    if not target.is_relative_to(path.resolve()):
        raise MountError(f'subPath "{mount.sub_path}" of volume "{mount.name}" leaves the volume')
    if not target.exists():
        target.mkdir(parents=True)
    return target


def write_atomically(folder: Path, files: Mapping[str, _File]) -> bool:
    """Make ``folder`` hold exactly ``files``, changing all at once.

    Returns:
        Whether anything was written.
    """
    digest = hashlib.sha256()
    for name, (content, mode) in sorted(files.items()):
        digest.update(f"{name}\0{mode:o}\0{len(content)}\0".encode() + content)
    version = f"..{digest.hexdigest()[:16]}"
    data = folder / "..data"
    is_new = not data.is_symlink() or str(data.readlink()) != version
    if is_new:
        _write_files(folder / version, files)
        _link(folder, "..data", version)
    tops = {Path(name).parts[0] for name in files}
    for top in tops:
        if not (folder / top).is_symlink():
            _link(folder, top, f"..data/{top}")
    for entry in folder.iterdir():
        if entry.name in tops or entry.name in {"..data", version}:
            continue
        # an older version, a name that is gone, or what a cut write left behind
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()
    return is_new


def _write_files(folder: Path, files: Mapping[str, _File]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, (content, mode) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)


def _link(folder: Path, name: str, target: str) -> None:
    temporary = folder / f"..{name.lstrip('.')}_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(folder / name)


def _select(
    data: Mapping[str, bytes],
    items: list[KeyToPath] | None,
    mode: int,
    name: str,
    *,
    optional: bool,
) -> dict[str, _File]:
    if items is None:
        return {key: (content, mode) for key, content in data.items()}
    files: dict[str, _File] = {}
    for item in items:
        if item.key in data:
            files[_inside(item.path)] = (
                data[item.key],
                mode if item.mode is None else item.mode,
            )
        elif not optional:
            raise ConfigError(f'references non-existent key "{item.key}" in "{name}"')
    return files


def _downward(
    pod: Pod, source: DownwardSource, mode: int | None, facts: Mapping[str, str]
) -> dict[str, _File]:
    default = source.default_mode if mode is None else mode
    files: dict[str, _File] = {}
    for item in source.items:
        if item.field_ref is not None:
            text = field_value(pod, item.field_ref.field_path, facts)
        elif item.resource_field_ref is not None:
            text = resource_value(pod, item.resource_field_ref)
        else:
            raise ConfigError(f'item "{item.path}" names no field')
        files[_inside(item.path)] = (text.encode(), default if item.mode is None else item.mode)
    return files


def _inside(path: str) -> str:
    parts = Path(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise ConfigError(f'path "{path}" leaves the volume')
    return path


def _host_path(name: str, source: HostPathSource) -> Path:
    """Check or make a path of the node.

    https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types
    """
    path = Path(source.path)
    checks = {
        "Directory": stat.S_ISDIR,
        "File": stat.S_ISREG,
        "Socket": stat.S_ISSOCK,
        "CharDevice": stat.S_ISCHR,
        "BlockDevice": stat.S_ISBLK,
    }
    if source.type == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif source.type == "FileOrCreate":
        path.touch(exist_ok=True)
    elif source.type in checks and not (path.exists() and checks[source.type](path.stat().st_mode)):
        raise MountError(
            f'MountVolume.SetUp failed for volume "{name}" : hostPath type check failed: '
            f"{source.path} is not a {source.type.lower()}"
        )
    return path
