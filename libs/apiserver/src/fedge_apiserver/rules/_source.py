"""What can be told from a rule's text."""

import re
from typing import Any, Final

_STRINGS: Final = re.compile(
    r"[rRbB]{0,2}(\"\"\".*?\"\"\"|'''.*?'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')", re.DOTALL
)
_OLD: Final = re.compile(r"(?<![\w.])oldSelf\b")
_MACROS: Final = re.compile(r"\.\s*(all|exists|exists_one|existsOne|filter|map)\s*\(")
_GROWING: Final = re.compile(r"\.\s*replace\s*\((?!\s*\"\"\s*,\s*\"\"\s*[,)])")
_WRITING: Final = 4
"""How many times as long as looking at a byte it takes to write one."""
OLD_MAP: Final = "__old"
"""Holds the old value under ``v``, so that indexing it gives an optional."""

REASONS: Final = (
    "FieldValueInvalid",
    "FieldValueForbidden",
    "FieldValueRequired",
    "FieldValueDuplicate",
)
_ESCAPES: Final = (
    ("__", "__underscores__"),
    (".", "__dot__"),
    ("-", "__dash__"),
    ("/", "__slash__"),
)
_KEYWORDS: Final = frozenset(
    {
        *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import"),
        *("in", "let", "loop", "namespace", "null", "package", "return", "true", "var", "void"),
        "while",
    }
)
_ACCESSIBLE: Final = re.compile(r"[A-Za-z_./-][A-Za-z0-9_./-]*")


def _bare(text: str) -> str:
    return _STRINGS.sub('""', text)


def uses_old(text: str) -> bool:
    """Whether an expression looks at the state before."""
    return bool(_OLD.search(_bare(text)))


def with_optional_old(text: str) -> str:
    """Return an expression in which ``oldSelf`` is an optional."""
    parts = []
    at = 0
    for found in _STRINGS.finditer(text):
        parts.append(_OLD.sub(f'{OLD_MAP}[?"v"]', text[at : found.start()]))
        parts.append(found.group())
        at = found.end()
    parts.append(_OLD.sub(f'{OLD_MAP}[?"v"]', text[at:]))
    return "".join(parts)


def cost(text: str, size: int, longest: int, most_iterations: int) -> int:
    """Return an upper bound of what an expression does with a value, in bytes looked at.

    Args:
        text: the expression.
        size: how many bytes the value has.
        longest: how many items the longest list or map in it has.
        most_iterations: where the library stops by itself.
    """
    bare = _bare(text)
    macros = len(_MACROS.findall(bare))
    # Replacing text by text may multiply them; but not if both are given in the rule.
    growing = len(_GROWING.findall(bare))
    each = max(longest, bare.count(",") + 1)
    looked_at: int = max(size, len(text)) ** (1 + growing)
    if growing:
        looked_at *= _WRITING
    return looked_at * min(int(each**macros), most_iterations)


def field_name(name: str) -> str | None:
    """Return how a rule names a property; None if it cannot.

    https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
    """
    if not _ACCESSIBLE.fullmatch(name):
        return None
    if name in _KEYWORDS:
        return f"__{name}__"
    for plain, escaped in _ESCAPES:
        name = name.replace(plain, escaped) if plain != "__" else escaped.join(name.split("__"))
    return name


def path_parts(path: str) -> list[str] | None:
    """Return the field names in a rule's ``fieldPath``; None if it is none."""
    parts: list[str] = []
    at = 0
    for found in re.finditer(r"\.([A-Za-z_][\w-]*)|\['((?:[^'\\]|\\.)*)'\]", path):
        if found.start() != at:
            return None
        parts.append(found[1] or found[2])
        at = found.end()
    return parts if parts and at == len(path) else None


def schema_at(schema: dict[str, Any], parts: list[str]) -> dict[str, Any] | None:
    """Return the schema of a field below another; None if there is none."""
    found = schema
    for part in parts:
        inner = (found.get("properties") or {}).get(part, found.get("additionalProperties"))
        if not isinstance(inner, dict):
            return None
        found = inner
    return found
