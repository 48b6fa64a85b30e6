"""Images of the cloud's services and of the command ``fedge``: Python, one service, no shell.

What is left out of the packages is left out here, with its reason. The command's image has a shell:
docker-compose.yml sets up devices and tokens with it.
"""

import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from images.errors import BuildError
from images.recipe import UNUSED_DEBIAN, UNUSED_PYTHON, Recipe, write

USER: Final = 10001
"""Whom services run as; the manifests in deploy/k8s say the same."""
_PACKAGES: Final = (
    "base-files", "ca-certificates", "libgcc-s1", "libpython3-stdlib", "libstdc++6",
    "python3-minimal",
)  # fmt: skip
_KEPT: Final = (
    "base-files", "ca-certificates",
    "python3.13-minimal", "libpython3.13-minimal", "libpython3.13-stdlib",
    "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libzstd1", "libbz2-1.0", "liblzma5",
    "libssl3t64", "libsqlite3-0", "libffi8", "libexpat1", "libuuid1",
)  # fmt: skip
_LEFT_OUT: Final = (
    *UNUSED_DEBIAN,
    # `kubernetes` loads pydoc, and that does
    *(each for each in UNUSED_PYTHON if not each.endswith("/_pyrepl/*")),
)
_CERTIFICATES: Final = "usr/share/ca-certificates"
_ZONES: Final = "usr/share/zoneinfo"
_PROGRAMS: Final = ("busybox", "python3.13")
"""Of ``/usr/bin``."""
_SHELL: Final = ("cat", "ls", "mkdir", "mv", "rm", "sh", "sleep", "test")
_FILES: Final = {
    "etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nfedge:x:{USER}:{USER}::/:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nfedge:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def _is_kept(path: str) -> bool:
    if path.startswith((f"{_CERTIFICATES}/", f"{_ZONES}/")):
        return not path.startswith((f"{_ZONES}/right/", f"{_ZONES}/posix/"))
    if path.startswith("usr/bin/"):
        return path.rpartition("/")[2] in _PROGRAMS
    return not any(fnmatch(path, each) for each in _LEFT_OUT)


def _finish(root: Path) -> None:
    """Put the authorities' certificates where OpenSSL looks, as Debian's package does at its end.

    https://docs.openssl.org/3.5/man3/SSL_CTX_load_verify_locations/
    """
    files = sorted((root / _CERTIFICATES).rglob("*.crt"))
    if not files:
        raise BuildError("ca-certificates has no certificate: keep the package that has them")
    write(root, "etc/ssl/certs/ca-certificates.crt", "".join(each.read_text() for each in files))
    (root / "usr/lib/ssl").mkdir(exist_ok=True)
    (root / "usr/lib/ssl/cert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")
    shutil.rmtree(root / _CERTIFICATES)


def _service(
    name: str,
    member: str,
    *,
    extra: str = "",
    packages: tuple[str, ...] = (),
    owned: tuple[str, ...] = (),
) -> Recipe:
    return Recipe(
        name=f"fedge/{name}",
        members=(f"{member}{extra}",),
        version_of=member,
        packages=(*_PACKAGES, *packages),
        kept=(*_KEPT, *packages),
        is_kept=_is_kept,
        finish=_finish,
        files=_FILES,
        folders=dict.fromkeys(owned, 0o755),
        owned=dict.fromkeys(owned, USER),
        config={
            "User": f"{USER}:{USER}",
            "Entrypoint": ["/usr/bin/python3", "-m", "fedge_service"],
            "Cmd": [name],
            "Env": _ENVIRONMENT,
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": {"org.opencontainers.image.title": f"fedge {name}"},
        },
    )


_ENVIRONMENT: Final = [
    "PATH=/usr/bin:/bin",
    "LANG=C.UTF-8",
    "PYTHONUNBUFFERED=1",
    "PYTHONDONTWRITEBYTECODE=1",
]
_COMMAND: Final = Recipe(
    name="fedge/cli",
    members=("libs/cli",),
    version_of="libs/cli",
    packages=(*_PACKAGES, "busybox-static"),
    kept=(*_KEPT, "busybox-static"),
    is_kept=_is_kept,
    finish=_finish,
    applets=_SHELL,
    files={**_FILES, "usr/bin/fedge": '#!/bin/sh\nexec python3 -m fedge_cli "$@"\n'},
    copies={
        "usr/share/fedge/crds": "deploy/k8s/base/crds",
        "usr/share/fedge/hello": "examples/hello",
    },
    folders={"var/lib/fedge/tokens": 0o755},
    owned={"var/lib/fedge/tokens": USER},
    config={
        "User": f"{USER}:{USER}",
        "Entrypoint": ["/usr/bin/python3", "-m", "fedge_cli"],
        "Env": _ENVIRONMENT,
        "WorkingDir": "/",
        "Labels": {"org.opencontainers.image.title": "fedge command"},
    },
)
CLOUD: Final[Mapping[str, Recipe]] = {
    "hub": _service("hub", "services/hub"),
    "controller": _service("controller", "services/controller"),
    "device": _service("device", "services/device"),
    "apiserver": _service(
        "apiserver",
        "libs/apiserver",
        extra="[rules]",
        packages=("tzdata",),  # time zones of CronJobs
        owned=("var/lib/fedge/apiserver", "var/lib/fedge/kube"),
    ),
    "cli": _COMMAND,
}
"""By the name of the image without ``fedge/``."""
