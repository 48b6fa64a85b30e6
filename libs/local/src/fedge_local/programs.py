"""Our own services as managed processes."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedge_local.processes import Place
from fedge_local.servers import Server


class Program(Server):
    """One Python process that runs one or more services (``fedge run NAME...``)."""

    def __init__(
        self,
        *,
        name: str,
        services: Sequence[str],
        folder: Path,
        place: Place,
        settings: Mapping[str, str],
        own_variables: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a process.

        Args:
            name: of the server.
            services: what it runs.
            folder: of all its files.
            place: where it runs.
            settings: of its services.
            own_variables: environment for this process alone: what starts it in its place does not
                see it, which a library that is loaded into every program (``LD_PRELOAD``) needs.
        """
        super().__init__(name=name, folder=folder, place=place)
        self.services = tuple(services)
        self._settings = dict(settings)
        self._own_variables = dict(own_variables or {})

    def command(self) -> list[str]:
        """Return the command, with the Python that runs us."""
        own = [f"{name}={value}" for name, value in self._own_variables.items()]
        prefix = ["/usr/bin/env", *own] if own else []
        return [*prefix, sys.executable, "-m", "fedge_cli", "run", *self.services]

    def variables(self) -> Mapping[str, str]:
        """Return the settings of its services."""
        return self._settings

    async def answers(self) -> bool:
        """Say whether each service has logged that it is ready, since the process was started."""
        ready = set()
        for line in self.log.read_text(errors="replace").splitlines():
            if '"ready"' not in line:
                continue
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a line that is being written, or not one of ours
            if isinstance(record, dict) and record.get("event") == "ready":
                ready.add(record.get("service"))
        return ready.issuperset(self.services)
