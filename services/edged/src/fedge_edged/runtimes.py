"""Container runtimes as plugins: entry points of the group ``fedge.edged.runtimes``.

A plugin is a function that takes the settings and returns an asynchronous context manager of a
``fedge_cri.Runtime``.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points

from fedge_cri import Runtime
from fedge_edged.settings import EdgedSettings

GROUP = "fedge.edged.runtimes"

RuntimePlugin = Callable[[EdgedSettings], AbstractAsyncContextManager[Runtime]]


class UnknownRuntimeError(LookupError):
    """No installed package offers the runtime."""


def load_runtime(name: str) -> RuntimePlugin:
    """Return the plugin called ``name``.

    Raises:
        UnknownRuntimeError: there is none.
    """
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise UnknownRuntimeError(
            f"FEDGE_EDGED_RUNTIME is {name!r}; installed are: {', '.join(sorted(found))}"
        )
    plugin: RuntimePlugin = found[name].load()
    return plugin


def cri(settings: EdgedSettings) -> AbstractAsyncContextManager[Runtime]:
    """Return a runtime over the Container Runtime Interface."""
    from fedge_cri.client import CriRuntime  # noqa: PLC0415 - grpc is loaded only if it is used

    return CriRuntime.connected(settings.cri_socket)
