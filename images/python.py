"""Python packages for another Python and another processor than those that build.

Outside packages come from pip with exactly the versions and hashes of ``constraints.txt``; fedge's
own members are built from this tree. A wheel is unpacked as it is
(https://packaging.python.org/en/latest/specifications/binary-distribution-format/): no script and
no compiler of the image is needed.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from images.errors import BuildError

ROOT: Final = Path(__file__).resolve().parents[1]
VERSION: Final = "3.13"
"""Of the image's Python: Debian stable's."""
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
_PLATFORMS: Final = ("manylinux_2_17", "manylinux2014", "manylinux_2_28", "manylinux_2_34")
_DATA: Final = ".data/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A Python package, ready to be unpacked."""

    name: str
    version: str
    sha256: str
    file: Path


def members_of(*names: str) -> list[str]:
    """Return members of the workspace, with all that they need of it, as ``libs/objects``.

    Args:
        names: of the members, as ``services/meta``, or with an extra as ``libs/apiserver[rules]``.
    """
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        member = name.partition("[")[0]
        if member in found:
            continue
        found.append(member)
        for each in _dependencies(name):
            if each.startswith("fedge-"):
                own = each.removeprefix("fedge-")
                waiting.append(
                    f"libs/{own}" if (ROOT / "libs" / own).is_dir() else f"services/{own}"
                )
    return sorted(found)


def fetch(names: Sequence[str], *, architecture: str, folder: Path) -> list[Wheel]:
    """Return the outside packages that members and all that they need ask for, sorted by name.

    Args:
        names: of the members, as `members_of` takes them.
        architecture: as Debian calls it.
        folder: where wheels are kept for the next time.

    Raises:
        BuildError: pip could not get one, or one has another hash than constraints.txt says.
    """
    outside = sorted(
        {
            each
            for name in {*names, *members_of(*names)}
            for each in _dependencies(name)
            if not each.startswith("fedge-")
        }
    )
    keep = folder / architecture
    keep.mkdir(parents=True, exist_ok=True)
    locked = pins_of((ROOT / "constraints.txt").read_text())
    pins = keep / "pins.txt"
    pins.write_text("".join(body.split()[0] + "\n" for body in locked.values()))
    machine = _MACHINES[architecture]
    target = [
        "--only-binary=:all:", "--implementation=cp", f"--python-version={VERSION}",
        f"--abi=cp{VERSION.replace('.', '')}", "--abi=abi3", "--abi=none",
        *(f"--platform={each}_{machine}" for each in _PLATFORMS), "--platform=any",
    ]  # fmt: skip
    wanted = _resolved(outside, target, pins, locked, keep)
    found = _there(keep, wanted, locked)
    if wanted - found.keys():
        needed = keep / "needed.txt"
        needed.write_text("".join(locked[name] for name in sorted(wanted)))
        _pip(
            "download",
            "--no-deps",
            "--require-hashes",
            f"--dest={keep}",
            *target,
            f"--requirement={needed}",
        )
        found = _there(keep, wanted, locked)
    if missing := wanted - found.keys():
        raise BuildError(f"pip did not fetch {sorted(missing)}: remove {keep} and build again")
    return sorted(found.values(), key=lambda each: each.name)


def pins_of(constraints: str) -> dict[str, str]:
    """Return each package's pin with its hashes, by normalized name."""
    bodies = re.split(r"^(?=[A-Za-z0-9])", constraints, flags=re.MULTILINE)[1:]
    return {normalized(body.partition("==")[0]): body for body in bodies}


def _resolved(
    outside: Sequence[str],
    target: Sequence[str],
    pins: Path,
    locked: Mapping[str, str],
    keep: Path,
) -> set[str]:
    """Return which packages are installed for those that are asked for; known if asked before."""
    asked = json.dumps([outside, target, sorted(locked.items())]).encode()
    known = keep / f"resolved-{hashlib.sha256(asked).hexdigest()[:16]}.json"
    if not known.exists():
        report = _pip(
            "install", "--dry-run", "--ignore-installed", f"--target={keep}", *target,
            f"--constraint={pins}", "--report=-", *outside,
        )  # fmt: skip
        names = [each["metadata"]["name"] for each in json.loads(report)["install"]]
        new = known.with_suffix(".new")
        new.write_text(json.dumps(sorted(names)))
        new.replace(known)
    return {normalized(name) for name in json.loads(known.read_text())}


def _there(keep: Path, wanted: Collection[str], locked: Mapping[str, str]) -> dict[str, Wheel]:
    """Return what is there already of what is wanted, with a hash that constraints.txt knows."""
    found = {}
    for file in sorted(keep.glob("*.whl")):
        name, version = file.name.split("-")[:2]
        pin = locked.get(normalized(name), "") if normalized(name) in wanted else ""
        if f"=={version} " in pin:
            wheel = _described(file)
            if f"sha256:{wheel.sha256}" in pin:
                found[wheel.name] = wheel
    return found


def build(members: Sequence[str], *, folder: Path) -> list[Wheel]:
    """Build the wheels of members of the workspace, the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)

    def one(member: str) -> Wheel:
        out = folder / Path(member).name
        out.mkdir(exist_ok=True)
        for old in out.glob("*.whl"):
            old.unlink()
        _run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
            cwd=ROOT / member,
        )
        return _described(next(out.glob("*.whl")))

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        return list(workers.map(one, members))


def unpack(wheel: Wheel, site: Path) -> None:
    """Unpack a wheel into a folder of the image's Python path, without its scripts."""
    with zipfile.ZipFile(wheel.file) as archive:
        for name in archive.namelist():
            if not name.endswith("/") and _DATA not in name:
                archive.extract(name, site)


def _dependencies(name: str) -> list[str]:
    member, _, extra = name.rstrip("]").partition("[")
    project = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]
    found: list[str] = project["dependencies"]
    return [*found, *project["optional-dependencies"][extra]] if extra else found


def normalized(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _described(file: Path) -> Wheel:
    name, version = file.name.split("-")[:2]
    return Wheel(
        name=normalized(name),
        version=version,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        file=file,
    )


def _pip(*arguments: str) -> str:
    return _run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments])


def _run(command: list[str], **options: Any) -> str:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "315532800", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        command, env=environment, check=False, capture_output=True, text=True, **options
    )
    if done.returncode:
        raise BuildError(f"`{' '.join(command[1:5])} ...` failed: {done.stderr.strip()[-2000:]}")
    said: str = done.stdout
    return said
