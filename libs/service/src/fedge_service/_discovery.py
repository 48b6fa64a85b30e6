"""Services by their entry points, so that installing a package is all it takes to add one."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

from fedge_service._plugin import ServicePlugin

GROUP = "fedge.services"


class UnknownServiceError(LookupError):
    """A service that no installed package offers."""


def find_services() -> dict[str, EntryPoint]:
    """Return the installed services by name, without importing them.

    Raises:
        ValueError: two packages offer a service of one name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found and found[entry.name].value != entry.value:
            raise ValueError(
                f"two packages offer the service {entry.name!r}: {found[entry.name].value} and "
                f"{entry.value}; uninstall one of them"
            )
        found[entry.name] = entry
    return dict(sorted(found.items()))


def load_plugins(names: Sequence[str]) -> list[ServicePlugin]:
    """Import the services called ``names``, in that order.

    Raises:
        UnknownServiceError: one of them is not installed.
    """
    found = find_services()
    plugins: list[ServicePlugin] = []
    for name in dict.fromkeys(names):
        if name not in found:
            raise UnknownServiceError(
                f"there is no service {name!r}; installed are: {', '.join(found) or 'none'}"
            )
        plugins.append(found[name].load())
    return plugins
