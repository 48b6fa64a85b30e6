"""Write the pages of the reference that follow from the code: settings and command line.

The pages are committed, so that they can be read without a build; a test compares them with what
the code says. Run it again after a setting, a command or a description changed::

    python scripts/generate_reference.py
"""

import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from fedge_cli.app import app
from fedge_service import (
    EdgeSettings,
    HealthSettings,
    ServiceSettings,
    TraceSettings,
    find_services,
    load_plugins,
)

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference"

_NOTICE = "<!-- Written by scripts/generate_reference.py; do not edit. -->\n"
_SETTINGS = """# Settings

Services are set by environment variables only. A value that is wrong, or missing where there is no
default, stops the start and is named; variables that no service knows are ignored, because one
environment serves several services. The effective settings are in the first line of a service's
log, passwords masked.

## All services
"""
_LOG_LEVEL = (
    "FEDGE_LOG_LEVEL",
    "`info`",
    "The least that is logged: debug, info, warning, error. Libraries' own records show at debug.",
)
_COMMANDS_END = """Every option is an environment variable too, where the tables name none:
`FEDGE_<COMMAND>_<OPTION>`, for example `FEDGE_GET_SELECTOR`. `-h` and `--help` tell the same at
each command. Exit codes have [a page of their own](exit-codes.md).
"""
_SIGNS: dict[type, tuple[str, str]] = {
    Ge: ("at least", "ge"),
    Gt: ("more than", "gt"),
    Le: ("at most", "le"),
    Lt: ("less than", "lt"),
}


def settings_page() -> str:
    """Return the page of all services' settings."""
    plugins = load_plugins(list(find_services()))
    groups: list[tuple[str, type[ServiceSettings]]] = [
        *((each.name, each.settings) for each in plugins if each.side == "cloud"),
        ("controller and device: probes", HealthSettings),
        ("all services: traces", TraceSettings),
        ("meta, edged and twin", EdgeSettings),
        *((each.name, each.settings) for each in plugins if each.side == "edge"),
    ]
    parts = [_NOTICE, _SETTINGS, _table([_LOG_LEVEL])]
    for title, kind in groups:
        parts += [f"## {title}\n", _table(_settings(kind))]
    return "\n".join(parts)


def commands_page() -> str:
    """Return the page of the command line."""
    group: Any = typer.main.get_command(app)
    parts = [_NOTICE, "# Command line\n", _text(group.help), ""]
    for path, command in _commands("fedge", group):
        parts += [f"## {path}\n", f"```text\n{_usage(path, command)}\n```\n", _text(command.help)]
        rows = [_option(each) for each in command.params if not _is_argument(each)]
        if rows:
            head = "| option | environment | meaning |\n|---|---|---|"
            parts += ["", head, *(f"| {' | '.join(row)} |" for row in rows)]
        parts.append("")
    parts.append(_COMMANDS_END)
    return "\n".join(parts)


PAGES = {"settings.md": settings_page, "cli.md": commands_page}


def _settings(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    prefix = prefix or str(kind.model_config.get("env_prefix", ""))
    for name, field in kind.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            own = str(field.annotation.model_config.get("env_prefix", ""))
            if issubclass(field.annotation, EdgeSettings):
                continue  # on the page in its own right
            yield from _settings(field.annotation, own or f"{prefix}{name.upper()}__")
            continue
        limits = _limits(field)
        meaning = " ".join((field.description or "").split())
        yield f"{prefix}{name.upper()}", _default(field), meaning + (f" ({limits})" * bool(limits))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, list | dict):
        value = json.dumps(value) if value else ""
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{value}`" if str(value) else "empty"


def _limits(field: FieldInfo) -> str:
    return ", ".join(
        f"{words} {getattr(each, attribute)}"
        for kind, (words, attribute) in _SIGNS.items()
        for each in field.metadata
        if isinstance(each, kind)
    )


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in rows]
    return "\n".join(lines) + "\n"


def _commands(path: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if getattr(command, "commands", None):
            yield from _commands(f"{path} {name}", command)
        else:
            yield f"{path} {name}", command


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _usage(path: str, command: Any) -> str:
    words = [path]
    if any(not _is_argument(each) for each in command.params):
        words.append("[OPTIONS]")
    for each in command.params:
        if _is_argument(each):
            word = each.metavar or each.name.upper() + ("..." if each.nargs == -1 else "")
            words.append(word if each.required or word.startswith("[") else f"[{word}]")
    return " ".join(words)


def _option(parameter: Any) -> tuple[str, str, str]:
    flags = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
    variable = parameter.envvar
    known = [variable] if isinstance(variable, str) else list(variable or ())
    default = parameter.default
    shown = f" Default `{default}`." if isinstance(default, str | int) and _counts(default) else ""
    meaning = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return flags, ", ".join(f"`{each}`" for each in known) or "-", meaning + shown


def _counts(default: str | float) -> bool:
    return not isinstance(default, bool) and default not in {"", -1}


def _text(help_text: str | None) -> str:
    """Return a help text as Markdown: what is bold there is what can be typed."""
    return re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", inspect.cleandoc(help_text or ""))


def main() -> int:
    """Write the pages and say which changed."""
    for name, make in PAGES.items():
        page, path = make(), TARGET / name
        if not path.exists() or path.read_text() != page:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page)
            print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
