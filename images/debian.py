"""Debian packages of one release and one architecture: resolved and fetched by apt, unpacked.

apt works in folders of its own: nothing of the machine is changed or taken for installed, and no
rights are needed. It checks the archive's signatures. Packages come from where the machine has its
own from, or from ``FEDGE_DEBIAN_MIRROR``, which may be a moment of Debian's snapshots.
"""

import hashlib
import os
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from images.errors import BuildError

RELEASE: Final = "trixie"
"""Debian stable."""
KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE: Final = "FEDGE_DEBIAN_MIRROR"
_FETCH_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package that was fetched."""

    name: str
    version: str
    architecture: str
    source: str
    """Name of the source package."""
    sha256: str
    file: Path


@cache
def fetch(
    names: tuple[str, ...], *, architecture: str, folder: Path, release: str = RELEASE
) -> list[Package]:
    """Return packages with all that they depend on, sorted by name; asked for once in a process.

    Args:
        names: what is wished.
        architecture: as Debian calls it.
        folder: for apt's files; what was fetched is kept there for the next time.
        release: of Debian; each has a folder of its own.

    Raises:
        BuildError: apt could not resolve or fetch them; with its words.
    """
    keep = folder.absolute() / architecture
    archives = keep / "archives"
    for each in ("etc", "lists/partial", "archives/partial"):
        (keep / each).mkdir(parents=True, exist_ok=True)
    (keep / "status").write_text("")
    (keep / "etc" / "sources.list").write_text("\n".join(sources(release)) + "\n")
    configuration = keep / "etc" / "apt.conf"
    configuration.write_text(_configuration(keep, architecture))
    _update(configuration)
    _apt(configuration, "install", "--download-only", "--yes", *names)
    wanted = _resolved(configuration, names)
    packages = [_described(archives / each) for each in wanted]
    return sorted(packages, key=lambda each: each.name)


def machine() -> str:
    """Return this machine's architecture, as Debian calls it."""
    return _output("dpkg", "--print-architecture").strip()


def unpack(package: Package, root: Path, *, is_kept: Callable[[str], bool]) -> None:
    """Unpack a package's files into a root folder.

    Args:
        package: that was fetched.
        root: where to.
        is_kept: says of a path (``usr/bin/erl``) whether it is wanted. Folders come with their
            files.
    """
    dpkg = ["dpkg-deb", "--fsys-tarfile", str(package.file)]
    with (
        subprocess.Popen(dpkg, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            path = member.name.removeprefix("./").rstrip("/")
            if path and not member.isdir() and is_kept(path):
                member.name = path
                if member.islnk():
                    member.linkname = member.linkname.removeprefix("./")
                (root / path).unlink(missing_ok=True)
                archive.extract(member, root, filter="fully_trusted")
    if process.returncode:
        raise BuildError(f"`{' '.join(dpkg)}` failed: remove the file and build again")


def sources(release: str = RELEASE) -> list[str]:
    """Return apt's sources: the machine's own of Debian, for a release."""
    if mirror := os.environ.get(MIRROR_VARIABLE):
        return [f"deb [signed-by={KEYS}] {mirror} {release} main"]
    listed = _output(
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE) $(ORIGIN)",
        "Created-By: Packages",
        "Component: main",
    )
    found = set()
    for line in listed.splitlines():
        uri, suite, origin = (*line.split(), "", "")[:3]
        _, _, pocket = suite.partition("-")
        if origin == "Debian" and pocket in {"", "updates", "security"}:
            suite = f"{release}-{pocket}" if pocket else release
            found.add(f"deb [signed-by={KEYS}] {uri} {suite} main")
    if not found:
        raise BuildError(
            "apt knows no source of Debian's packages here: run `apt-get update`, or name one with "
            f"{MIRROR_VARIABLE}=https://..."
        )
    return sorted(found)


def _configuration(keep: Path, architecture: str) -> str:
    return f"""\
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Binary::apt-get::APT::Keep-Downloaded-Packages "true";
APT::Keep-Downloaded-Packages "true";
Dir::Etc "{keep / "etc"}";
Dir::Etc::Parts "/nonexistent";
Dir::State "{keep}";
Dir::State::Lists "{keep / "lists"}";
Dir::State::status "{keep / "status"}";
Dir::Cache "{keep}";
Dir::Cache::Archives "{keep / "archives"}";
Debug::NoLocking "false";
Dpkg::Use-Pty "false";
"""


@cache
def _update(configuration: Path) -> None:
    """Learn what there is, once in a process."""
    _apt(configuration, "update")


def _apt(configuration: Path, *arguments: str) -> str:
    return _output("apt-get", "-qq", *arguments, configuration=configuration)


def _resolved(configuration: Path, names: Sequence[str]) -> list[str]:
    """Return the file names of all that would be installed."""
    listed = _apt(configuration, "--simulate", "--yes", "install", *names)
    found = []
    for line in listed.splitlines():
        match line.split():
            # Inst NAME (VERSION ORIGIN [ARCHITECTURE]) ...
            case ["Inst", name, version, *rest]:
                architecture = next(each for each in rest if each.startswith("[")).strip("[])")
                escaped = version.lstrip("(").replace(":", "%3a")
                found.append(f"{name.partition(':')[0]}_{escaped}_{architecture}.deb")
    return found


def _described(file: Path) -> Package:
    fields = ("Package", "Version", "Architecture", "Source")
    shown = "".join(f"${{{each}}}\\n" for each in fields)
    name, version, architecture, source = _output(
        "dpkg-deb", "--show", f"--showformat={shown}", str(file)
    ).split("\n")[:4]
    return Package(
        name=name,
        version=version,
        architecture=architecture,
        source=source.partition(" ")[0] or name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        file=file,
    )


def _output(*command: str, configuration: Path | None = None) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name == "PATH" or name.lower().endswith("_proxy")
    } | {"LC_ALL": "C.UTF-8"}
    if configuration is not None:
        environment["APT_CONFIG"] = str(configuration)
    try:
        done = subprocess.run(
            command,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
        )
    except FileNotFoundError as exc:
        raise BuildError(f"{command[0]!r} is not installed: images are built on Debian") from exc
    except subprocess.CalledProcessError as exc:
        words = (exc.stderr or exc.stdout).strip()
        raise BuildError(f"`{' '.join(command[:3])} ...` failed: {words}") from exc
    return done.stdout
