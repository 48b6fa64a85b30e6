"""The edge's image: broker, services and supervisor, and nothing that a gateway does not run.

What is left out of the packages is left out here, with its reason.
"""

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from images.errors import BuildError
from images.recipe import SITE, UNUSED_DEBIAN, UNUSED_PYTHON, Recipe, write

PLUGINS: Final = (
    "rabbitmq_event_exchange",
    "rabbitmq_federation",
    "rabbitmq_mqtt",
    "rabbitmq_shovel",
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
_LEFT_OUT: Final = (
    *UNUSED_DEBIAN, *UNUSED_PYTHON,
    # RabbitMQ's own tools ask by a port mapper that does not run here
    "usr/lib/rabbitmq/bin/*", "usr/lib/rabbitmq/lib/*/escript/*",
    "usr/lib/rabbitmq/lib/*/LICENSE*",
    "usr/lib/erlang/lib/*/src/*", "usr/lib/erlang/lib/*/include/*",
    "usr/lib/erlang/lib/*/doc/*", "usr/lib/erlang/lib/*/examples/*",
    "usr/lib/erlang/usr/*", "usr/lib/erlang/man/*",
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
_WHEELS_LEFT_OUT: Final = frozenset({"uvloop", "pycparser", "httpx", "httpcore", "certifi", "h11"})
"""The cloud's event loop, what only compiles, and what the cloud's API speaks to hub with; the edge
never loads them."""
_FILES: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "usr/bin/fedge-health": f'#!/bin/sh\nexec python3 -I -S /{SITE}/fedge_boot/health.py "$@"\n',
}
_NO_PORT_MAPPER: Final = """\
#!/bin/sh
# Once a minute RabbitMQ has this start an Erlang machine, only for that to start the port mapper,
# which nobody asks here. Erlang itself is started by another script of this name.
exit 0
"""


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


def _finish(root: Path) -> None:
    """Remove the applications of Erlang that the plugins do not need, and the port mapper."""
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
    [erts] = (root / "usr/lib/erlang").glob("erts-*")
    write(root, f"{erts.relative_to(root)}/bin/erl", _NO_PORT_MAPPER)


EDGE: Final = Recipe(
    name="fedge/edge",
    members=("libs/boot", "services/meta", "services/edged", "services/twin"),
    version_of="libs/boot",
    packages=(
        "base-files",
        "busybox-static",
        "libpython3-stdlib",
        "python3-minimal",
        "rabbitmq-server",
        "s6",
    ),
    kept=_KEPT,
    is_kept=_is_kept,
    finish=_finish,
    wheels_left_out=_WHEELS_LEFT_OUT,
    applets=_APPLETS,
    files=_FILES,
    folders={"var/lib/fedge": 0o700},
    optimize=2,  # without documentation strings a process takes 3 MB less
    config={
        "Entrypoint": ["/usr/bin/python3", "-m", "fedge_boot"],
        "Env": [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
            "PYTHONOPTIMIZE=2",
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
    },
)
