"""What a job asks for, whatever its kind.

https://pkg.go.dev/github.com/kubeedge/api/apis/operations/v1alpha2
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fedge_objects import JsonObject
from fedge_operations import CheckItem

DEFAULT_TIMEOUT_SECONDS: Final = 300
DEFAULT_TOLERATED: Final = 0.1
MAX_TIMEOUT_SECONDS: Final = 7 * 86400
ABSENT_ANNOTATION: Final = "operations.fedge.io/absent-seconds"
"""How long a job waits for nodes that are away; without it, as long as it takes."""
CONFIRMED_ANNOTATION: Final = "operations.fedge.io/confirmed"
"""Names of nodes, joined by commas, on which somebody agrees to an upgrade; ``*``: on all."""
_OPERATORS: Final = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


class InvalidJobError(ValueError):
    """The job cannot be done as it is; the text names the field and says what to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a job goes about it.

    Attributes:
        node_names: which nodes, by name.
        selector: which nodes, by labels (``LabelSelector``); None: only those named.
        concurrency: how many at once.
        tolerated: which share of the nodes may fail before no more are begun.
        timeout_seconds: for each node.
        check_items: what a node looks at first.
        absent_seconds: how long the job waits for nodes that are away; None: without an end.
    """

    node_names: tuple[str, ...]
    selector: JsonObject | None
    concurrency: int
    tolerated: float
    timeout_seconds: int
    check_items: tuple[CheckItem, ...]
    absent_seconds: float | None


def read_options(
    spec: Mapping[str, Any],
    annotations: Mapping[str, str],
    *,
    default_checks: tuple[CheckItem, ...] = (),
) -> Options:
    """Read the fields that all jobs have.

    Args:
        spec: the part of the job's spec that holds them.
        annotations: of the job.
        default_checks: what is looked at where the job says nothing.

    Raises:
        InvalidJobError: one of them is wrong.
    """
    names, selector = tuple(spec.get("nodeNames") or ()), spec.get("labelSelector")
    if bool(names) == bool(selector):
        raise InvalidJobError(
            "set nodeNames or labelSelector, and only one of them, to say which nodes are meant"
        )
    _check_selector(selector or {})
    timeout = int(spec.get("timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS)
    if not 0 < timeout <= MAX_TIMEOUT_SECONDS:
        raise InvalidJobError(f"timeoutSeconds is {timeout}: set 1 to {MAX_TIMEOUT_SECONDS}")
    concurrency = int(spec.get("concurrency") or 1)
    if concurrency < 1:
        raise InvalidJobError(f"concurrency is {concurrency}: set 1 or more")
    return Options(
        node_names=tuple(dict.fromkeys(names)),
        selector=selector,
        concurrency=concurrency,
        tolerated=_share(spec.get("failureTolerate")),
        timeout_seconds=timeout,
        check_items=_checks(spec.get("checkItems"), default_checks),
        absent_seconds=_absent(annotations.get(ABSENT_ANNOTATION)),
    )


def confirmed_nodes(annotations: Mapping[str, str]) -> frozenset[str]:
    """Return the nodes on which somebody agrees to an upgrade; ``*`` is all of them."""
    said = annotations.get(CONFIRMED_ANNOTATION) or ""
    return frozenset(filter(None, (each.strip() for each in said.split(","))))


def selects(selector: JsonObject, labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes labels.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
    """
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(requirement: JsonObject, labels: Mapping[str, str]) -> bool:
    key, values = requirement["key"], requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def _check_selector(selector: JsonObject) -> None:
    for each in selector.get("matchExpressions") or ():
        if each.get("operator") not in _OPERATORS:
            raise InvalidJobError(
                f"labelSelector has the operator {each.get('operator')!r}:"
                f" set one of {', '.join(sorted(_OPERATORS))}"
            )


def _share(text: str | None) -> float:
    if not text:
        return DEFAULT_TOLERATED
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InvalidJobError(f'failureTolerate is {text!r}: set a share from "0" to "1"')
    return share


def _checks(items: list[str] | None, default: tuple[CheckItem, ...]) -> tuple[CheckItem, ...]:
    if not items:
        return default
    try:
        return tuple(dict.fromkeys(map(CheckItem, items)))
    except ValueError as exc:
        known = ", ".join(CheckItem)
        raise InvalidJobError(f"checkItems: {exc}: set any of {known}") from exc


def _absent(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise InvalidJobError(f"annotation {ABSENT_ANNOTATION} is {text!r}: set seconds")
    return seconds
