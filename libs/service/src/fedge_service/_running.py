"""Services of one process, run side by side until a signal.

Each runs under its own supervisor: one that fails is started again and disturbs no other. With
SIGHUP the process ends them in good order and begins anew in its own place, with the settings as
they are then.
"""

import asyncio
import contextlib
import functools
import os
import platform
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

import fedge_tracing as tracing
from fedge_service._discovery import load_plugins
from fedge_service._kept import KeptSettings
from fedge_service._logging import Level, Origin, configure_logging
from fedge_service._plugin import ServicePlugin
from fedge_service._settings import (
    EdgeSettings,
    HealthSettings,
    ServiceSettings,
    TraceSettings,
    above_environment,
    describe,
)
from fedge_service._supervision import supervise

if TYPE_CHECKING:
    from fedge_service._health import Health

log = structlog.stdlib.get_logger("fedge.service")

READY_SECONDS = 90.0
"""Within which all services are ready with settings that are tried out."""
STEADY_SECONDS = 5.0
"""And for how long none of them fails then."""


class Process:
    """What runs in this process; one at a time."""

    def __init__(self, plugins: Sequence[ServicePlugin], kept: KeptSettings | None) -> None:
        self.plugins = plugins
        self.kept = kept
        self.begins_anew = False

    @property
    def services(self) -> frozenset[str]:
        """Names of the services that run here."""
        return frozenset(plugin.name for plugin in self.plugins)

    def check(self, values: Mapping[str, str]) -> None:
        """See whether the services that run here would start with other settings.

        Args:
            values: variables that count before the environment's.

        Raises:
            ValueError: they would not; the text names the variables and what is wrong with them.
        """
        token = above_environment.set(values)
        try:
            _level(_log_level())
            for plugin in self.plugins:
                plugin.settings()
            TraceSettings()
            HealthSettings()
        except ValidationError as exc:
            wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in exc.errors()]
            raise ValueError("; ".join(wrong)) from exc
        finally:
            above_environment.reset(token)

    def begin_anew(self) -> None:
        """End the services in good order and begin anew, with the settings as they are then."""
        os.kill(os.getpid(), signal.SIGHUP)


_process: Process | None = None


def this_process() -> Process | None:
    """Return what `run_services` runs here; None where it does not."""
    return _process


def run_services(names: Sequence[str]) -> None:
    """Run the services called ``names`` in this process until SIGTERM or SIGINT.

    Raises:
        UnknownServiceError: one of them is not installed.
        pydantic.ValidationError: settings are missing or wrong; all of them are named.
    """
    configure_logging(_level(_log_level()))
    plugins = load_plugins(names)
    kept = None
    if any(plugin.side == "edge" for plugin in plugins):
        kept = KeptSettings.of(os.environ)
        above_environment.set(kept.begin())
    settings = _settings_of(plugins, kept)
    node = _node(settings.values())
    level = _level(_log_level())
    configure_logging(level, origin=Origin(services=tuple(settings), node=node))
    traces, probes = TraceSettings(), HealthSettings()
    tracing.configure(
        ratio=traces.ratio, per_second=traces.per_second, buffer=traces.buffer, node=node
    )
    global _process  # noqa: PLW0603 - there is one process
    _process = Process(plugins, kept)
    with asyncio.Runner(loop_factory=_loop_factory(plugins)) as runner:
        runner.run(_serve(_process, settings, probes))
    if _process.begins_anew:
        log.info("beginning_anew", services=sorted(settings))
        # the same command in the same environment, and for whoever started it the same process
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _settings_of(
    plugins: Sequence[ServicePlugin], kept: KeptSettings | None
) -> dict[str, ServiceSettings]:
    """Read all settings; those that are tried out and cannot be read are taken back."""
    try:
        return {plugin.name: plugin.settings() for plugin in plugins}
    except ValidationError as exc:
        if kept is None or kept.trial is None:
            raise
        kept.take_back(f"the services do not take them: {exc}")
        above_environment.set(kept.values)
        return {plugin.name: plugin.settings() for plugin in plugins}


def _log_level() -> str:
    name = "FEDGE_LOG_LEVEL"
    return above_environment.get().get(name) or os.environ.get(name, "info")


def _tell_supervisor() -> None:
    """Write a line to the descriptor that ``FEDGE_SERVICE_READY_FD`` names, if it names one.

    So a supervisor knows that all services are ready
    (https://skarnet.org/software/s6/notifywhenup.html).
    """
    descriptor = os.environ.pop("FEDGE_SERVICE_READY_FD", "")
    if descriptor:
        with open(int(descriptor), "wb") as file:  # noqa: PTH123 - no path: it was handed down
            file.write(b"\n")


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


async def _serve(
    process: Process, settings: dict[str, ServiceSettings], probes: HealthSettings
) -> None:
    serving = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if serving is None:
        raise RuntimeError("no running task")

    def begin_anew() -> None:
        process.begins_anew = True
        serving.cancel()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, serving.cancel)
    loop.add_signal_handler(signal.SIGHUP, begin_anew)
    plugins = process.plugins
    pending = {plugin.name for plugin in plugins}
    all_ready = asyncio.Event()

    def ready(name: str) -> None:
        if name in pending:
            pending.discard(name)
            log.info("ready", service=name)
        if not pending:
            all_ready.set()
            _tell_supervisor()

    failures: list[str] = []
    try:
        async with _probed(process.services, probes) as health, asyncio.TaskGroup() as tasks:
            for plugin in plugins:
                log.info(
                    "starting",
                    service=plugin.name,
                    fedge=version("fedge-service"),
                    python=platform.python_version(),
                    settings=describe(settings[plugin.name]),
                    traces=describe(TraceSettings()),
                )
                now_ready, failed = _told(health, plugin.name, ready, failures.append)
                work = functools.partial(plugin.run, settings[plugin.name], now_ready)
                supervised = supervise(plugin.name, work, failed=failed)
                tasks.create_task(supervised, name=plugin.name)
            if process.kept is not None and process.kept.trial is not None:
                trying = _try_out(process, all_ready, pending, failures)
                tasks.create_task(trying, name="try settings")
    except asyncio.CancelledError:
        log.info("stopped", services=[plugin.name for plugin in plugins])


@contextlib.asynccontextmanager
async def _probed(
    services: frozenset[str], probes: HealthSettings
) -> "AsyncIterator[Health | None]":
    """Serve how the services are, where that is wished."""
    if not probes.port:
        yield None
        return
    from fedge_service._health import Health  # noqa: PLC0415 - the edge has another way

    health = Health(services)
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(health.served(probes))
        except OSError as exc:
            sys.exit(f"fedge: {exc}")
        yield health


def _told(
    health: "Health | None",
    name: str,
    ready: Callable[[str], None],
    failed: Callable[[str], None],
) -> tuple[Callable[[], None], Callable[[str], None]]:
    """Return what a service calls when it is ready, and what is called when it failed."""

    def now_ready() -> None:
        if health is not None:
            health.ready(name)
        ready(name)

    def has_failed(reason: str) -> None:
        if health is not None:
            health.failed(name)
        failed(reason)

    return now_ready, has_failed


async def _try_out(
    process: Process, all_ready: asyncio.Event, pending: set[str], failures: list[str]
) -> None:
    """See whether the services come to be ready with new settings and stay so; else begin anew."""
    if process.kept is None:
        return
    try:
        async with asyncio.timeout(READY_SECONDS):
            await all_ready.wait()
    except TimeoutError:
        reason = f"{', '.join(sorted(pending))} not ready within {READY_SECONDS:g} s"
    else:
        failed_before = len(failures)
        await asyncio.sleep(STEADY_SECONDS)
        if len(failures) == failed_before:
            process.kept.keep()
            return
        reason = f"failed soon after the start: {failures[-1]}"
    process.kept.take_back(f"{reason}" + (f"; last failure: {failures[-1]}" if failures else ""))
    process.begin_anew()
