"""Logs of one format everywhere: JSON lines, or coloured text on a terminal.

An event is a constant name with fields. Libraries' own records are passed through the same format.
Each line says which service it comes from and on which node, and, where it belongs to any, the ids
of the message, the trace and the span.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

import fedge_tracing as tracing

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a process's log comes from: its services, and the node; empty in the cloud."""

    services: Sequence[str] = ()
    node: str = ""

    def __call__(
        self, _: object, __: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """Add where an event comes from, and what it belongs to."""
        if self.services:
            event.setdefault("service", self._service(str(event.get("logger") or "")))
        if self.node:
            event.setdefault("node", self.node)
        for name, value in tracing.log_fields().items():
            event.setdefault(name, value)
        return event

    def _service(self, logger: str) -> str:
        """Return whose event it is: of several services in one process, the logger's name says."""
        if len(self.services) == 1:
            return self.services[0]
        own = logger.removeprefix("fedge.").partition(".")[0]
        return own if own in self.services else "edge"


_SHARED = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)

_NOISY = (
    "aiormq",
    "aio_pika",
    "faststream",
    "asyncio",
    "httpx",
    "httpcore",
    "uvicorn.access",
    "uvicorn.error",
)


def configure_logging(
    level: Level = "info", *, as_json: bool | None = None, origin: Origin = Origin()
) -> None:
    """Send all logs to standard error.

    Args:
        level: the least that is shown.
        as_json: JSON lines; by default unless standard error is a terminal.
        origin: what each line says of where it comes from.
    """
    if as_json is None:
        as_json = not sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            origin,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=(*_SHARED, origin),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)
