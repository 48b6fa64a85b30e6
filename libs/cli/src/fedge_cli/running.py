"""``fedge run``: services in this process.

Kept apart from the rest: a gateway that runs its services pays for no printing of tables.
"""

import sys
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from fedge_service import UnknownServiceError, run_services

USAGE_ERROR = 2


def run(names: Sequence[str]) -> int:
    """Run the services called ``names`` until a signal; return the exit code."""
    try:
        run_services(names)
    except ValidationError as exc:
        for error in exc.errors():
            sys.stderr.write(f"{_variable(exc.title, error['loc'])}: {error['msg']}\n")
        sys.stderr.write("set these variables, or correct them, and start again\n")
        return USAGE_ERROR
    except UnknownServiceError as exc:
        sys.stderr.write(f"{exc}\n")
        return USAGE_ERROR
    return 0


def _variable(title: str, location: tuple[int | str, ...]) -> str:
    """Return the environment variable of a setting, by the prefix of its class."""
    field = "__".join(str(part) for part in location).upper()
    for kind in _all_settings(BaseModel):
        if kind.__name__ == title:
            return f"{kind.model_config.get('env_prefix', '')}{field}"
    return field


def _all_settings(kind: type[BaseModel]) -> list[type[BaseModel]]:
    found = kind.__subclasses__()
    return found + [deeper for each in found for deeper in _all_settings(each)]
