"""The edge's image: broker, services and supervisor, and nothing that a gateway does not run.

What is left out is left out here, with its reason. What is kept must find all that it needs: every
program's libraries are looked for when the image is built (`images.elf`).
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from images import bill, debian, elf, layers, python
from images.errors import BuildError

NAME: Final = "fedge/edge"
MEMBERS: Final = ("libs/boot", "services/meta", "services/edged", "services/twin")
PLUGINS: Final = (
    "rabbitmq_event_exchange",
    "rabbitmq_federation",
    "rabbitmq_mqtt",
    "rabbitmq_shovel",
)
OPTIMIZE: Final = 2
"""Level of Python's optimization: without documentation strings a process takes 3 MB less."""

PACKAGES: Final = (
    "base-files",
    "busybox-static",
    "libpython3-stdlib",
    "python3-minimal",
    "rabbitmq-server",
    "s6",
)
_KEPT: Final = (
    "base-files", "busybox-static",
    "erlang-*", "rabbitmq-server",
    "python3.13-minimal", "libpython3.13-minimal", "libpython3.13-stdlib",
    "s6", "libs6-*", "libskarnet*", "libexecline*",
    "libc6", "libgcc-s1", "libstdc++6", "libtinfo6", "zlib1g", "libzstd1", "libbz2-1.0", "liblzma5",
    "libssl3t64", "libsqlite3-0", "libffi8", "libexpat1", "libuuid1", "libsystemd0", "libcap2",
)  # fmt: skip
"""The others are only there for package management, or for what is left out below."""
_PYTHON: Final = "usr/lib/python3.13"
_LEFT_OUT: Final = (
    "usr/share/*",  # documentation, translations
    "usr/lib/*/gconv/*", "usr/lib/locale/C.utf8/LC_[!C]*",
    "usr/lib/systemd/*", "usr/lib/dpkg/*", "usr/lib/ocf/*", "usr/libexec/*", "usr/sbin/*",
    "usr/lib/*/perl*", "usr/lib/*/audit/*", "usr/lib/*/engines-3/*",
    "etc/*.d/*", "etc/default/*", "etc/issue*", "etc/motd",
    # RabbitMQ's own tools ask by a port mapper that does not run here
    "usr/lib/rabbitmq/bin/*", "usr/lib/rabbitmq/lib/*/escript/*",
    "usr/lib/rabbitmq/lib/*/LICENSE*",
    "usr/lib/erlang/lib/*/src/*", "usr/lib/erlang/lib/*/include/*",
    "usr/lib/erlang/lib/*/doc/*", "usr/lib/erlang/lib/*/examples/*",
    "usr/lib/erlang/usr/*", "usr/lib/erlang/man/*",
    *(
        f"{_PYTHON}/{each}"
        for each in (
            "_pyrepl/*", "config-*", "curses/*", "dbm/*", "idlelib/*", "pydoc_data/*", "test/*",
            "tkinter/*", "turtledemo/*", "wsgiref/*",
            "lib-dynload/_ctypes_test*", "lib-dynload/_curses*", "lib-dynload/_dbm*",
            "lib-dynload/_test*", "lib-dynload/_xx*", "lib-dynload/readline*", "lib-dynload/xx*",
        )
    ),
)  # fmt: skip
_PROGRAMS: Final = (
    "busybox", "erl", "python3.13",
    "s6-supervise", "s6-svc", "s6-svlisten1", "s6-svscan", "s6-svscanctl", "s6-svstat", "s6-svwait",
    "s6-ftrigrd", "s6-ftrig-*",
)  # fmt: skip
"""Of ``/usr/bin``."""
_ERTS: Final = ("beam.smp", "erl_child_setup", "erlexec", "inet_gethost")
_ERLANG: Final = ("start*.boot", "no_dot_erlang.boot", "erl")
_ALWAYS: Final = ("kernel", "stdlib", "sasl", "erts", "mnesia", "rabbit", "rabbit_common")
"""Applications of Erlang that no other names among those it needs."""
_APPLICATIONS: Final = re.compile(r"\{\s*applications\s*,\s*\[([^\]]*)\]")
_APPLETS: Final = (
    "awk", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dirname", "du",
    "echo", "env", "expr", "false", "find", "free", "grep", "head", "hostname", "id", "ip", "kill",
    "killall", "less", "ln", "ls", "mkdir", "mktemp", "more", "mount", "mv", "nc", "netstat",
    "nslookup", "od", "pidof", "ping", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "sed",
    "seq", "sh", "sleep", "sort", "stat", "stty", "tail", "tar", "tee", "test", "top", "touch",
    "tr", "true", "umount", "uname", "uniq", "vi", "wc", "wget", "which", "xargs",
)  # fmt: skip
_SITE: Final = "usr/local/lib/python3.13/dist-packages"
_WHEELS_LEFT_OUT: Final = frozenset({"uvloop", "pycparser", "httpx", "httpcore", "certifi", "h11"})
"""The cloud's event loop, what only compiles, and what the cloud's API speaks to hub with; the edge
never loads them."""
_NOT_AT_THE_EDGE: Final = (
    "zstandard/_cffi*",  # another way to what is there already
    "*/tests/*", "*/test/*", "*.pyi", "*.pyx", "*.pxd", "*.h", "*.c",
)  # fmt: skip
_BILL: Final = "usr/share/sbom/fedge-edge.spdx.json"
_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "usr/bin/fedge-health": (f"#!/bin/sh\nexec python3 -I -S /{_SITE}/fedge_boot/health.py\n"),
}
_NO_PORT_MAPPER: Final = """\
#!/bin/sh
# Once a minute RabbitMQ has this start an Erlang machine, only for that to start the port mapper,
# which nobody asks here. Erlang itself is started by another script of this name.
exit 0
"""
_FOLDERS: Final = {
    "dev": 0o755, "proc": 0o555, "root": 0o700, "run": 0o755, "sys": 0o555, "tmp": 0o1777,
    "var/lib/fedge": 0o700, "var/tmp": 0o1777,
}  # fmt: skip
CONFIG: Final[Mapping[str, Any]] = {
    "Entrypoint": ["/usr/bin/python3", "-m", "fedge_boot"],
    "Env": [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
        f"PYTHONOPTIMIZE={OPTIMIZE}",
        "PYTHONUNBUFFERED=1",
        "PYTHONDONTWRITEBYTECODE=1",
    ],
    "WorkingDir": "/",
    "StopSignal": "SIGTERM",
    "Healthcheck": {
        "Test": ["CMD", "/usr/bin/fedge-health"],
        "Interval": 30_000_000_000,
        "Timeout": 10_000_000_000,
        "StartPeriod": 60_000_000_000,
        "Retries": 3,
    },
    "Labels": {"org.opencontainers.image.title": "fedge edge"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What lies below fedge's own files, and changes seldom."""

    layers: list[layers.Layer]
    debian: list[debian.Package]
    python: list[python.Wheel]


def base(architecture: str, root: Path, *, cache: Path) -> Base:
    """Fetch and put together what fedge stands on.

    Args:
        architecture: as Debian calls it.
        root: an empty folder.
        cache: of what is fetched.

    Raises:
        BuildError: something cannot be had, or does not fit together.
    """
    packages = [
        each
        for each in debian.fetch(PACKAGES, architecture=architecture, folder=cache / "debian")
        if any(fnmatch(each.name, pattern) for pattern in _KEPT)
    ]
    wheels = [
        each
        for each in python.fetch(
            python.members_of(*MEMBERS), architecture=architecture, folder=cache / "wheels"
        )
        if each.name not in _WHEELS_LEFT_OUT
    ]
    for package in packages:
        debian.unpack(package, root, is_kept=lambda path: _is_kept(merged(path)))
    merge_usr(root)
    _keep_applications(root)
    site = root / _SITE
    site.mkdir(parents=True)
    for wheel in wheels:
        python.unpack(wheel, site)
    _remove(site, _NOT_AT_THE_EDGE)
    for applet in _APPLETS:
        (root / "usr/bin" / applet).symlink_to("busybox")
    (root / "usr/bin/python3").symlink_to("python3.13")
    [erts] = (root / "usr/lib/erlang").glob("erts-*")
    _write(root, f"{erts.relative_to(root)}/bin/erl", _NO_PORT_MAPPER)
    for folder, mode in _FOLDERS.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder).chmod(mode)
    for name, text in _FILES.items():
        _write(root, name, text)
    _compile(root, ["usr/lib/python3.13", _SITE], cache)
    elf.check(root, architecture=architecture)

    def is_python(path: str) -> bool:
        return path.startswith(f"{_SITE}/")

    with ThreadPoolExecutor(2) as workers:  # compressing takes the time, side by side
        below = workers.submit(
            layers.layer, root, created_by="Debian", is_in=lambda path: not is_python(path)
        )
        above = workers.submit(layers.layer, root, created_by="Python packages", is_in=is_python)
    return Base(
        layers=[below.result(), above.result()],
        debian=packages,
        python=wheels,
    )


def complete(
    found: Base, root: Path, *, architecture: str, cache: Path
) -> tuple[bytes, bytes, str]:
    """Put fedge on top, as the last layer: an update of fedge alone sends this one only.

    Args:
        found: what lies below.
        root: an empty folder.
        architecture: as Debian calls it.
        cache: of what is built.

    Returns:
        The image as an archive, its bill of materials, and its digest.
    """
    own = python.build(python.members_of(*MEMBERS), folder=cache / "wheels" / "own")
    site = root / _SITE
    site.mkdir(parents=True)
    for wheel in own:
        python.unpack(wheel, site)
    _compile(root, [_SITE], cache)
    said = bill.bill(
        name=NAME,
        version=version(),
        architecture=architecture,
        debian=found.debian,
        python=[*found.python, *own],
    )
    (root / _BILL).parent.mkdir(parents=True)
    (root / _BILL).write_bytes(said)
    archive, digest = layers.archive(
        [*found.layers, layers.layer(root, created_by="fedge", is_in=lambda _: True)],
        name=reference(),
        architecture=architecture,
        config=CONFIG,
        annotations={
            "org.opencontainers.image.title": NAME,
            "org.opencontainers.image.version": version(),
        },
    )
    return archive, said, digest


def version() -> str:
    """Return fedge's version."""
    found = re.search(
        r'^version = "(.+)"', (python.ROOT / "libs/boot/pyproject.toml").read_text(), re.MULTILINE
    )
    if found is None:
        raise BuildError("libs/boot/pyproject.toml says no version")
    return found[1]


def reference() -> str:
    """Return the image's full name, as engines complete it."""
    return f"docker.io/{NAME}:{version()}"


def merged(path: str) -> str:
    """Return where a file lies: ``/bin`` and ``/lib`` are links into ``/usr``."""
    return f"usr/{path}" if path.startswith(("bin/", "lib/", "lib64/", "sbin/")) else path


def merge_usr(root: Path) -> None:
    """Move what lies outside of ``/usr`` into it, and link it (Debian's packages are mixed)."""
    for name in ("bin", "lib", "lib64", "sbin"):
        top = root / name
        if top.is_dir() and not top.is_symlink():
            shutil.copytree(top, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(top)
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not top.is_symlink():
            top.symlink_to(f"usr/{name}")


def _is_kept(path: str) -> bool:
    if any(fnmatch(path, pattern) for pattern in _LEFT_OUT):
        return False
    name = path.rpartition("/")[2]
    if path.startswith("usr/bin/"):
        return any(fnmatch(name, pattern) for pattern in _PROGRAMS)
    if re.match(r"usr/lib/erlang/erts-[^/]+/", path):
        return name in _ERTS and "/bin/" in path
    if path.startswith("usr/lib/erlang/bin/"):
        return any(fnmatch(name, pattern) for pattern in _ERLANG)
    return True


def _keep_applications(root: Path) -> None:
    """Remove the applications of Erlang that the plugins do not need."""
    [rabbitmq] = (root / "usr/lib/rabbitmq/lib").iterdir()
    there = {
        folder.name.rpartition("-")[0]: folder
        for parent in (root / "usr/lib/erlang/lib", rabbitmq / "plugins")
        for folder in parent.iterdir()
        if folder.is_dir()
    }
    needed: set[str] = set()
    waiting = [*_ALWAYS, *PLUGINS]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        if name not in there:
            raise BuildError(f"there is no application {name!r} of Erlang in the packages")
        needed.add(name)
        description = there[name] / "ebin" / f"{name}.app"
        if description.exists():
            found = _APPLICATIONS.search(description.read_text())
            waiting += re.findall(r"[a-z]\w*", found[1]) if found else []
    for name, folder in there.items():
        if name not in needed:
            shutil.rmtree(folder)


def _remove(folder: Path, patterns: Iterable[str]) -> None:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and any(fnmatch(name, pattern) for pattern in patterns):
            path.unlink()


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755 if text.startswith("#!") else 0o644)


def _compile(root: Path, folders: Iterable[str], cache: Path) -> None:
    """Compile what Python imports, with that very Python but for this machine.

    The result is the same for all processors. It is not looked up against the source's time, which
    an image does not keep (https://peps.python.org/pep-0552/).
    """
    host = debian.machine()
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        own = Path(scratch)
        for package in debian.fetch(
            ["libpython3-stdlib", "python3-minimal"], architecture=host, folder=cache / "debian"
        ):
            if package.name.startswith(("python3.13", "libpython3.13", "lib")):
                debian.unpack(package, own, is_kept=lambda path: not path.startswith("usr/share"))
        [loader] = (each for each in own.rglob("ld-linux-*.so.*") if each.parent.name != "lib64")
        command = [
            str(loader), "--library-path", str(loader.parent), str(own / "usr/bin/python3.13"),
            "-m", "compileall", "-q", "-s", str(root), "-p", "/", "-o", str(OPTIMIZE),
            "--invalidation-mode", "unchecked-hash",
        ]  # fmt: skip
        environment = {
            "PYTHONHOME": str(own / "usr"), "PYTHONHASHSEED": "0", "LANG": "C.UTF-8",
            # what it has loaded itself from compiled files, it compiles to other bytes
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

        def run(folder: str) -> None:
            done = subprocess.run(
                [*command, str(root / folder)],
                env=environment,
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                said = f"{done.stdout}{done.stderr}"[-2000:]
                raise BuildError(f"compiling {folder} of the image failed: {said}")

        with ThreadPoolExecutor() as workers:
            list(workers.map(run, folders))
