"""The record by which a service makes itself known."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from fedge_service._settings import ServiceSettings

Ready = Callable[[], None]
"""Called once by a service, when it does what it is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlugin:
    """A service, found by the entry point group ``fedge.services``.

    Attributes:
        name: how it is called on the command line and in messages, e.g. ``hub``.
        side: where it runs.
        summary: one line for ``fedge run --help``.
        settings: what it reads from the environment; read once, before ``run``.
        run: serves until it is cancelled. It opens what it needs and closes it on the way out;
            whatever it had acknowledged is safe if it never gets that far.
    """

    name: str
    side: Literal["cloud", "edge"]
    summary: str
    settings: type[ServiceSettings]
    run: Callable[[Any, Ready], Awaitable[None]]
