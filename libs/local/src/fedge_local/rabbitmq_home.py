"""A RabbitMQ installation reduced to the plugins that are used, which boots in half the time.

At its start RabbitMQ looks for each module through every folder of its code path, and reads the
schema and the description of every plugin that lies in its plugin folder, enabled or not. A home of
symbolic links to what the enabled plugins need, and nothing else, takes 2 s of processor time
instead of 4 (3.10), and saves 8 MB of memory.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from fedge_local.errors import MissingError

_INSTALLED = ("/usr/lib/rabbitmq/lib/rabbitmq_server-*", "/opt/rabbitmq")
# what the start scripts and the configuration need beside the enabled plugins' own dependencies
_ALWAYS = ("rabbit", "rabbit_common", "rabbitmq_prelaunch", "cuttlefish", "getopt")
_APPLICATIONS = re.compile(r"\{\s*applications\s*,\s*\[([^\]]*)\]")
_NUMBER = re.compile(r"\d+")


def installed() -> Path:
    """Return the folder of the newest RabbitMQ that is installed.

    Raises:
        MissingError: there is none.
    """
    root = Path("/")
    found = [
        folder
        for pattern in _INSTALLED
        for folder in root.glob(pattern.lstrip("/"))
        if (folder / "sbin/rabbitmq-server").exists()
    ]
    if not found:
        raise MissingError("RabbitMQ is not installed: run `apt-get install rabbitmq-server`")
    return max(found, key=lambda each: [int(n) for n in _NUMBER.findall(each.name)])


def make_home(source: Path, home: Path, plugins: Iterable[str]) -> None:
    """Make a home of links into the installation ``source``, anew.

    Args:
        source: an installed RabbitMQ.
        home: the folder to make; what was there is removed.
        plugins: names of the plugins that will be enabled.

    Raises:
        MissingError: a plugin is not part of the installation.
    """
    shutil.rmtree(home, ignore_errors=True)
    for folder in ("sbin", "plugins"):
        (home / folder).mkdir(parents=True)
    for script in (source / "sbin").iterdir():
        (home / "sbin" / script.name).symlink_to(script.resolve())
    for folder in ("escript", "etc"):
        if (source / folder).exists():
            (home / folder).symlink_to(source / folder)
    for each in _needed(source / "plugins", plugins):
        (home / "plugins" / each.name).symlink_to(each)


def _needed(folder: Path, plugins: Iterable[str]) -> list[Path]:
    there = {each.name.rpartition("-")[0] or each.name: each for each in folder.iterdir()}
    missing = [each for each in plugins if each not in there]
    if missing:
        raise MissingError(f"RabbitMQ in {folder} has no plugin {missing[0]!r}")
    if any(each.suffix == ".ez" for each in there.values()):
        return list(there.values())  # packed plugins cannot be looked into
    needed: dict[str, Path] = {}
    waiting = [*_ALWAYS, *plugins]
    while waiting:
        name = waiting.pop()
        if name in there and name not in needed:
            needed[name] = there[name]
            waiting.extend(_dependencies(there[name] / "ebin" / f"{name}.app"))
    return list(needed.values())


def _dependencies(description: Path) -> list[str]:
    try:
        found = _APPLICATIONS.search(description.read_text())
    except FileNotFoundError:
        return []
    return re.findall(r"[a-z]\w*", found[1]) if found else []
