"""Label and field selectors.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fedge_apiserver.errors import bad_request
from fedge_apiserver.resources import Resource

Requirement = Callable[[Mapping[str, str]], bool]

_TERM: Final = re.compile(
    r"\s*(?:"
    r"(?P<not>!)\s*(?P<absent>[^\s,!=()<>]+)"
    r"|(?P<key>[^\s,!=()<>]+)\s*(?:(?P<op>==|=|!=|>|<)\s*(?P<value>[^\s,!=()<>]*)"
    r"|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?"
    r")\s*(?:,|$)"
)
_KEY: Final = re.compile(
    r"(?:[a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_VALUE: Final = re.compile(r"(?:[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class _Meta(msgspec.Struct):
    labels: dict[str, str] | None = None


class _Glance(msgspec.Struct):
    """Just what selectors look at: decoding the whole object costs ten times as much."""

    metadata: _Meta


_glance: Final = msgspec.json.Decoder(_Glance).decode
_decode: Final = msgspec.json.Decoder(dict).decode


@dataclass(frozen=True, slots=True)
class Selector:
    """Which objects of a resource are wanted.

    Attributes:
        labels: what their labels must fulfil, all of it.
        fields: what their fields must be: path, wanted text, and whether it must be so or not.
    """

    labels: tuple[Requirement, ...] = ()
    fields: tuple[tuple[str, str, bool], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether everything is wanted."""
        return not self.labels and not self.fields

    @property
    def name(self) -> str | None:
        """The one name that can match, if the selector says it."""
        return next(
            (want for path, want, equal in self.fields if equal and path == "metadata.name"), None
        )

    def matches(self, namespace: str, name: str, body: bytes) -> bool:
        """Tell whether an object is wanted."""
        inner: list[tuple[str, str, bool]] = []
        for path, want, equal in self.fields:
            if path == "metadata.name":
                if (name == want) is not equal:
                    return False
            elif path == "metadata.namespace":
                if (namespace == want) is not equal:
                    return False
            else:
                inner.append((path, want, equal))
        if self.labels:
            labels = _glance(body).metadata.labels or {}
            if not all(requirement(labels) for requirement in self.labels):
                return False
        if inner:
            value = _decode(body)
            return all((_text(value, path) == want) is equal for path, want, equal in inner)
        return True


def matches_labels(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether labels fulfil a ``LabelSelector`` object; an empty one takes all.

    https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/label-selector/
    """
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for expression in selector.get("matchExpressions") or ():
        key, values = expression.get("key", ""), expression.get("values") or ()
        match expression.get("operator"):
            case "In":
                fits = labels.get(key) in values
            case "NotIn":
                fits = labels.get(key) not in values
            case "Exists":
                fits = key in labels
            case "DoesNotExist":
                fits = key not in labels
            case _:
                fits = False
        if not fits:
            return False
    return True


def parse_selector(labels: str, fields: str, resource: Resource) -> Selector:
    """Return the selector that two query parameters describe.

    Raises:
        ApiError: 400, one of them does not parse or names a field that cannot be selected.
    """
    return Selector(_parse_labels(labels), _parse_fields(fields, resource, labels))


def _parse_labels(text: str) -> tuple[Requirement, ...]:
    found: list[Requirement] = []
    at = 0
    text = text.strip()
    while at < len(text):
        term = _TERM.match(text, at)
        if term is None or term.end() == at:
            raise bad_request(
                f"unable to parse requirement: found '{text[at:]}', expected: identifier, '!', "
                "'=', '!=', '==', 'in', 'notin'"
            )
        found.append(_requirement(term))
        at = term.end()
    return tuple(found)


def _requirement(term: re.Match[str]) -> Requirement:
    key = term["absent"] or term["key"]
    if not _KEY.fullmatch(key):
        raise bad_request(
            f'unable to parse requirement: <nil>: Invalid value: "{key}": name part must consist '
            "of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
            "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        )
    if term["absent"]:
        return lambda labels: key not in labels
    wanted = (
        tuple(value.strip() for value in term["values"].split(","))
        if term["set"]
        else (term["value"] or "",)
    )
    for value in wanted:
        if not _VALUE.fullmatch(value):
            raise bad_request(
                f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}": a '
                "valid label must be an empty string or consist of alphanumeric characters, '-', "
                "'_' or '.', and must start and end with an alphanumeric character (e.g. "
                "'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            )
    match term["set"] or term["op"]:
        case "in" | "=" | "==":
            return lambda labels: key in labels and labels[key] in wanted
        case "notin" | "!=":
            return lambda labels: key not in labels or labels[key] not in wanted
        case ">" | "<" as sign:
            return _comparison(key, wanted[0], sign)
        case _:
            return lambda labels: key in labels


def _comparison(key: str, limit: str, sign: str) -> Requirement:
    if not limit.lstrip("-").isdecimal():
        raise bad_request(
            f'unable to parse requirement: values[0][{key}]: Invalid value: "{limit}": for '
            "'Gt', 'Lt' operators, the value must be an integer"
        )
    bound = int(limit)

    def compares(labels: Mapping[str, str]) -> bool:
        value = labels.get(key, "")
        if not value.lstrip("-").isdecimal():
            return False
        return int(value) > bound if sign == ">" else int(value) < bound

    return compares


def _parse_fields(text: str, resource: Resource, labels: str) -> tuple[tuple[str, str, bool], ...]:
    found: list[tuple[str, str, bool]] = []
    for term in re.split(r"(?<!\\),", text):
        if not term.strip():
            continue
        matched = re.fullmatch(r"\s*([^=!\s]+?)\s*(==|=|!=)\s*(.*?)\s*", term)
        if matched is None:
            raise bad_request(f"invalid field selector: '{term}'; can't understand '{term}'")
        path, sign, value = matched.groups()
        if path not in ("metadata.name", "metadata.namespace", *resource.selectable):
            raise bad_request(
                f'Unable to find "{resource.group}/{resource.version}, '
                f'Resource={resource.plural}" that match label selector "{labels}", field '
                f'selector "{text}": field label not supported: {path}'
            )
        plain = value.replace("\\,", ",").replace("\\=", "=").replace("\\\\", "\\")
        found.append((path, plain, sign != "!="))
    return tuple(found)


def _text(value: Any, path: str) -> str:
    parts = ["source", "component"] if path == "source" else path.split(".")
    for part in parts:
        if not isinstance(value, dict):
            return ""
        value = value.get(part)
    match value:
        case None:
            return "false" if path in ("spec.unschedulable", "spec.hostNetwork") else ""
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
