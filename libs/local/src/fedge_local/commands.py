"""Short commands of the machine: found on the path, with a deadline, failing with their words."""

import asyncio
import os
import shutil
from collections.abc import Sequence

from fedge_local.errors import CommandFailedError, MissingError

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PACKAGES = {
    "busybox": "busybox-static",
    "containerd": "containerd",
    "ctr": "containerd",
    "erl": "rabbitmq-server",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "redis-server": "redis-server",
    "ss": "iproute2",
    "unshare": "util-linux",
}


def program(name: str) -> str:
    """Return the path of the program ``name``.

    Raises:
        MissingError: it is not installed; the message names the Debian package.
    """
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        package = _PACKAGES.get(name, name)
        raise MissingError(f"{name!r} is not installed: run `apt-get install {package}`")
    return found


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of every program: little of the caller's, so that runs repeat."""
    base = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/root")}
    return base | (extra or {})


async def run(argv: Sequence[str], *, timeout_seconds: float = 30.0, given: str = "") -> str:
    """Run a command to its end and return what it wrote to its standard output.

    Args:
        argv: the command; its first word is looked up on the path.
        timeout_seconds: after this it is killed.
        given: text for its standard input.

    Raises:
        CommandFailedError: it failed or took too long.
        MissingError: it is not installed.
    """
    process = await asyncio.create_subprocess_exec(
        program(argv[0]) if "/" not in argv[0] else argv[0],
        *argv[1:],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            out, err = await process.communicate(given.encode())
    except TimeoutError as exc:
        raise CommandFailedError(
            f"`{' '.join(argv)}` took longer than {timeout_seconds:g} s"
        ) from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        said = err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
        raise CommandFailedError(f"`{' '.join(argv)}` failed ({process.returncode}): {said}")
    return out.decode(errors="replace")
