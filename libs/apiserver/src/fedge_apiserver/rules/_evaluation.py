"""Rules as they are applied to objects."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import structlog

from fedge_apiserver import errors
from fedge_apiserver.errors import Causes
from fedge_apiserver.rules._checking import is_available
from fedge_apiserver.rules._source import OLD_MAP, cost, uses_old, with_optional_old

if TYPE_CHECKING:
    from cel_expr_python import cel

log = structlog.stdlib.get_logger("fedge.apiserver.rules")

_FIELD: Final = "x-kubernetes-validations"
_MOST_ITERATIONS: Final = 10_000
"""Where the library stops by itself."""
_BUDGET: Final = 200_000_000
"""Bytes that the rules of one write may look at, at most: about a second's work."""
_OUT_OF_BUDGET: Final = (
    "validation failed due to running out of cost budget, no further validation rules will be run"
)
_NO_KEY: Final = 'NOT_FOUND: Key not found in map : "'


class _BudgetError(Exception):
    """Evaluating would take too long."""


class _RuleError(Exception):
    """A rule that could not be evaluated; the message says why."""


@dataclass(frozen=True, slots=True)
class RuleTree:
    """A schema's parts that have rules, or lead to some.

    Attributes:
        schema: this part of the schema.
        rules: its rules, as they are written.
        properties, items, additional: the parts below it.
    """

    schema: dict[str, Any]
    rules: tuple[dict[str, Any], ...]
    properties: dict[str, "RuleTree"]
    items: "RuleTree | None"
    additional: "RuleTree | None"

    def check(self, value: dict[str, Any], old: dict[str, Any] | None, causes: Causes) -> None:
        """Add to ``causes`` what the rules do not allow in an object, seeing its state before."""
        if not is_available():
            log.warning(
                "rules_not_evaluated",
                kind=value.get("kind"),
                remedy="install fedge-apiserver[rules]; the cloud evaluates them in any case",
            )
            return
        work = _Work(causes)
        try:
            work.check(self, value, old, "", is_root=True)
        except _BudgetError:
            causes.invalid("", "object", _OUT_OF_BUDGET)


def rule_tree(schema: dict[str, Any]) -> RuleTree | None:
    """Return the rules in a schema, or None if there are none."""
    rules = tuple(rule for rule in schema.get(_FIELD) or () if isinstance(rule, dict))
    properties = {
        name: found
        for name, inner in (schema.get("properties") or {}).items()
        if isinstance(inner, dict) and (found := rule_tree(inner)) is not None
    }
    items, additional = schema.get("items"), schema.get("additionalProperties")
    tree = RuleTree(
        schema,
        rules,
        properties,
        rule_tree(items) if isinstance(items, dict) else None,
        rule_tree(additional) if isinstance(additional, dict) else None,
    )
    return tree if rules or properties or tree.items or tree.additional else None


class _Work:
    """The check of one object."""

    def __init__(self, causes: Causes) -> None:
        self._causes = causes
        self._left = _BUDGET

    def check(
        self, tree: RuleTree, value: Any, old: Any, path: str, *, is_root: bool = False
    ) -> None:
        """Check a part of the object and all below it."""
        if value is None:
            return
        self._apply(tree, value, old, path, is_root=is_root)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for key, inner in tree.properties.items():
                if key in value:
                    here = f"{path}.{key}" if path else key
                    self.check(inner, value[key], before.get(key), here)
            if tree.additional is not None:
                for key, item in value.items():
                    if key not in (tree.schema.get("properties") or {}):
                        self.check(tree.additional, item, before.get(key), f"{path}[{key}]")
        elif isinstance(value, list) and tree.items is not None:
            find = _finder(tree.schema, old)
            for index, item in enumerate(value):
                self.check(tree.items, item, find(item), f"{path}[{index}]")

    def _apply(self, tree: RuleTree, value: Any, old: Any, path: str, *, is_root: bool) -> None:
        if not tree.rules:
            return
        from fedge_apiserver.rules._values import Weight, to_cel  # noqa: PLC0415 - 20 MB, for rules only

        is_same = old is not None and old == value
        weight = Weight()
        data: dict[str, Any] | None = None
        for rule in tree.rules:
            text = str(rule["rule"]).strip()
            optional = bool(rule.get("optionalOldSelf"))
            is_transition = uses_old(text)
            if (is_transition and old is None and not optional) or (is_same and not is_transition):
                # There is nothing to compare with; or what was allowed once stays allowed.
                continue
            if data is None:
                data = {"self": to_cel(value, tree.schema, weight, is_root=is_root), OLD_MAP: {}}
                if old is not None:
                    data["oldSelf"] = to_cel(old, tree.schema, weight, is_root=is_root)
                    data[OLD_MAP] = {"v": data["oldSelf"]}
            self._left -= cost(text, weight.size, weight.longest, _MOST_ITERATIONS)
            if self._left < 0:
                raise _BudgetError
            self._judge(rule, text, data, path, str(tree.schema.get("type") or "object"))

    def _judge(
        self, rule: dict[str, Any], text: str, data: dict[str, Any], path: str, kind: str
    ) -> None:
        optional = bool(rule.get("optionalOldSelf"))
        message = str(rule.get("message") or "").strip()
        try:
            if _evaluate(with_optional_old(text) if optional else text, data) is True:
                return
        except _RuleError as exc:
            shown = message or f"rule: {text}"
            self._causes.invalid(path, kind, f"{exc} evaluating rule: {shown}")
            return
        if expression := rule.get("messageExpression"):
            message = _message(str(expression), data, optional=optional) or message
        where = path + str(rule.get("fieldPath") or "")
        where = where.removeprefix(".")
        detail = message or f"failed rule: {text}"
        self._add(str(rule.get("reason")), where, kind, detail)

    def _add(self, reason: str, path: str, shown: str, detail: str) -> None:
        match reason:
            case errors.FORBIDDEN:
                self._causes.forbidden(path, detail)
            case errors.REQUIRED:
                self._causes.required(path, detail)
            case errors.DUPLICATE:
                self._causes.duplicate(path, shown)
            case _:
                self._causes.invalid(path, shown, detail)


def _message(expression: str, data: dict[str, Any], *, optional: bool) -> str:
    """Return what a rule's message expression says; nothing if it fails, as in a cluster."""
    try:
        said = _evaluate(with_optional_old(expression) if optional else expression, data)
    except _RuleError as exc:
        log.debug("message_expression_failed", expression=expression, why=str(exc))
        return ""
    text = said.strip() if isinstance(said, str) else ""
    return "" if "\n" in text else text


def _finder(schema: dict[str, Any], old: Any) -> Any:
    """Return what finds an item's state before: by its keys, or not at all."""
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list) or not keys:
        return lambda _: None

    def key_of(item: Any) -> tuple[Any, ...]:
        return tuple(item.get(key) for key in keys) if isinstance(item, dict) else ()

    known = {key_of(item): item for item in old}
    return lambda item: known.get(key_of(item))


@lru_cache(maxsize=1)
def _environment() -> "cel.Env":
    from cel_expr_python import cel  # noqa: PLC0415 - 20 MB, for rules only

    from fedge_apiserver.rules._library import extensions  # noqa: PLC0415 - see above

    # Types were checked when the definition was written; values carry theirs.
    return cel.NewEnv(
        variables={
            "self": cel.Type.DYN,
            "oldSelf": cel.Type.DYN,
            OLD_MAP: cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
        },
        extensions=extensions(),
    )


@lru_cache(maxsize=1024)
def _program(text: str) -> "cel.Expression":
    return _environment().compile(text)


def _evaluate(text: str, data: dict[str, Any]) -> Any:
    """Return an expression's value.

    Raises:
        _RuleError: it has none.
        _BudgetError: it takes too many steps.
    """
    try:
        result = _program(text).eval(data=data)
    except RuntimeError as exc:
        if "budget exceeded" in str(exc):
            raise _BudgetError from exc
        raise _RuleError(str(exc)) from exc
    value = result.value()
    if result.type().name() != "ERROR":
        return value
    said = str(value)
    if said.startswith(_NO_KEY):
        raise _RuleError(f"no such key: {said.removeprefix(_NO_KEY).rstrip(chr(34))}")
    raise _RuleError(said.partition(": ")[2] or said)
