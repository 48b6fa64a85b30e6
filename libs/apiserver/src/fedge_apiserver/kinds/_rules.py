"""The shape of a kind's rules."""

from collections.abc import Callable
from dataclasses import dataclass

from fedge_apiserver.errors import Causes
from fedge_apiserver.kinds._metadata import check_subdomain
from fedge_objects import JsonObject


def _nothing(_: JsonObject) -> None:
    """Do nothing."""


def _nothing_to(_: JsonObject, __: JsonObject) -> None:
    """Do nothing."""


def _no_check(_: JsonObject, __: Causes) -> None:
    """Find nothing wrong."""


def _no_update_check(_: JsonObject, __: JsonObject, ___: Causes) -> None:
    """Find nothing wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Functions that change or judge an object; each may be left out.

    Attributes:
        default: set what is absent; called with every object that is written.
        create: make a new object as the server wants it (status, phase), after ``default``.
        update: the same for (new, old).
        check: add what is wrong with an object.
        check_update: add what may not change, for (new, old).
        check_name: add what is wrong with a name; it is a DNS subdomain, unless said otherwise.
        counts_generation: the server counts the changes of ``spec``.
    """

    default: Callable[[JsonObject], None] = _nothing
    create: Callable[[JsonObject], None] = _nothing
    update: Callable[[JsonObject, JsonObject], None] = _nothing_to
    check: Callable[[JsonObject, Causes], None] = _no_check
    check_update: Callable[[JsonObject, JsonObject, Causes], None] = _no_update_check
    check_name: Callable[[str, str, Causes], None] = check_subdomain
    counts_generation: bool = False
