"""Generates the protocol's stubs when the package is built or installed."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent))


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's own generic
    """Runs ``generate.py`` before anything is packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Generate, and have the result packed although git ignores it."""
        from generate import generate  # noqa: PLC0415 - beside this file, not installed

        generate()
        build_data["artifacts"].append("src/fedge_cri/_generated")
