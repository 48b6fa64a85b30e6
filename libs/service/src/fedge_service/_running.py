"""Services of one process, run side by side until a signal.

Each runs under its own supervisor: one that fails is started again and disturbs no other.
"""

import asyncio
import functools
import os
import platform
import signal
from collections.abc import Iterable, Sequence
from importlib.metadata import version

import structlog

import fedge_tracing as tracing
from fedge_service._discovery import load_plugins
from fedge_service._logging import Level, Origin, configure_logging
from fedge_service._plugin import ServicePlugin
from fedge_service._settings import EdgeSettings, ServiceSettings, TraceSettings, describe
from fedge_service._supervision import supervise

log = structlog.stdlib.get_logger("fedge.service")


def run_services(names: Sequence[str]) -> None:
    """Run the services called ``names`` in this process until SIGTERM or SIGINT.

    Raises:
        UnknownServiceError: one of them is not installed.
        pydantic.ValidationError: settings are missing or wrong; all of them are named.
    """
    level = os.environ.get("FEDGE_LOG_LEVEL", "info")
    configure_logging(_level(level))
    plugins = load_plugins(names)
    settings = {plugin.name: plugin.settings() for plugin in plugins}
    node = _node(settings.values())
    configure_logging(_level(level), origin=Origin(services=tuple(settings), node=node))
    traces = TraceSettings()
    tracing.configure(
        ratio=traces.ratio, per_second=traces.per_second, buffer=traces.buffer, node=node
    )
    with asyncio.Runner(loop_factory=_loop_factory(plugins)) as runner:
        runner.run(_serve(plugins, settings))


def _node(settings: Iterable[ServiceSettings]) -> str:
    """Return the node that these services serve; empty in the cloud."""
    edges = (getattr(each, "edge", None) for each in settings)
    return next((edge.node_name for edge in edges if isinstance(edge, EdgeSettings)), "")


def _level(text: str) -> Level:
    match text.lower():
        case "debug" | "info" | "warning" | "error" as level:
            return level
        case _:
            raise ValueError(f"FEDGE_LOG_LEVEL is {text!r}: use debug, info, warning or error")


def _loop_factory(plugins: Sequence[ServicePlugin]) -> "type[asyncio.AbstractEventLoop] | None":
    """Return uvloop in the cloud; at the edge the standard loop, which needs less memory."""
    if any(plugin.side == "edge" for plugin in plugins):
        return None
    import uvloop  # noqa: PLC0415 - the edge never loads it

    return uvloop.Loop


async def _serve(plugins: Sequence[ServicePlugin], settings: dict[str, ServiceSettings]) -> None:
    serving = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if serving is None:
        raise RuntimeError("no running task")
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, serving.cancel)
    pending = {plugin.name for plugin in plugins}

    def ready(name: str) -> None:
        if name in pending:
            pending.discard(name)
            log.info("ready", service=name)

    try:
        async with asyncio.TaskGroup() as tasks:
            for plugin in plugins:
                log.info(
                    "starting",
                    service=plugin.name,
                    fedge=version("fedge-service"),
                    python=platform.python_version(),
                    settings=describe(settings[plugin.name]),
                    traces=describe(TraceSettings()),
                )
                work = functools.partial(
                    plugin.run, settings[plugin.name], functools.partial(ready, plugin.name)
                )
                tasks.create_task(supervise(plugin.name, work), name=plugin.name)
    except asyncio.CancelledError:
        log.info("stopped", services=[plugin.name for plugin in plugins])
