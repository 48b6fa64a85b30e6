"""From a recipe to an image: Debian's packages below, Python's above them, fedge on top.

What an image does not run is left out of it. What is kept must find all that it needs: every
program's libraries are looked for when the image is built (`images.elf`).
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from images import bill, debian, elf, layers, python
from images.errors import BuildError

PYTHON: Final = f"usr/lib/python{python.VERSION}"
SITE: Final = f"usr/local/lib/python{python.VERSION}/dist-packages"
UNUSED_PYTHON: Final = tuple(
    f"{PYTHON}/{each}"
    for each in (
        "_pyrepl/*", "config-*", "curses/*", "dbm/*", "idlelib/*", "pydoc_data/*", "test/*",
        "tkinter/*", "turtledemo/*", "wsgiref/*",
        "lib-dynload/_ctypes_test*", "lib-dynload/_curses*", "lib-dynload/_dbm*",
        "lib-dynload/_test*", "lib-dynload/_xx*", "lib-dynload/readline*", "lib-dynload/xx*",
    )
)  # fmt: skip
"""Of the standard library."""
UNUSED_DEBIAN: Final = (
    "usr/share/*",  # documentation, translations
    "usr/lib/*/gconv/*", "usr/lib/locale/C.utf8/LC_[!C]*",
    "usr/lib/systemd/*", "usr/lib/dpkg/*", "usr/lib/ocf/*", "usr/libexec/*", "usr/sbin/*",
    "usr/lib/*/perl*", "usr/lib/*/audit/*", "usr/lib/*/engines-3/*",
    "etc/*.d/*", "etc/default/*", "etc/issue*", "etc/motd",
)  # fmt: skip
UNUSED_WHEELS: Final = (
    "zstandard/_cffi*",  # another way to what is there already
    "*/tests/*", "*/test/*", "*.pyi", "*.pyx", "*.pxd", "*.h", "*.c",
)  # fmt: skip
FOLDERS: Final = {
    "dev": 0o755, "proc": 0o555, "root": 0o700, "run": 0o755, "sys": 0o555, "tmp": 0o1777,
    "var/tmp": 0o1777,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an image is made of."""

    name: str
    """As ``fedge/edge``."""
    members: tuple[str, ...]
    """Of the workspace; what they need of it comes with them."""
    packages: tuple[str, ...]
    """Of Debian, from which apt resolves the others."""
    kept: tuple[str, ...]
    """Patterns of the names of those that are unpacked; the others are only there for package
    management, or for what is left out."""
    is_kept: Callable[[str], bool]
    """Says of a path of a Debian package, as it lies in the image, whether it is wanted."""
    config: Mapping[str, Any]
    """What is run and how, as OCI says it."""
    version_of: str
    """The member whose version the image has."""
    finish: Callable[[Path], None] = lambda _: None
    """Does what remains to be done with Debian's files."""
    wheels_left_out: frozenset[str] = frozenset()
    applets: tuple[str, ...] = ()
    """Of busybox."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text of files of the image's own; one that begins with ``#!`` is a program."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Folders of this tree that lie in fedge's layer, by their place there."""
    folders: Mapping[str, int] = field(default_factory=dict)
    """Empty folders with their modes, besides those that every system has."""
    owned: Mapping[str, int] = field(default_factory=dict)
    """Numeric owner and group, of folders that are not root's."""
    optimize: int = 0
    """Level of Python's optimization."""

    @property
    def short_name(self) -> str:
        """The name without ``fedge/``."""
        return self.name.rpartition("/")[2]

    @property
    def bill(self) -> str:
        """Where the bill of materials lies."""
        return f"usr/share/sbom/fedge-{self.short_name}.spdx.json"

    @property
    def version(self) -> str:
        """The image's version.

        Raises:
            BuildError: the member says none.
        """
        project = python.ROOT / self.version_of / "pyproject.toml"
        found = re.search(r'^version = "(.+)"', project.read_text(), re.MULTILINE)
        if found is None:
            raise BuildError(f"{self.version_of}/pyproject.toml says no version")
        return found[1]

    @property
    def reference(self) -> str:
        """The image's full name, as engines complete it."""
        return f"docker.io/{self.name}:{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What lies below fedge's own files, and changes seldom."""

    layers: list[layers.Layer]
    debian: list[debian.Package]
    python: list[python.Wheel]


def base(recipe: Recipe, architecture: str, root: Path, *, cache: Path) -> Base:
    """Fetch and put together what fedge stands on.

    Args:
        recipe: of the image.
        architecture: as Debian calls it.
        root: an empty folder.
        cache: of what is fetched.

    Raises:
        BuildError: something cannot be had, or does not fit together.
    """
    packages = [
        each
        for each in debian.fetch(
            recipe.packages, architecture=architecture, folder=cache / "debian"
        )
        if any(fnmatch(each.name, pattern) for pattern in recipe.kept)
    ]
    wheels = [
        each
        for each in python.fetch(recipe.members, architecture=architecture, folder=cache / "wheels")
        if each.name not in recipe.wheels_left_out
    ]
    for package in packages:
        debian.unpack(package, root, is_kept=lambda path: recipe.is_kept(merged(path)))
    merge_usr(root)
    recipe.finish(root)
    site = root / SITE
    site.mkdir(parents=True)
    for wheel in wheels:
        python.unpack(wheel, site)
    _remove(site, UNUSED_WHEELS)
    for applet in recipe.applets:
        (root / "usr/bin" / applet).symlink_to("busybox")
    (root / "usr/bin/python3").symlink_to(f"python{python.VERSION}")
    for folder, mode in {**FOLDERS, **recipe.folders}.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder).chmod(mode)
    for name, text in recipe.files.items():
        write(root, name, text)
    _compile(root, [PYTHON, SITE], cache, optimize=recipe.optimize)
    elf.check(root, architecture=architecture)

    def is_python(path: str) -> bool:
        return path.startswith(f"{SITE}/")

    with ThreadPoolExecutor(2) as workers:  # compressing takes the time, side by side
        below = workers.submit(
            layers.layer,
            root,
            created_by="Debian",
            is_in=lambda path: not is_python(path),
            owners=recipe.owned,
        )
        above = workers.submit(layers.layer, root, created_by="Python packages", is_in=is_python)
    return Base(
        layers=[below.result(), above.result()],
        debian=packages,
        python=wheels,
    )


def complete(
    recipe: Recipe, found: Base, root: Path, *, architecture: str, cache: Path
) -> tuple[bytes, bytes, str]:
    """Put fedge on top, as the last layer: an update of fedge alone sends this one only.

    Args:
        recipe: of the image.
        found: what lies below.
        root: an empty folder.
        architecture: as Debian calls it.
        cache: of what is built.

    Returns:
        The image as an archive, its bill of materials, and its digest.
    """
    own = python.build(python.members_of(*recipe.members), folder=cache / "wheels" / "own")
    site = root / SITE
    site.mkdir(parents=True)
    for wheel in own:
        python.unpack(wheel, site)
    _compile(root, [SITE], cache, optimize=recipe.optimize)
    for place, source in recipe.copies.items():
        shutil.copytree(python.ROOT / source, root / place, copy_function=shutil.copyfile)
    said = bill.bill(
        name=recipe.name,
        version=recipe.version,
        architecture=architecture,
        debian=found.debian,
        python=[*found.python, *own],
    )
    (root / recipe.bill).parent.mkdir(parents=True)
    (root / recipe.bill).write_bytes(said)
    archive, digest = layers.archive(
        [*found.layers, layers.layer(root, created_by="fedge", is_in=lambda _: True)],
        name=recipe.reference,
        architecture=architecture,
        config=recipe.config,
        annotations={
            "org.opencontainers.image.title": recipe.name,
            "org.opencontainers.image.version": recipe.version,
        },
    )
    return archive, said, digest


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


def _remove(folder: Path, patterns: Iterable[str]) -> None:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and any(fnmatch(name, pattern) for pattern in patterns):
            path.unlink()


def write(root: Path, name: str, text: str) -> None:
    """Write a file of the image; one that begins with ``#!`` is a program."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755 if text.startswith("#!") else 0o644)


def _compile(root: Path, folders: Iterable[str], cache: Path, *, optimize: int) -> None:
    """Compile what Python imports, with that very Python but for this machine.

    The result is the same for all processors. It is not looked up against the source's time, which
    an image does not keep (https://peps.python.org/pep-0552/).
    """
    host = debian.machine()
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        own = Path(scratch)
        for package in debian.fetch(
            ("libpython3-stdlib", "python3-minimal"), architecture=host, folder=cache / "debian"
        ):
            if package.name.startswith(
                (f"python{python.VERSION}", f"libpython{python.VERSION}", "lib")
            ):
                debian.unpack(package, own, is_kept=lambda path: not path.startswith("usr/share"))
        [loader] = (each for each in own.rglob("ld-linux-*.so.*") if each.parent.name != "lib64")
        command = [
            str(loader), "--library-path", str(loader.parent),
            str(own / f"usr/bin/python{python.VERSION}"),
            "-m", "compileall", "-q", "-s", str(root), "-p", "/", "-o", str(optimize),
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
