"""Amounts of what pods ask for and nodes have, as whole numbers.

Processors in thousandths, everything else in bytes or pieces; rounded up, as the kubelet does.

https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
"""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from fedge_edged.limits import pod_total
from fedge_edged.pods import Pod
from fedge_objects import parse_quantity

Amounts = Mapping[str, int]
"""By resource: ``cpu`` in thousandths of a processor, the others in bytes or pieces."""

Quantities = Mapping[str, str | int | float]

_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def amount(resource: str, quantity: str | float) -> int:
    """Return a quantity as a whole number.

    Raises:
        ValueError: it is no quantity.
    """
    return _whole(resource, parse_quantity(quantity))


def _whole(resource: str, value: Decimal) -> int:
    return math.ceil(value * 1000 if resource == "cpu" else value)


def amounts_of(quantities: Quantities) -> dict[str, int]:
    """Return quantities as whole numbers.

    Raises:
        ValueError: one of them is none.
    """
    return {name: amount(name, quantity) for name, quantity in quantities.items()}


def total(amounts: Iterable[Amounts]) -> dict[str, int]:
    """Return the sum of each resource."""
    found: dict[str, int] = {}
    for each in amounts:
        for name, value in each.items():
            found[name] = found.get(name, 0) + value
    return found


def pod_requests(pod: Pod) -> dict[str, int]:
    """Return what a pod needs at its worst moment, its overhead included."""
    asked: set[str] = {*pod.spec.overhead}
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        asked |= container.resources.requests.keys() | container.resources.limits.keys()
    return {name: _whole(name, pod_total(pod, name)) for name in asked}


def as_quantity(resource: str, value: int) -> str:
    """Return an amount as Kubernetes writes it: ``1900m``, ``3``, ``512Mi``."""
    if resource == "cpu":
        return f"{value}m" if value % 1000 else str(value // 1000)
    return as_binary(value)


def as_binary(value: int) -> str:
    """Return a number in the largest binary unit that shows it whole."""
    suffix = ""
    for unit in _BINARY:
        if value == 0 or value % 1024:
            break
        value, suffix = value // 1024, unit
    return f"{value}{suffix}"


def as_quantities(amounts: Amounts) -> dict[str, str]:
    """Return amounts as Kubernetes writes them."""
    return {name: as_quantity(name, value) for name, value in amounts.items()}
