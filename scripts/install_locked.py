"""Install members of the workspace with exactly the outside packages of ``constraints.txt``.

Usage::

    python scripts/install_locked.py VENV_PYTHON MEMBER_FOLDER...

pip checks hashes for all that it installs or for nothing, and a folder has no hash. So: ask pip
what the members need, install that with its hashes, then the members without their dependencies.
For images, which hold what one service needs and no more. Standard library only.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CONSTRAINTS = Path("constraints.txt")


def blocks(text: str) -> dict[str, str]:
    """Return each package's pin with its hashes, by normalized name."""
    bodies = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    return {normalized(body.partition("==")[0]): body for body in bodies}


def normalized(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(python: str, members: list[str]) -> None:
    """Install ``members`` into the environment of ``python``."""
    locked = blocks(CONSTRAINTS.read_text())
    folders = [f"./{Path(member)}" for member in members]
    with tempfile.TemporaryDirectory() as scratch:
        pins = Path(scratch) / "pins.txt"
        pins.write_text("".join(body.split()[0] + "\n" for body in locked.values()))
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        # build environments heed the pins too
        env = {**os.environ, "PIP_CONSTRAINT": str(pins)}
        report = subprocess.run(
            [*pip, "--dry-run", "--ignore-installed", "--report", "-", *folders],
            env=env,
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        names = {normalized(each["metadata"]["name"]) for each in json.loads(report)["install"]}
        own = {name for name in names if name.startswith("fedge-")}
        needed = Path(scratch) / "needed.txt"
        needed.write_text("".join(locked[name] for name in sorted(names - own)))
        subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", str(needed)], check=True)
        subprocess.run([*pip, "--no-deps", *folders], env=env, check=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
