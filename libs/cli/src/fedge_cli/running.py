"""``fedge run``: services in this process.

Kept apart from the rest: a gateway that runs its services pays for no printing of tables.
"""

import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from fedge_service import (
    HealthSettings,
    ServiceSettings,
    TraceSettings,
    UnknownServiceError,
    load_plugins,
    run_services,
)

USAGE_ERROR = 2
_LEVEL = "FEDGE_LOG_LEVEL"
_LEVELS = ("debug", "info", "warning", "error")


def run(names: Sequence[str]) -> int:
    """Run the services called ``names`` until a signal; return the exit code."""
    try:
        run_services(names)
    except UnknownServiceError as exc:
        sys.stderr.write(f"{exc}\n")
        return USAGE_ERROR
    except ValueError:
        # it names the first wrong setting of one service, and whoever sets them wants all at once
        wrong = list(dict.fromkeys(_wrong_settings(names)))
        if not wrong:
            raise
        sys.stderr.write("\n".join(wrong) + "\n")
        sys.stderr.write("set these variables, or correct them, and start again\n")
        return USAGE_ERROR
    return 0


def _wrong_settings(names: Sequence[str]) -> Iterator[str]:
    """Yield ``VARIABLE: why`` for each setting that is missing or wrong, without its value."""
    level = os.environ.get(_LEVEL, _LEVELS[1])
    if level.lower() not in _LEVELS:
        yield f"{_LEVEL}: is {level!r}: use {', '.join(_LEVELS)}"
    found: list[type[ServiceSettings]] = [TraceSettings, HealthSettings]
    found += [plugin.settings for plugin in load_plugins(names)]
    for settings in found:
        yield from _wrong_fields(settings)


def _wrong_fields(settings: type[ServiceSettings]) -> Iterator[str]:
    """Yield what is wrong with one class of settings and with those that it holds."""
    shared: dict[str, type[ServiceSettings]] = {
        name: field.annotation
        for name, field in settings.model_fields.items()
        if inspect.isclass(field.annotation) and issubclass(field.annotation, ServiceSettings)
    }
    for kind in shared.values():
        yield from _wrong_fields(kind)
    try:
        # what it shares was looked at above: stand-ins keep that from failing again
        stand_ins: dict[str, Any] = {name: kind.model_construct() for name, kind in shared.items()}
        settings(**stand_ins)
    except ValidationError as exc:
        prefix = settings.model_config.get("env_prefix", "")
        for error in exc.errors(include_url=False, include_input=False):
            name = "__".join(str(part) for part in error["loc"]).upper()
            why = "is not set" if error["type"] == "missing" else error["msg"]
            yield f"{prefix}{name}: {why}"
