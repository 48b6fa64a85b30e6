"""Docker of Debian stable in a folder of its own, for tests: nothing of it is installed.

Its daemon gets a socket, a data folder and a run folder of its own, no bridge and no rules of the
packet filter: a Docker of the machine's own is neither used nor disturbed.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fedge_local.commands import SEARCH_PATH, program
from images import debian
from images.errors import BuildError
from images.recipe import merged

_PACKAGES: Final = ("docker.io", "docker-cli", "docker-compose")
_PROGRAMS: Final = (
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/docker",
    "usr/libexec/docker/cli-plugins/docker-compose",
    "usr/sbin/docker-proxy",
    "usr/sbin/dockerd",
)
"""Written in Go, they run on Debian 12 as well; runc and iptables are the machine's."""
_LEFT_OUT: Final = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/")
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 60.0
_SERVERS: Final = ("rabbitmq-server", "redis-server")
_RABBITMQ: Final = """\
FROM servers
RUN usermod -u 999 rabbitmq && groupmod -g 999 rabbitmq \\
 && chown -R 999:999 /var/lib/rabbitmq /var/log/rabbitmq /etc/rabbitmq
ENV RABBITMQ_LOGS=- HOME=/var/lib/rabbitmq PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 999:999
CMD ["rabbitmq-server"]
"""
_REDIS: Final = 'FROM servers\nUSER redis\nCMD ["redis-server"]\n'
_BASE: Final = """\
FROM debian-base
COPY ca.crt /usr/share/test/ca.crt
ENV PIP_CERT=/usr/share/test/ca.crt
CMD ["bash"]
"""
_CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")


class Engine:
    """A daemon that runs, and its command."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self._bin = folder
        self.environment: Mapping[str, str] = {
            "PATH": os.environ["PATH"],
            "HOME": str(socket.parent),
            "DOCKER_HOST": f"unix://{socket}",
            "DOCKER_BUILDKIT": "0",  # the other builder is a program more
        }

    def docker(self, *arguments: str, seconds: float = 600.0) -> str:
        """Run ``docker`` to its end, and return its output.

        Raises:
            BuildError: it failed; with its last words.
        """
        return self._run([str(self._bin / "docker"), *arguments], seconds)

    def compose(self, *arguments: str, seconds: float = 600.0) -> str:
        """Run ``docker compose``; raises like `docker`."""
        return self._run([str(self._bin / "docker-compose"), *arguments], seconds)

    def _run(self, command: list[str], seconds: float) -> str:
        done = subprocess.run(
            command,
            env=dict(self.environment),
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        if done.returncode:
            said = (done.stderr or done.stdout)[-3000:]
            raise BuildError(f"`{' '.join(command[:4])} ...` failed: {said}")
        return done.stdout

    def add_base_images(self, folder: Path) -> None:
        """Make what Dockerfiles and docker-compose.yml take from a registry, of Debian packages.

        Args:
            folder: for what is kept for the next time.
        """
        for name, packages in (("debian-base", ()), ("servers", _SERVERS)):
            archive = folder / f"{name}.tar"
            if not archive.exists():
                new = archive.with_suffix(".new.tar")
                include = [f"--include={','.join(packages)}"] if packages else []
                subprocess.run(
                    [
                        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *include,
                        *(f"--dpkgopt=path-exclude=/{each}*" for each in _LEFT_OUT),
                        debian.RELEASE, str(new), "-",
                    ],
                    input="\n".join(debian.sources()),
                    text=True,
                    check=True,
                )  # fmt: skip
                new.replace(archive)
            if not self.docker("images", "--quiet", name):  # a new import has no layers built on it
                self.docker("import", str(archive), name)
        for name, recipe in (
            ("debian:trixie-slim", _BASE),
            ("rabbitmq:4.0", _RABBITMQ),
            ("redis:8.0", _REDIS),
        ):
            with tempfile.TemporaryDirectory() as context:
                (Path(context) / "Dockerfile").write_text(recipe)
                shutil.copy(_CERTIFICATES, Path(context) / "ca.crt")
                self.docker("build", "--quiet", "--tag", name, context)


def installed(cache: Path) -> Path:
    """Return the folder with Docker's programs, made once."""
    folder = cache / "engine" / "bin"
    if not folder.exists():
        packages = debian.fetch(
            _PACKAGES, architecture=debian.machine(), folder=cache / "engine" / "debian"
        )
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            for package in packages:
                debian.unpack(
                    package,
                    Path(scratch),
                    is_kept=lambda path: merged(path) in _PROGRAMS,
                )
            for name in _PROGRAMS:
                for found in (Path(scratch) / name, Path(scratch) / name.removeprefix("usr/")):
                    if found.exists():
                        shutil.copy2(found, new / found.name)
        new.rename(folder)
    return folder


@contextmanager
def running(cache: Path) -> Iterator[Engine]:
    """Start a daemon, and end it with all its containers.

    Args:
        cache: where programs, images and layers are kept for the next time.

    Raises:
        BuildError: it does not start here; with why.
    """
    folder = installed(cache)
    data = cache / "engine" / "data"
    data.mkdir(exist_ok=True)
    socket, log = data / "docker.sock", data / "dockerd.log"
    command = [
        program("unshare"), "--mount", "--", str(folder / "dockerd"),
        f"--data-root={data / 'docker'}", f"--exec-root={data / 'exec'}",
        f"--pidfile={data / 'pid'}", f"--host=unix://{socket}", "--storage-driver=overlay2",
        "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false",
    ]  # fmt: skip
    environment = {**os.environ, "PATH": f"{folder}:{SEARCH_PATH}"}
    (data / "pid").unlink(missing_ok=True)
    with log.open("wb") as said:
        daemon = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
    try:
        engine = Engine(folder, socket)
        _wait(engine, daemon, log)
        yield engine
    finally:
        daemon.terminate()
        try:
            daemon.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _wait(engine: Engine, daemon: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            engine.docker("version", seconds=10)
        except (BuildError, subprocess.TimeoutExpired) as exc:
            if daemon.poll() is not None or time.monotonic() > deadline:
                end = log.read_text(errors="replace")[-2000:]
                raise BuildError(f"no container engine starts here: {end}") from exc
            time.sleep(0.2)
        else:
            return
