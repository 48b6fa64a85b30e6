"""Whether the rules of a definition can be compiled, phrased as a cluster phrases it."""

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from fedge_apiserver.errors import Causes
from fedge_apiserver.rules._source import (
    OLD_MAP,
    REASONS,
    path_parts,
    schema_at,
    uses_old,
    with_optional_old,
)

if TYPE_CHECKING:
    from cel_expr_python import cel

    from fedge_apiserver.rules._types import SchemaTypes

_FIELD: Final = "x-kubernetes-validations"
_MIXED_NUMBERS: Final = re.compile(
    r"found no matching overload for '_(?:[<>]=?|[!=]=)_' applied to "
    r"'\((?:int|uint|double), (?:int|uint|double)\)'"
)
"""A cluster compares numbers of different types, as evaluation here does too."""


@cache
def is_available() -> bool:
    """Whether rules can be compiled and evaluated here."""
    return all(importlib.util.find_spec(name) for name in ("cel_expr_python", "google.protobuf"))


@dataclass(slots=True)
class _Place:
    """A part of a schema that has rules.

    Attributes:
        schema: the part.
        path: its path in the definition.
        correlates: whether its value before can be told.
        variables: its type's names, filled in by the check.
    """

    schema: dict[str, Any]
    path: str
    correlates: bool
    is_root: bool


def check_rules(schema: dict[str, Any], path: str, causes: Causes) -> None:
    """Add what is wrong with the rules of a structural schema.

    Args:
        schema: the schema, which is structural.
        path: its path in the definition.
        causes: is added to.
    """
    places = list(_places(schema, path, correlates=True, is_root=True))
    if not places:
        return
    if not is_available():
        causes.forbidden(
            f"{places[0].path}.{_FIELD}",
            "this server cannot evaluate rules: install fedge-apiserver[rules]",
        )
        return
    from fedge_apiserver.rules._types import SchemaTypes  # noqa: PLC0415 - 20 MB, for rules only

    types = SchemaTypes()
    declared = [types.type_of(place.schema, is_root=place.is_root) for place in places]
    for place, kind in zip(places, declared, strict=True):
        _check_place(place, kind, types, causes)


def _places(schema: Any, path: str, *, correlates: bool, is_root: bool = False) -> "list[_Place]":
    if not isinstance(schema, dict):
        return []
    found = [_Place(schema, path, correlates, is_root)] if schema.get(_FIELD) else []
    for name, inner in (schema.get("properties") or {}).items():
        found += _places(inner, f"{path}.properties[{name}]", correlates=correlates)
    is_map = schema.get("x-kubernetes-list-type") == "map"
    found += _places(schema.get("items"), f"{path}.items", correlates=correlates and is_map)
    found += _places(
        schema.get("additionalProperties"), f"{path}.additionalProperties", correlates=correlates
    )
    return found


def _check_place(place: _Place, kind: "cel.Type", types: "SchemaTypes", causes: Causes) -> None:
    from cel_expr_python import cel  # noqa: PLC0415 - 20 MB, for rules only

    from fedge_apiserver.rules._library import extensions  # noqa: PLC0415 - see above

    environment = cel.NewEnv(
        types.pool(),
        variables={"self": kind, "oldSelf": kind, OLD_MAP: cel.Type.Map(cel.Type.STRING, kind)},
        extensions=extensions(),
    )
    for index, rule in enumerate(place.schema[_FIELD]):
        here = f"{place.path}.{_FIELD}[{index}]"
        if not isinstance(rule, dict):
            causes.invalid(here, rule, "must be an object")
            continue
        _check_words(place, rule, here, causes)
        optional = bool(rule.get("optionalOldSelf"))
        text = str(rule.get("rule") or "").strip()
        if not text:
            causes.required(f"{here}.rule")
        else:
            is_transition = uses_old(text)
            if is_transition and not place.correlates:
                causes.invalid(
                    f"{here}.rule",
                    text,
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within "
                    f"{place.path}",
                )
            if optional and not is_transition:
                causes.invalid(
                    f"{here}.optionalOldSelf",
                    True,
                    "may not be set to true when the rule does not use oldSelf",
                )
            _compile(environment, text, f"{here}.rule", "bool", causes, optional=optional)
        if message := rule.get("messageExpression"):
            path = f"{here}.messageExpression"
            _compile(environment, str(message), path, "string", causes, optional=optional)


def _check_words(place: _Place, rule: dict[str, Any], path: str, causes: Causes) -> None:
    message = rule.get("message")
    if message is not None and not str(message).strip():
        causes.invalid(f"{path}.message", message, "message must be non-empty if specified")
    elif message is not None and "\n" in str(message):
        causes.invalid(f"{path}.message", message, "message must not contain line breaks")
    elif message is None and "\n" in str(rule.get("rule") or "").strip():
        causes.required(f"{path}.message", "message must be specified if rule contains line breaks")
    if (reason := rule.get("reason")) is not None and reason not in REASONS:
        causes.not_supported(f"{path}.reason", reason, REASONS)
    if (field := rule.get("fieldPath")) is not None:
        parts = path_parts(str(field))
        if parts is None or schema_at(place.schema, parts) is None:
            causes.invalid(
                f"{path}.fieldPath", field, "fieldPath must be a valid path: does not exist"
            )


def _compile(
    environment: "cel.Env",
    text: str,
    path: str,
    wanted: str,
    causes: Causes,
    *,
    optional: bool,
) -> None:
    try:
        expression = environment.compile(with_optional_old(text) if optional else text)
    except RuntimeError as exc:
        said = str(exc).removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
        errors = re.findall(r"^ERROR: .*$", said, re.MULTILINE)
        if not errors or not all(_MIXED_NUMBERS.search(error) for error in errors):
            causes.invalid(path, text, f"compilation failed: {said}")
        return
    returned = expression.return_type().name().lower()
    if returned not in (wanted, "dyn"):
        whose = "cel expression" if wanted == "bool" else "messageExpression"
        causes.invalid(path, text, f"{whose} must evaluate to a {wanted}")
