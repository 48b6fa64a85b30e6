"""Another version of the edge, put beside the one that runs.

An image is fetched by the container runtime, and a container of it copies its own root folder into
the volume: so it is shown, before anything is ended, that it runs on this machine. An archive is
unpacked here. Either way the new version looks whether it could start, and opens no port for it.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from fedge_cri import ContainerState, Runtime, RuntimeFaultError
from fedge_cri.model import ContainerSpec, Mount, SandboxSpec
from fedge_edged.errors import ImageError
from fedge_edged.images import Images
from fedge_operations import Upgrade
from fedge_slots import (
    ArchiveError,
    Installed,
    Part,
    SlotError,
    Slots,
    broker_of,
    describe,
    unpack,
)
from fedge_slots import own_architecture as architecture

log = structlog.stdlib.get_logger("fedge.edged")

UNPACKED: Final = 3
"""So many times its packed size an image takes unpacked, at most."""
LOOK_SECONDS: Final = 0.5
CHECK_SECONDS: Final = 120.0
_NAMESPACE: Final = "fedge-system"
_TARGET: Final = "/slot"
_LAST_WORDS: Final = 600
_CHANGE_ROOT: Final = """
import os, sys
os.chroot(sys.argv[1])
os.chdir("/")
os.execv(sys.argv[2], sys.argv[2:])
"""


class InstallError(Exception):
    """The version cannot be had, or does not run here; the text says why and what to do."""


class Installing:
    """Puts versions into slots."""

    def __init__(self, *, slots: Slots, runtime: Runtime, images: Images, logs: Path) -> None:
        """Take the parts.

        Args:
            slots: of this edge.
            runtime: that fetches and runs images.
            images: of the node.
            logs: folder of the logs of containers.
        """
        self._slots = slots
        self._runtime = runtime
        self._images = images
        self._logs = logs

    async def image(self, upgrade: Upgrade, uid: str) -> Installed:
        """Fetch an image and put it into a slot.

        Args:
            upgrade: which one.
            uid: of the task, by which what is left of an earlier try is found.

        Raises:
            InstallError: it cannot be had, is not what its digest says, or does not run here.
        """
        digest = upgrade.digests.get(architecture(), "")
        if upgrade.digests and not digest:
            raise InstallError(
                f"no digest is named for {architecture()}: add it to imageDigestGatter"
            )
        reference = f"{upgrade.image}@{digest}" if digest else f"{upgrade.image}:{upgrade.version}"
        try:
            image_id = await self._images.fetch(reference)
            found = await self._runtime.find_image(image_id)
        except (ImageError, RuntimeFaultError) as exc:
            raise InstallError(f"{reference} cannot be had: {exc}") from exc
        size = found.size_bytes if found else 0
        name = _slot_name(upgrade.version, digest or image_id)
        with self._installing(name, size * UNPACKED) as part:
            if part is not None:
                await self._copy(image_id, part, uid)
                part.described = Installed(
                    name=name, version=upgrade.version, digest=digest, broker=broker_of(part.root)
                )
        return self._installed(name)

    async def archive(self, path: Path, *, version: str = "", digest: str = "") -> Installed:
        """Unpack an archive into a slot.

        Args:
            path: of the archive.
            version: that it has to be; empty: whichever it is.
            digest: of its image, that it has to be; empty: whichever it is.

        Raises:
            InstallError: it is not what was wished, or does not run here.
        """
        try:
            described = await asyncio.to_thread(describe, path)
            if digest and described.digest != digest:
                raise InstallError(
                    f"the image in {path} is {described.digest}, and {digest} is wished"
                )
            is_version = version or described.version or "unknown"
            name = _slot_name(is_version, described.digest)
            with self._installing(name, described.packed_bytes * UNPACKED) as part:
                if part is not None:
                    await asyncio.to_thread(unpack, path, described, part.root)
                    await self._try(part.root)
                    part.described = Installed(
                        name=name,
                        version=is_version,
                        digest=described.digest,
                        broker=broker_of(part.root),
                    )
        except ArchiveError as exc:
            raise InstallError(str(exc)) from exc
        return self._installed(name)

    @contextlib.contextmanager
    def _installing(self, name: str, needs_bytes: int) -> Iterator[Part | None]:
        try:
            with self._slots.installing(name, needs_bytes=needs_bytes) as part:
                yield part
        except (SlotError, OSError) as exc:
            raise InstallError(str(exc)) from exc

    def _installed(self, name: str) -> Installed:
        found = self._slots.installed(name)
        if found is None:
            raise InstallError(f"version {name!r} is gone from {self._slots.folder}")
        return found

    async def _try(self, root: Path) -> None:
        """See whether a version in a folder starts far enough to look at itself."""
        own = [sys.executable, "-I", "-S", "-c", _CHANGE_ROOT, str(root)]
        command = [*own, "/usr/bin/python3", "-m", "fedge_boot", "check"]
        try:
            done = await asyncio.to_thread(
                subprocess.run,
                command,
                check=False,
                capture_output=True,
                text=True,
                timeout=CHECK_SECONDS,
                env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"},
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise InstallError(f"the new version does not run here: {exc}") from exc
        if done.returncode:
            words = (done.stderr or done.stdout).strip()[-_LAST_WORDS:]
            raise InstallError(f"the new version does not run here: {words}")

    async def _copy(self, image_id: str, part: Part, uid: str) -> None:
        """Have a container of an image copy its own root, and look at itself."""
        logs = self._logs / f"{_NAMESPACE}_upgrade_{uid}"
        sandbox = SandboxSpec(
            name="upgrade",
            namespace=_NAMESPACE,
            uid=uid,
            attempt=0,
            log_directory=str(logs),
            host_network=True,
        )
        container = ContainerSpec(
            name="copy",
            attempt=0,
            image=image_id,
            log_path="copy.log",
            command=["/usr/bin/python3", "-m", "fedge_boot", "copy", _TARGET],
            mounts=[Mount(container_path=_TARGET, host_path=str(part.root))],
        )
        try:
            await self._remove(uid)
            sandbox_id = await self._runtime.run_sandbox(sandbox)
            try:
                container_id = await self._runtime.create_container(sandbox_id, container, sandbox)
                await self._runtime.start_container(container_id)
                code = await self._ended(container_id)
            finally:
                await self._remove(uid)
        except RuntimeFaultError as exc:
            raise InstallError(f"the new version does not run here: {exc}") from exc
        if code:
            words = await asyncio.to_thread(_last_words, logs / "copy.log")
            raise InstallError(f"the new version does not run here (exit code {code}): {words}")

    async def _ended(self, container_id: str) -> int:
        while True:
            status = await self._runtime.container_status(container_id)
            if status.state is ContainerState.EXITED:
                return status.exit_code
            await asyncio.sleep(LOOK_SECONDS)

    async def _remove(self, uid: str) -> None:
        for each in await self._runtime.list_sandboxes():
            if each.uid == uid:
                await self._runtime.stop_sandbox(each.id)
                await self._runtime.remove_sandbox(each.id)


def _slot_name(version: str, digest: str) -> str:
    kept = "".join(each if each.isalnum() or each in ".-_" else "-" for each in version)
    return f"{kept[:64].lstrip('.')}-{digest.rpartition(':')[2][:12]}"


def _last_words(log_file: Path) -> str:
    try:
        lines = log_file.read_text(errors="replace").splitlines()
    except OSError:
        return "it said nothing"
    # each line begins with a time, the stream and a mark
    return "\n".join(line.split(" ", 3)[-1] for line in lines)[-_LAST_WORDS:]
