"""Amounts of what pods ask for and nodes have, as whole numbers.

Processors in thousandths, everything else in bytes or pieces; rounded up, as the kubelet does.

https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
"""

import math
from collections.abc import Iterable, Mapping

from fedge_edged.pods import Container, Pod
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
    value = parse_quantity(quantity)
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


def requests_of(container: Container) -> dict[str, int]:
    """Return what a container asks for; where it only sets a limit, that."""
    resources = container.resources
    return amounts_of({**resources.limits, **resources.requests})


def pod_requests(pod: Pod) -> dict[str, int]:
    """Return what a pod needs at its worst moment, its overhead included.

    An init container runs beside the sidecars that come before it, the containers proper run
    beside all sidecars: the greater of the two counts, resource by resource.
    https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers
    """
    sidecars: dict[str, int] = {}
    worst: dict[str, int] = {}
    for container in pod.spec.init_containers:
        asked = total([sidecars, requests_of(container)])
        if container.is_sidecar:
            sidecars = asked
        worst = _greater(worst, asked)
    mains = total([sidecars, *map(requests_of, pod.spec.containers)])
    return total([_greater(worst, mains), amounts_of(pod.spec.overhead)])


def _greater(one: Amounts, other: Amounts) -> dict[str, int]:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in one.keys() | other.keys()}


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
