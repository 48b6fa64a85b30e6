"""A pod's volumes on the node's disk.

Config maps, secrets and pod fields become folders whose whole content changes at once: a new
folder is written, then one symbolic link (``..data``) is moved over to it, as users of mounted
config maps expect (https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically).
Nothing is written that is there already. Secrets lie in memory only.
"""

import base64
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog

from fedge_edged.api_access import NO_ACCESS, ROOT_CERTIFICATES, ApiAccess
from fedge_edged.disk_usage import disk_usage
from fedge_edged.environment import field_value, resource_value
from fedge_edged.errors import ConfigError, MountError
from fedge_edged.limits import pod_limits
from fedge_edged.pods import (
    ConfigMapSource,
    DownwardSource,
    EmptyDirSource,
    HostPathSource,
    KeyToPath,
    Pod,
    Projection,
    SecretSource,
    ServiceAccountTokenSource,
    Volume,
)
from fedge_edged.ports import Objects, Tokens
from fedge_edged.subpaths import FOLDER
from fedge_edged.tmpfs import mount_tmpfs, unmount_below
from fedge_objects import JsonObject, ObjectKey, parse_quantity

log = structlog.stdlib.get_logger("fedge.edged")

_VOLUMES = "volumes"
_EMPTY_DIR = "empty-dir"
_MAY_HOLD_MOUNTS = (_EMPTY_DIR, FOLDER)
"""Our own, and those that a privileged container made in its volume."""
_File = tuple[bytes, int]
"""Content and mode."""


class NoTokens:
    """Refuses: nobody gives tokens to this node."""

    def token(self, pod: Pod, source: ServiceAccountTokenSource) -> str:
        """Raise MountError, for the pod and whatever it asks for."""
        raise MountError(
            f'failed to fetch token: no token of the audience "{source.audience}" is to be had '
            f"for serviceaccount {pod.spec.service_account_name!r}"
        )


NO_TOKENS = NoTokens()


class Volumes:
    """Makes and removes the volumes of pods."""

    def __init__(
        self,
        objects: Objects,
        *,
        disk: Path,
        memory: Path,
        node: Mapping[str, str] | None = None,
        tokens: Tokens | None = NO_TOKENS,
        access: ApiAccess = NO_ACCESS,
    ) -> None:
        """Prepare.

        Args:
            objects: of the node.
            disk: folder of what lies on disk.
            memory: the same in memory.
            node: what of its resources the node gives to pods.
            tokens: of service accounts; None leaves them out of volumes.
            access: to the edge's API, whose authority pods are to trust.
        """
        self._access = access
        self._objects = objects
        self._tokens = tokens
        self._node = node or {}
        self._disk = disk
        self._memory = memory

    def prepare(self, pod: Pod, facts: Mapping[str, str]) -> dict[str, Path]:
        """Make all volumes of ``pod``, or bring them up to date; return their paths by name.

        Raises:
            MountError: one cannot be made; the text is the kubelet's.
        """
        return {volume.name: self._prepare(pod, volume, facts) for volume in pod.spec.volumes}

    def remove(self, uid: str) -> None:
        """Remove all that lies here for a pod that is gone.

        Raises:
            OSError: something is still mounted there, so that nothing was removed.
        """
        self._remove(uid, "")

    def clear(self, uid: str) -> None:
        """Remove the volumes of a pod that has ended, and nothing else that is kept of it.

        Raises:
            OSError: something is still mounted there, so that nothing was removed.
        """
        self._remove(uid, _VOLUMES)

    def _remove(self, uid: str, part: str) -> None:
        roots = [self._disk / uid, self._memory / uid]
        # the list of mounts is long where pods are many: most pods need no look at it
        if any((root / _VOLUMES / kind).exists() for root in roots for kind in _MAY_HOLD_MOUNTS):
            unmount_below(*roots)
        for root in roots:
            shutil.rmtree(root / part, ignore_errors=True)

    def over_limit(self, pod: Pod) -> str | None:
        """Return what to tell if a folder on disk has outgrown its ``sizeLimit``.

        https://kubernetes.io/docs/concepts/storage/volumes/#emptydir
        """
        for volume in pod.spec.volumes:
            source = volume.empty_dir
            if source is None or source.size_limit is None or source.medium == "Memory":
                continue
            path = self._folder(pod, _EMPTY_DIR, volume.name, in_memory=False)
            if disk_usage(path).size_bytes > parse_quantity(source.size_limit):
                return (
                    f'Usage of EmptyDir volume "{volume.name}" exceeds the limit '
                    f'"{source.size_limit}". '
                )
        return None

    def _prepare(self, pod: Pod, volume: Volume, facts: Mapping[str, str]) -> Path:
        try:
            if volume.host_path is not None:
                return _host_path(volume.host_path)
            if volume.empty_dir is not None:
                return self._empty_dir(pod, volume.name, volume.empty_dir)
            files = self._files(pod, volume, facts)
            secret = volume.secret is not None or volume.projected is not None
            path = self._folder(pod, "files", volume.name, in_memory=secret)
            write_atomically(path, files, group=pod.spec.security_context.fs_group)
        except (ConfigError, MountError, OSError, ValueError) as exc:  # no space, no base64, ...
            raise MountError(
                f'MountVolume.SetUp failed for volume "{volume.name}" : {exc}'
            ) from exc
        return path

    def _empty_dir(self, pod: Pod, name: str, source: EmptyDirSource) -> Path:
        in_memory = source.medium == "Memory"
        if source.medium not in {"", "Memory"}:
            raise MountError(f'storage medium "{source.medium}" is not supported by this node')
        path = self._folder(pod, _EMPTY_DIR, name, in_memory=in_memory)
        mode = 0o777 if source.mode is None else source.mode
        group = pod.spec.security_context.fs_group
        if group is not None:
            mode |= 0o2070
        if in_memory:
            mount_tmpfs(path, size_bytes=self._tmpfs_bytes(pod, source), mode=mode, group=group)
        elif not path.is_dir():
            _make_folder(path, mode, group)
        return path

    def _tmpfs_bytes(self, pod: Pod, source: EmptyDirSource) -> int | None:
        """Return the size of a folder in memory: the least of its, the pod's and the node's."""
        sizes = [pod_limits(pod).memory_bytes, int(parse_quantity(self._node.get("memory", 0)))]
        if source.size_limit is not None:
            sizes.append(int(parse_quantity(source.size_limit)))
        return min((each for each in sizes if each), default=None)

    def _folder(self, pod: Pod, kind: str, name: str, *, in_memory: bool) -> Path:
        root = self._memory if in_memory else self._disk
        return root / pod.metadata.uid / _VOLUMES / kind / name

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
                files |= _downward(pod, source.downward_api, mode, facts, self._node)
            elif source.service_account_token is not None:
                files |= self._token(pod, source.service_account_token, mode)
            else:
                raise MountError("it is of a type that this node does not support")
        return files

    def _config_map(self, pod: Pod, source: ConfigMapSource, mode: int | None) -> dict[str, _File]:
        obj = self._trusted(pod) if source.name == ROOT_CERTIFICATES else None
        if obj is None:
            obj = self._find(pod, "configmaps", source.name, optional=source.optional)
        data = {name: value.encode() for name, value in (obj.get("data") or {}).items()}
        data |= {n: base64.b64decode(v) for n, v in (obj.get("binaryData") or {}).items()}
        default = source.default_mode if mode is None else mode
        return _select(data, source.items, default, source.name, optional=source.optional)

    def _trusted(self, pod: Pod) -> JsonObject | None:
        """Return the authorities of the cloud's API and of the edge's; None: there are none."""
        key = ObjectKey("configmaps", pod.metadata.namespace, ROOT_CERTIFICATES)
        held = self._objects.get(key)
        data = self._access.trusted(None if held is None else held.get("data") or {})
        return None if data is None else {**(held or {}), "data": data}

    def _secret(self, pod: Pod, source: SecretSource, mode: int | None) -> dict[str, _File]:
        name = source.secret_name or source.name
        obj = self._find(pod, "secrets", name, optional=source.optional)
        data = {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
        default = source.default_mode if mode is None else mode
        return _select(data, source.items, default, name, optional=source.optional)

    def _token(
        self, pod: Pod, source: ServiceAccountTokenSource, mode: int | None
    ) -> dict[str, _File]:
        if self._tokens is None:
            return {}  # the pod's first event says so
        token = self._tokens.token(pod, source)
        if mode is None or pod.spec.security_context.fs_group is not None:
            mode = 0o600  # the group may read it nonetheless
        return {_inside(source.path): (token.encode(), mode)}

    def _find(self, pod: Pod, resource: str, name: str, *, optional: bool) -> JsonObject:
        obj = self._objects.get(ObjectKey(resource, pod.metadata.namespace, name))
        if obj is None and not optional:
            raise ConfigError(f'{resource.removesuffix("s")} "{name}" not found')
        return obj or {}


def write_atomically(folder: Path, files: Mapping[str, _File], *, group: int | None = None) -> bool:
    """Make ``folder`` hold exactly ``files``, changing all at once.

    Args:
        folder: made if it is not there.
        files: content and mode by path.
        group: owns the files and may read them.

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
        _write_files(folder / version, files, group)
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


def _write_files(folder: Path, files: Mapping[str, _File], group: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folders = {folder.parent, folder}
    for name, (content, mode) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.update(parent for parent in path.parents if parent.is_relative_to(folder))
        path.write_bytes(content)
        path.chmod(mode if group is None else mode | 0o440)
        if group is not None:
            os.chown(path, -1, group)
    for each in folders:
        if group is not None:
            os.chown(each, -1, group)
        each.chmod(0o755 if group is None else 0o2755)  # whatever the umask


def _make_folder(path: Path, mode: int, group: int | None) -> None:
    """Make a folder once: what its containers do with it later is theirs."""
    new = path.with_name(f"..{path.name}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    if group is not None:
        os.chown(new, -1, group)
    new.chmod(mode)
    new.rename(path)


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
        return {_inside(key): (content, mode) for key, content in data.items()}
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
    pod: Pod,
    source: DownwardSource,
    mode: int | None,
    facts: Mapping[str, str],
    node: Mapping[str, str],
) -> dict[str, _File]:
    default = source.default_mode if mode is None else mode
    files: dict[str, _File] = {}
    for item in source.items:
        if item.field_ref is not None:
            text = field_value(pod, item.field_ref.field_path, facts)
        elif item.resource_field_ref is not None:
            text = resource_value(pod, item.resource_field_ref, node=node)
        else:
            raise ConfigError(f'item "{item.path}" names no field')
        files[_inside(item.path)] = (text.encode(), default if item.mode is None else item.mode)
    return files


def _inside(path: str) -> str:
    parts = Path(path).parts
    # names that begin with two dots are those by which the content is changed
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise ConfigError(f'path "{path}" leaves the volume')
    return path


def _host_path(source: HostPathSource) -> Path:
    """Check or make a path of the node.

    https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types
    """
    path = Path(source.path)
    checks = {
        "Directory": (stat.S_ISDIR, "directory"),
        "File": (stat.S_ISREG, "file"),
        "Socket": (stat.S_ISSOCK, "socket file"),
        "CharDevice": (stat.S_ISCHR, "character device"),
        "BlockDevice": (stat.S_ISBLK, "block device"),
    }
    if source.type == "DirectoryOrCreate" and not path.exists():
        path.mkdir(parents=True)
    elif source.type == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    wanted = source.type.removesuffix("OrCreate")
    if not wanted:
        return path
    if wanted not in checks:
        raise ConfigError(f"{source.type} is an invalid volume type")
    is_of_type, called = checks[wanted]
    if not path.exists() or not is_of_type(path.stat().st_mode):
        raise ConfigError(f"hostPath type check failed: {source.path} is not a {called}")
    return path
